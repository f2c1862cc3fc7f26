"""Data that others have split: the rows, histories, candidates and tested events are those of RecBole's own loader."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from conftest import write_dataset

from recbole_llm_interest.content.interaction_files import RecordedHistories, interaction_files, read_interaction_tokens
from recbole_llm_interest.data.benchmark_splits import EventTable, listed_histories, plain_events
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.training.comparison import run
from recbole_llm_interest.training.config import configure
from recbole_llm_interest.training.run_metadata import data_digests

PARTS = ["train", "valid", "test"]
L = 6  # MAX_ITEM_LIST_LENGTH of the settings


@pytest.fixture
def sequences():
    """By user, items and times in chronological order."""
    draw = random.Random(3)
    return {
        f"u{n}": [(f"i{draw.randrange(12)}", 1.6e9 + 100 * n + 7 * step) for step in range(draw.randint(4, 9))]
        for n in range(20)
    }


def write_lists(folder: Path, name: str, rows: dict[str, list], with_times: bool = True) -> None:
    """``rows`` by part: user, items and times of which the last are the row's own."""
    folder = folder / name
    folder.mkdir(parents=True)
    header = "user_id:token\titem_id_list:token_seq\titem_id:token"
    for part, of_part in rows.items():
        lines = [header + ("\ttimestamp_list:float_seq\ttimestamp:float" if with_times else "")]
        for user, events in of_part:
            items, times = zip(*events, strict=True)
            times = map(repr, times)
            *before, own = times
            line = [user, " ".join(items[:-1]), items[-1], *([" ".join(before), own] if with_times else [])]
            lines.append("\t".join(line))
        (folder / f"{name}.{part}.inter").write_text("\n".join(lines) + "\n")


@pytest.fixture
def listed(here, sequences):
    """Rows with their histories: every prefix in training, the longest first, as some published files have them."""
    rows = {part: [] for part in PARTS}
    for user, events in sequences.items():
        rows["test"].append((user, events[-L - 1 :]))
        rows["valid"].append((user, events[:-1][-L - 1 :]))
        rows["train"] += [(user, events[:n][-L - 1 :]) for n in range(len(events) - 2, 1, -1)]
    write_lists(here / "data", "listed", rows)
    return rows


@pytest.fixture
def plain(here, sequences):
    """Single events, split at random: some of a user's later events are in earlier parts."""
    draw = random.Random(5)
    events = [(user, item, time) for user, of_user in sequences.items() for item, time in of_user]
    draw.shuffle(events)
    split = {"train": events[:90], "valid": events[90:105], "test": [*events[105:], ("newcomer", "i3", 1.0)]}
    for part, of_part in split.items():
        write_dataset(here / part, "plain", of_part)
        (here / "data" / "plain").mkdir(parents=True, exist_ok=True)
        (here / part / "plain" / "plain.inter").rename(here / "data" / "plain" / f"plain.{part}.inter")
    return split


def rows_of(data, loader):
    """User, item and history of each row of an evaluation loader, as tokens."""
    for interaction, *_ in loader:
        for user, item, items, length in zip(
            *(interaction[field] for field in ("user_id", "item_id", "item_id_list", "item_length")), strict=True
        ):
            history = [str(data.field2id_token["item_id"][row]) for row in items[:length]]
            yield data.id2token("user_id", user), data.id2token("item_id", item), history


@pytest.mark.parametrize("part", ["valid", "test"])
def test_listed_rows_are_those_of_recboles_loader(built, listed, part):
    ours, theirs = (
        list(rows_of(data, {"valid": valid, "test": test}[part]))
        for _, _, data, _, valid, test in (
            built(model, "listed", benchmark_filename=PARTS) for model in ("LLMInterest", "SASRec")
        )
    )
    assert ours == theirs
    assert ours == [(user, events[-1][0], [item for item, _ in events[:-1]]) for user, events in listed[part]]


def targets_of(data, loader):
    """User, next item and inputs up to it, of each training target."""
    for batch in loader:
        for user, items, following in zip(
            *(batch[f].tolist() for f in ("user_id", "item_id_list", "next_item_id_list")), strict=True
        ):
            for place, target in enumerate(following):
                if target:
                    yield user, target, tuple(items[: place + 1])


def test_each_listed_training_row_is_one_target_with_its_history(built, listed):
    _, _, data, train, *_ = built("LLMInterest", "listed", benchmark_filename=PARTS)
    user_id, item_id = data.field2token_id["user_id"], data.field2token_id["item_id"]
    rows = [(user_id[user], [item_id[item] for item, _ in events]) for user, events in listed["train"]]
    found = sorted(targets_of(data, train))
    assert sorted((user, target) for user, target, _ in found) == sorted((user, items[-1]) for user, items in rows)
    for user, target, inputs in found:  # a window may cut a history at its beginning
        assert any(user == row and target == items[-1] and inputs == tuple(items[:-1])[-len(inputs) :]
                   for row, items in rows)  # fmt: skip


def test_plain_rows_have_the_users_earlier_events_of_this_part_and_of_those_before(built, plain):
    _, _, data, train, valid, test = built("LLMInterest", "plain", benchmark_filename=PARTS)
    numbered = [(user, item, time, part) for part, name in enumerate(PARTS) for user, item, time in plain[name]]
    for part, loader in ((1, valid), (2, test)):
        expected = []
        for user, item, time, of_part in numbered:
            if of_part == part:
                before = sorted((t, i) for u, i, t, p in numbered if u == user and p <= part and t < time)
                expected.append((user, item, [i for _, i in before][-L:] or ["[PAD]"]))
        assert sorted(rows_of(data, loader)) == sorted(expected)
    chains = {user: [item for _, item in sorted((t, i) for u, i, t in plain["train"] if u == user)]
              for user in {user for user, *_ in plain["train"]}}  # fmt: skip
    expected = [(user, item) for user, items in chains.items() for item in items[1:]]
    names = data.field2id_token
    found = [(names["user_id"][user], names["item_id"][target]) for user, target, _ in targets_of(data, train)]
    assert sorted(found) == sorted(expected)


@pytest.mark.slow
def test_tested_events_and_candidates_are_those_of_recboles_models(listed, plain, settings):
    settings = settings | {"benchmark_filename": PARTS, "epochs": 1, "modalities": []}
    for name, models in (("listed", ["LLMInterest", "SASRec", "GRU4Rec", "Pop"]), ("plain", ["LLMInterest", "Pop"])):
        results = run(models, name, config_dict=settings)
        assert {result.test_events for result in results} == {len({"listed": listed, "plain": plain}[name]["test"])}
        assert len({(result.test_digest, result.candidates) for result in results}) == 1
    assert results[0].candidates == "all 12 items, those seen before kept and filtered"


@pytest.mark.slow
def test_checkpoint_of_split_data_serves_and_its_parts_are_hashed(listed, settings):
    from recbole_llm_interest.recommender import Recommender

    settings = settings | {"benchmark_filename": PARTS, "epochs": 1, "modalities": [], "time_features": ["gap", "hour"]}
    (result,) = run(["LLMInterest"], "listed", config_dict=settings)
    (again,) = run(["LLMInterest"], "listed", config_dict=settings, checkpoint=result.checkpoint)
    assert again.test == result.test
    recommender = Recommender.load(result.checkpoint, data_path=settings["data_path"])
    user, events = listed["test"][0]
    assert repr(recommender.start(user, history="recorded")).endswith(f"events={len(events)})")
    config = configure("LLMInterest", "listed", overrides=settings)
    assert {f"listed.{part}.inter" for part in PARTS} <= data_digests(config, None).keys()


def test_all_parts_are_read_for_live_use_and_encoding(listed, plain, settings):
    split = settings | {"benchmark_filename": PARTS}
    config = configure("LLMInterest", "plain", overrides=split)
    everything = [event for part in PARTS for event in plain[part]]
    assert set(read_interaction_tokens(config, "item")) == {item for _, item, _ in everything}
    assert set(read_interaction_tokens(config, "user")) == {user for user, *_ in everything}
    (items, times), nothing = RecordedHistories(config)(["u0", "stranger"])
    expected = sorted((time, item) for user, item, time in everything if user == "u0")
    assert (items, times, nothing) == ([item for _, item in expected], [time for time, _ in expected], ([], []))
    config = configure("LLMInterest", "listed", overrides=split)
    assert set(read_interaction_tokens(config, "item")) == {
        item for rows in listed.values() for _, events in rows for item, _ in events
    }
    user, events = listed["test"][4]
    assert RecordedHistories(config)([user]) == [([item for item, _ in events], [time for _, time in events])]


def test_lists_without_times_need_none_unless_time_features_do(built, here):
    rows = {part: [("u1", [("a", 1.0), ("b", 2.0), ("c", 3.0)]), ("u2", [("c", 1.0), ("a", 2.0)])] for part in PARTS}
    write_lists(here / "data", "timeless", rows, with_times=False)
    split = {"benchmark_filename": PARTS, "topk": [2], "valid_metric": "NDCG@2"}
    _, _, data, _, _, test = built("LLMInterest", "timeless", **split)
    assert list(rows_of(data, test)) == [("u1", "c", ["a", "b"]), ("u2", "a", ["c"])]
    with pytest.raises(DataError, match="time_features needs a timestamp for each event"):
        built("LLMInterest", "timeless", **split, time_features=["gap"])
    config = configure("LLMInterest", "timeless", overrides={**split, "data_path": str(here / "data")})
    items, times = RecordedHistories(config)(["u1"])[0]
    assert (items, np.isnan(times).all()) == (["a", "b", "c"], True)


@pytest.mark.parametrize("parts", ["train", ["train", "test"], ["train", "valid", "../test"], ["train", "valid", 3], 7])
def test_other_than_three_names_of_parts_is_an_error(listed, settings, parts):
    with pytest.raises(SettingsError, match="has to name three parts, such as"):
        configure("LLMInterest", "listed", overrides=settings | {"benchmark_filename": parts})


def test_file_of_two_parts_is_read_once(plain, settings, built):
    parts = ["train", "test", "test"]
    config = configure("LLMInterest", "plain", overrides=settings | {"benchmark_filename": parts})
    assert [path.name for path in interaction_files(config)] == ["plain.train.inter", "plain.test.inter"]
    _, _, data, _, valid, test = built("LLMInterest", "plain", benchmark_filename=parts)
    assert list(rows_of(data, valid)) == list(rows_of(data, test))


def test_missing_part_is_named(listed, settings, here):
    (here / "data" / "listed" / "listed.valid.inter").unlink()
    with pytest.raises(DataError, match=r"listed\.valid\.inter does not exist"):
        configure("SASRec", "listed", overrides=settings | {"benchmark_filename": PARTS})


def test_column_that_load_col_leaves_out_is_named(listed, settings):
    columns = {"load_col": {"inter": ["user_id", "item_id"]}, "benchmark_filename": PARTS}
    with pytest.raises(DataError, match=r"load_col or unload_col leaves out 'item_id_list' of .*listed.train.inter"):
        configure("LLMInterest", "listed", overrides=settings | columns)
    with pytest.raises(DataError, match=r"load_col or unload_col leaves out 'timestamp' of .*cycle.inter"):
        configure("LLMInterest", "cycle", overrides=settings | {"load_col": {"inter": ["user_id", "item_id"]}})


def test_event_table_shares_the_events_of_rows_that_continue_each_other():
    """Cut lists, in any order, of two users; and a second sequence of the first one."""
    rows = [(1, [3, 4, 5]), (1, [1, 2]), (2, [1, 2]), (1, [1, 2, 3]), (1, [2, 3, 4]), (1, [8, 9])]
    users = np.array([user for user, _ in rows])
    table = listed_histories(users, [np.array(items) for _, items in rows], None, first_row=10)
    for number, (user, items) in enumerate(rows):
        events = slice(table.start[number], table.end[number] + 1)
        assert table.items[events].tolist() == items
        assert set(table.users[events]) == {user}
    assert table.rows.tolist() == list(range(10, 16))
    both = EventTable.joined([table, table])
    assert both.items[both.start[6] : both.end[6] + 1].tolist() == rows[0][1]
    assert both.groups.max() == 2 * table.groups.max()


def test_cut_lists_in_any_order_share_their_events_if_they_have_times():
    sequence = np.arange(1, 13)
    windows = [sequence[max(0, n - 3) : n + 1] for n in range(1, 12)]
    random.Random(2).shuffle(windows)
    table = listed_histories(np.ones(len(windows), dtype=int), windows, [window * 10.0 for window in windows])
    assert table.items.tolist() == sequence.tolist()
    assert [table.items[start : end + 1].tolist() for start, end in zip(table.start, table.end, strict=True)] == [
        window.tolist() for window in windows
    ]


def test_whole_sequences_are_trained_on_at_every_position(built, here):
    rows = {part: [(f"u{n}", [(item, 0.0) for item in "abcd"]) for n in range(3)] for part in PARTS}
    write_lists(here / "data", "whole", rows, with_times=False)
    _, _, data, train, *_ = built("LLMInterest", "whole", benchmark_filename=PARTS)
    number = data.field2token_id["item_id"]
    expected = [tuple(number[item] for item in "abcd"[:n]) for n in (1, 2, 3)] * 3
    assert sorted(inputs for _, _, inputs in targets_of(data, train)) == sorted(expected)
    assert data.item_counts[number["a"]] == 3


def test_events_of_the_same_time_are_in_the_order_of_the_files():
    same = np.zeros(4)
    tables = list(plain_events(np.ones(4, dtype=int), np.array([4, 3, 2, 1]), same, [2, 1, 1], PARTS))
    assert [table.items[: table.end[-1] + 1].tolist() for table in tables] == [[4, 3], [4, 3, 2], [4, 3, 2, 1]]
