"""The data set equals RecBole's own, and training covers every target exactly once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SUBJECTS, cycle_events, write_dataset
from recbole.data.dataset import Dataset

from recbole_llm_interest.data.dataloader import cut_windows
from recbole_llm_interest.errors import DataError, SettingsError


@pytest.mark.slow
@pytest.mark.parametrize("length", [6, 50])
@pytest.mark.parametrize("dataset", ["cycle", "ml-100k"])
def test_splits_and_histories_equal_stock_recbole(built, dataset, length):
    """The same rows as in RecBole's own sequential data set, on real data, too."""
    overrides = {"MAX_ITEM_LIST_LENGTH": length, "dataset": dataset}
    _, _, _, _, *ours = built("LLMInterest", **overrides)
    _, _, _, _, *stock = built("GRU4Rec", **overrides)
    for our_data, stock_data in zip(ours, stock, strict=True):
        our_rows, stock_rows = next(iter(our_data))[0], next(iter(stock_data))[0]
        for field in ("user_id", "item_id", "item_length"):
            assert torch.equal(our_rows[field], stock_rows[field]), field
        width = our_rows["item_id_list"].shape[1]
        assert torch.equal(our_rows["item_id_list"], stock_rows["item_id_list"][:, :width])
        assert not stock_rows["item_id_list"][:, width:].any()


@pytest.mark.parametrize("mode", ["valid_and_test", "valid_only", "test_only"])
def test_leave_one_out_equals_stock_recbole(built, here, mode):
    """Users with histories of several lengths, whose events alternate in time."""
    events = [
        (f"u{u}", f"i{(3 * u + step) % 11}", float(17 * step + 5 * u)) for u in range(12) for step in range(1 + u % 5)
    ]
    write_dataset(here / "data", "mixed", events)
    split = {"split": {"LS": mode}, "order": "TO", "group_by": "user", "mode": "full"}
    _, _, data, *_ = built("LLMInterest", "mixed", eval_args={**split, "split": {"LS": "valid_and_test"}})
    ours, stock = data.leave_one_out("user_id", mode), Dataset.leave_one_out(data, "user_id", mode)
    assert [len(part) for part in ours] == [len(part) for part in stock]
    for part, stock_part in zip(ours, stock, strict=True):
        for field in part.inter_feat:
            assert torch.equal(part.inter_feat[field], stock_part.inter_feat[field]), field
    assert min(len(ours[0]), len(ours[1]) + len(ours[2])) > 0


def test_unknown_leave_one_out_mode_is_an_error(built):
    with pytest.raises(SettingsError, match="LS: valid_and_tset"):
        built(eval_args={"split": {"LS": "valid_and_tset"}, "order": "TO", "group_by": "user", "mode": "full"})


@pytest.mark.parametrize("index", [[2, 0, 5], np.array([2, 0, 5]), torch.tensor([2, 0, 5]), slice(1, 4), "mask"])
def test_indexing_equals_stock_recbole(built, index):
    _, _, _, _, valid, _ = built()
    data = valid._dataset
    if isinstance(index, str):
        index = np.arange(len(data)) % 3 == 0
    ours, stock = data[index], data.inter_feat[index]
    for field in stock:
        assert torch.equal(ours[field], stock[field]), field
    assert set(ours) - set(stock) == {"item_id_list", "item_length"}  # and no content of items and users


@pytest.mark.parametrize("length", [3, 6, 50])
def test_training_targets_equal_those_of_stock_recbole(built, length):
    _, _, _, ours, *_ = built("LLMInterest", MAX_ITEM_LIST_LENGTH=length)
    _, _, _, stock, *_ = built("GRU4Rec", MAX_ITEM_LIST_LENGTH=length)
    expected = sorted(zip(*(stock._dataset.inter_feat[f].tolist() for f in ("user_id", "item_id")), strict=True))
    seen = []
    for batch in ours:
        for user, targets in zip(batch["user_id"].tolist(), batch["next_item_id_list"].tolist(), strict=True):
            seen += [(user, target) for target in targets if target]
    assert sorted(seen) == expected


def test_times_of_events_are_those_of_the_file_in_double_precision(built, here):
    """RecBole rounds these times to 128 s, and scales them if it is told to normalize."""
    events = [(f"u{n % 3}", f"i{n % 7}", 1.7e9 + 1.25 * n) for n in range(30)]
    write_dataset(here / "data", "close", events)
    _, _, data, _, valid, test = built("LLMInterest", "close", normalize_all=True, modalities=[])
    in_order = sorted(events, key=lambda event: (int(event[0][1:]), event[2]))
    assert data.event_times.tolist() == [time for _, _, time in in_order]
    for part, back in ((test, 1), (valid, 2)):
        rows = part._dataset.inter_feat
        for user, end in zip(rows["user_id"].tolist(), rows["history_end"].tolist(), strict=True):
            name = data.id2token("user_id", user)
            assert data.event_times[end].item() == [event[2] for event in in_order if event[0] == name][-back]
    assert "exact_time" not in data.field2type


def test_inputs_precede_their_targets(built):
    _, _, data, train, *_ = built("LLMInterest")
    id_of = data.field2token_id["item_id"]
    after = {id_of[f"i{n}"]: id_of[f"i{(n + 1) % len(SUBJECTS)}"] for n in range(len(SUBJECTS))}
    for batch in train:
        inside = batch["next_item_id_list"] > 0
        assert torch.equal(inside, batch["item_id_list"] > 0)
        assert torch.equal(inside.sum(1), batch["item_length"])
        for item, following in zip(batch["item_id_list"][inside], batch["next_item_id_list"][inside], strict=True):
            assert after[int(item)] == int(following)


def test_training_has_no_held_out_event(built, settings):
    """Each user's last two items are not elsewhere in its history, so they must not be in training."""
    events = [(f"u{u}", f"i{u}-{step}", float(step)) for u in range(12) for step in range(8)]
    write_dataset(Path(settings["data_path"]), "unique", events)
    _, _, data, train, *_ = built("LLMInterest", "unique")
    trained = {
        int(item) for batch in train for f in ("item_id_list", "next_item_id_list") for item in batch[f].view(-1)
    }
    tokens = {data.id2token("item_id", item) for item in trained - {0}}
    assert tokens == {f"i{u}-{step}" for u in range(12) for step in range(6)}


@pytest.mark.parametrize("max_length", [1, 4, 7, 100])
def test_windows_cover_each_target_of_a_user_once(max_length):
    user = torch.tensor([1] * 10 + [2] * 3 + [3])
    target = torch.cat([torch.arange(1, 11), torch.arange(13, 16), torch.tensor([20])])
    order = torch.randperm(len(user), generator=torch.Generator().manual_seed(0))
    window_user, start, end = cut_windows(user[order], target[order], max_length)
    covered = [(int(u), t + 1) for u, s, e in zip(window_user, start, end, strict=True) for t in range(int(s), int(e))]
    assert sorted(covered) == sorted(zip(user.tolist(), target.tolist(), strict=True))
    assert int((end - start).max()) <= max_length
    newest = end == torch.tensor([10, 15, 20])[window_user - 1]
    assert torch.equal((end - start)[newest], torch.tensor([10, 3, 1]).clamp(max=max_length))


def test_batches_hold_about_train_batch_size_targets(built):
    _, _, _, train, *_ = built("LLMInterest", train_batch_size=20)
    targets = [int((batch["next_item_id_list"] > 0).sum()) for batch in train]
    assert len(targets) == len(train) == -(-sum(targets) // 20)
    assert max(targets) <= 20 + 6


def test_epochs_are_shuffled_and_reproducible_by_seed(built):
    def epochs(seed):
        _, _, _, train, *_ = built("LLMInterest", seed=seed)
        return [[batch["user_id"].tolist() for batch in train] for _ in range(2)]

    first, again, other = epochs(1), epochs(1), epochs(2)
    assert first == again
    assert first[0] != first[1]
    assert first != other


def test_content_is_aligned_by_token_in_any_order_of_rows(built, settings, here):
    titles = {f"i{n}": f"A film about {subject}" for n, subject in enumerate(SUBJECTS)}
    write_dataset(here / "data", "shuffled", cycle_events(), dict(reversed(titles.items())))
    _, _, straight, *_ = built("LLMInterest")
    _, _, turned, *_ = built("LLMInterest", "shuffled")
    assert straight.field2token_id["item_id"] == turned.field2token_id["item_id"]
    assert torch.allclose(straight.item_content["text"].values, turned.item_content["text"].values, atol=1e-5)


def test_item_without_content_is_reported_and_masked(built, here, caplog):
    titles = {f"i{n}": subject for n, subject in enumerate(SUBJECTS) if n != 3} | {"i5": ""}
    write_dataset(here / "data", "holes", cycle_events(), titles)
    _, _, data, *_ = built("LLMInterest", "holes", filter_inter_by_user_or_item=False)
    assert "2 of 8 items have no text ('i3', 'i5')" in caplog.text
    missing = [data.field2token_id["item_id"][token] for token in ("i3", "i5")]
    assert (~data.item_content["text"].present).nonzero().view(-1).tolist() == sorted([0, *missing])


def test_item_without_content_is_an_error_with_strict_content(built, here):
    write_dataset(here / "data", "holes", cycle_events(), {"i0": "space"})
    with pytest.raises(DataError, match="7 of 8 items have no text"):
        built("LLMInterest", "holes", filter_inter_by_user_or_item=False, strict_content=True)


def test_missing_content_is_reported_and_is_an_error_with_strict_content(built, here, caplog):
    write_dataset(here / "data", "bare", cycle_events())
    built("LLMInterest", "bare")
    assert "8 of 8 items have no text" in caplog.text
    assert "users" not in caplog.text  # user content is optional
    with pytest.raises(DataError, match="8 of 8 items have no text"):
        built("LLMInterest", "bare", strict_content=True)


def test_field_separator_applies_to_content(built, here):
    write_dataset(here / "data", "commas", cycle_events(), {f"i{n}": subject for n, subject in enumerate(SUBJECTS)})
    for path in (here / "data" / "commas").iterdir():
        path.write_text(path.read_text().replace("\t", ","))
    _, _, data, *_ = built("LLMInterest", "commas", field_separator=",")
    assert data.item_content["text"].present.sum() == 8


def test_data_without_content_trains_on_ids(built, here):
    write_dataset(here / "data", "bare", cycle_events())
    _, model, *_ = built("LLMInterest", "bare")
    assert model.item_encoder.modalities == ["id"]
    assert model.user_encoder is None
    with pytest.raises(DataError, match="the items have no content and use_item_id is off"):
        built("LLMInterest", "bare", use_item_id=False)


def test_user_with_one_event_is_ignored_with_a_warning(built, here, caplog):
    write_dataset(here / "data", "lonely", [*cycle_events(), ("hermit", "i0", 1.0)])
    _, _, data, train, *_ = built("LLMInterest", "lonely")
    assert "1 users have only one event" in caplog.text
    hermit = data.field2token_id["user_id"]["hermit"]
    assert all(hermit not in batch["user_id"] for batch in train)


def test_interactions_without_timestamps_are_an_error(built, here):
    write_dataset(here / "data", "timeless", cycle_events())
    path = here / "data" / "timeless" / "timeless.inter"
    path.write_text("\n".join("\t".join(line.split("\t")[:2]) for line in path.read_text().splitlines()))
    with pytest.raises(DataError, match="no column 'timestamp'"):
        built("LLMInterest", "timeless")


def test_content_with_other_ids_is_an_error_that_names_both(built, settings):
    """Such as ids with another prefix: every item would be without content."""
    content = Path(settings["data_path"]) / "cycle" / "content"
    content.mkdir()
    (content / "items.jsonl").write_text("".join(f'{{"item_id": "x{n}", "title": "film {n}"}}\n' for n in range(8)))
    with pytest.raises(DataError, match=r"of 8 items \('x0', .*none of which is among the 8 .*'i0', .*by item_id"):
        built("LLMInterest")
    assert built("LLMInterest", modalities=[])
