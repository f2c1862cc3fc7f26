"""Training from a trained model's weights: what is kept, what is new, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import SUBJECTS, write_dataset
from PIL import Image
from recbole.config import Config
from recbole.data import create_dataset, data_preparation

from recbole_llm_interest.data.dataloader import HistoryDataLoader
from recbole_llm_interest.errors import CheckpointError, DataError, LLMInterestError, SettingsError
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint
from recbole_llm_interest.io.checkpoints.writing import write_state
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.recommender.loading import load_trained
from recbole_llm_interest.training.comparison import run
from recbole_llm_interest.training.trainer import LLMInterestTrainer
from recbole_llm_interest.training.warm_start.source import Source
from recbole_llm_interest.training.warm_start.starting import begin, record_training, source_named_by

#: training ends before the newest events, so that what is newer in the next data set is new
SPLIT = {"time_split": [0.8, 0.9]}
WEEKS = {"text_encoder": "hashing", "id_min_events": 3, "dropout_prob": 0.0, "modality_dropout": 0.0}


def walk(users, items, steps, start=0):
    """Users walk the items round and round, all at the same pace."""
    return [
        (f"u{user}", f"i{items[(user + step) % len(items)]}", float(100 * step + user))
        for step in range(start, start + steps)
        for user in users
    ]


def titles(items):
    return {f"i{n}": f"A film about {SUBJECTS[n % 8]}, part {n}" for n in items}


@pytest.fixture
def weeks(here, settings):
    """Two data sets: the second has all events of the first but those of item 5, new users, and the new item 6."""
    first = walk(range(12), [0, 1, 2, 3, 4, 5], 8)
    write_dataset(here / "data", "week1", first, titles(range(6)))
    later = walk(range(20), [0, 1, 2, 3, 4, 6], 8, start=8)
    kept = [event for event in first if event[1] != "i5"]
    write_dataset(here / "data", "week2", [*kept, *later], titles([0, 1, 2, 3, 4, 6, 7]))
    return {**settings, **WEEKS, "epochs": 3}


def trained(weeks, dataset="week1", **chosen):
    (result,) = run(["LLMInterest"], dataset, config_dict={**weeks, **chosen})
    return result


def built_from(built, weeks, checkpoint, dataset="week2", **chosen):
    """A trainer on a data set that has begun with a checkpoint's weights."""
    from recbole.utils import get_trainer

    config, model, _, train, *_ = built("LLMInterest", dataset, **weeks, init_from=checkpoint, **chosen)
    trainer = get_trainer(config["MODEL_TYPE"], "LLMInterest")(config, model)
    record_training(config, train._dataset)
    begin(trainer, source_named_by(config), train._dataset)
    return trainer, train._dataset


# --- weights


def test_without_an_epoch_the_model_is_the_former_one(weeks):
    former = trained(weeks)
    again = trained(weeks, init_from=former.checkpoint, epochs=0)
    assert again.ranks == former.ranks
    assert again.test == former.test


def test_items_keep_their_representations_in_another_order_and_company(weeks, built):
    former = trained(weeks)
    trainer, dataset = built_from(built, weeks, former.checkpoint)
    before = load_trained(Path(former.checkpoint), {})
    row_of = {item: row for row, item in enumerate(Source.read(former.checkpoint).items)}
    with torch.no_grad():
        old, new = before.model.item_encoder.eval()(), trainer.model.eval().item_encoder()
    tokens = dataset.field2id_token["item_id"].tolist()
    matched = [item for item in tokens[1:] if item in row_of]
    assert sorted(matched) == ["i0", "i1", "i2", "i3", "i4"]
    for item in matched:
        torch.testing.assert_close(new[tokens.index(item)], old[row_of[item]])


def test_ids_of_new_items_start_as_the_mean_of_their_nearest_neighbours(weeks, built):
    former = trained(weeks, content_neighbours=3)
    trainer, dataset = built_from(built, weeks, former.checkpoint, content_neighbours=3)
    encoder, tokens = trainer.model.item_encoder, dataset.field2id_token["item_id"].tolist()
    ids, new = encoder.id_embedding.weight, tokens.index("i6")
    near = [int(row) for row in encoder.neighbours_of(torch.tensor([new])).flatten() if row]
    trained_ids = torch.stack([ids[row] for row in near if tokens[row] not in ("i6", "i7")])
    torch.testing.assert_close(ids[new], trained_ids.mean(dim=0))
    assert not encoder.get_buffer("present")[new, -1].logical_not()


def test_the_optimizer_goes_on(weeks, built):
    former = trained(weeks)
    trainer, dataset = built_from(built, weeks, former.checkpoint)
    tokens = dataset.field2id_token["item_id"].tolist()
    source = Source.read(former.checkpoint)
    saved = source.optimizer["state"]
    state = trainer.optimizer.state
    ids = state[trainer.model.item_encoder.id_embedding.weight]
    former_ids = next(one["exp_avg"] for one in saved.values() if len(one["exp_avg"]) == len(source.items))
    assert former_ids.abs().sum() > 0
    for item in ("i0", "i3"):
        torch.testing.assert_close(ids["exp_avg"][tokens.index(item)], former_ids[source.items.index(item)])
    assert not ids["exp_avg"][tokens.index("i6")].any()
    output = state[trainer.model.tracker.output.weight]
    assert any(torch.equal(output["exp_avg"], one["exp_avg"]) for one in saved.values())
    assert float(output["step"]) == float(next(iter(saved.values()))["step"])
    assert trainer.optimizer.param_groups[0]["lr"] == trainer.config["learning_rate"]


def test_another_modality_and_a_profile_may_come_along(here, weeks, built):
    """A model of texts starts one of texts and images; what it knows of texts is kept."""
    former = trained(weeks)
    content = here / "data" / "week2" / "content"
    (content / "images").mkdir(parents=True)
    rows = []
    for number in (0, 1, 2, 6):
        Image.new("RGB", (8, 8), (30 * number, 0, 0)).save(content / "images" / f"{number}.png")
        rows.append({"item_id": f"i{number}", "title": f"film {number}", "image_file_name": f"images/{number}.png"})
    (content / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = {"modalities": ["text", "image"], "image_encoder": "color_hist"}
    trainer, _ = built_from(built, weeks, former.checkpoint, **chosen)
    encoder, weights = trainer.model.item_encoder, Source.read(former.checkpoint).weights
    assert encoder.modalities == ["image", "text", "id"]
    torch.testing.assert_close(encoder.missing[1:], weights["item_encoder.missing"])
    torch.testing.assert_close(encoder.combine.gate[1:], weights["item_encoder.combine.gate"])
    torch.testing.assert_close(trainer.model.history_bias.neighbour.bias[1], weights["history_bias.neighbour.bias"][0])
    assert trained(weeks, "week2", init_from=former.checkpoint, epochs=1, **chosen).epochs == 1


def test_categories_of_events_are_found_by_their_values(here, weeks, built):
    """The second week's most frequent value is another one, and one value is new."""
    for name, values in (("week1", ["phone", "phone", "desk"]), ("week2", ["desk", "desk", "tablet", "phone"])):
        path = here / "data" / name / f"{name}.inter"
        head, *lines = path.read_text().splitlines()
        marked = [f"{line}\t{values[place % len(values)]}" for place, line in enumerate(lines)]
        path.write_text("\n".join([f"{head}\tdevice:token", *marked]) + "\n")
    columns = {"event_fields": ["device"], "load_col": {"inter": ["user_id", "item_id", "timestamp", "device"]}}
    former = trained(weeks, **columns)
    trainer, _ = built_from(built, weeks, former.checkpoint, **columns)
    source = Source.read(former.checkpoint)
    name = "event_encoder.side_information.sum.embeddings.0.weight"
    then = {field: row for row, field in enumerate(source.event_fields["event"][0].values, 1)}
    now = {field: row for row, field in enumerate(trainer.model.event_codes["event"][0]["values"], 1)}
    assert now["desk"] != then["desk"]
    weight = trainer.model.state_dict()[name]
    for value in ("desk", "phone"):
        torch.testing.assert_close(weight[now[value]], source.weights[name][then[value]])
    assert not weight[now["tablet"]].any()


@pytest.mark.parametrize("conditioning", ["source", "target"])
def test_features_are_conditioned_as_chosen(weeks, built, conditioning):
    former = trained(weeks)
    trainer, _ = built_from(built, weeks, former.checkpoint, init_conditioning=conditioning)
    mean = Source.read(former.checkpoint).weights["item_encoder.features.text.mean"]
    assert torch.equal(trainer.model.item_encoder.features["text"].mean, mean) == (conditioning == "source")


def test_a_few_steps_from_a_trained_model_are_better_than_from_random_weights(weeks):
    former = trained(weeks, epochs=30, learning_rate=0.01, stopping_step=30, content_neighbours=0)
    few = {"epochs": 1, "learning_rate": 0.0003, "content_neighbours": 0}
    warm, cold = trained(weeks, "week2", init_from=former.checkpoint, **few), trained(weeks, "week2", **few)
    assert warm.test["ndcg@3"] > cold.test["ndcg@3"] + 0.2


@pytest.mark.parametrize("use_item_id", [False, True])
def test_a_folder_is_a_starting_point_too(here, weeks, use_item_id):
    """The folder has no state of an optimizer, and knows when the newest event of training was."""
    former = trained(weeks, use_item_id=use_item_id)
    Recommender.load(former.checkpoint).save_pretrained("shop")
    again = trained(weeks, init_from="shop", epochs=0, use_item_id=use_item_id)
    assert again.ranks == former.ranks
    assert trained(weeks, "week2", init_from="shop", replay=1.0, use_item_id=use_item_id, **SPLIT).epochs == 3
    with pytest.raises(CheckpointError, match="there is no folder shops"):
        trained(weeks, init_from="shops", use_item_id=use_item_id)


@pytest.mark.slow
def test_what_one_shop_teaches_is_known_in_another(here, settings):
    """Subjects follow each other alike in both; no item, user or title is in both, and the second trains nothing."""
    kinds = {"first": "A film about {}", "second": "A book on {}"}
    for name, kind in kinds.items():
        events = [
            (f"{name}{user}", f"{name}-{(user + step) % 8}", float(100 * step + user))
            for step in range(9)
            for user in range(40)
        ]
        subjects = {f"{name}-{n}": kind.format(subject) for n, subject in enumerate(SUBJECTS)}
        write_dataset(here / "data", name, events, subjects)
    chosen = {**settings, "use_item_id": False, "epochs": 60, "stopping_step": 60, "learning_rate": 0.01, "topk": [1]}
    chosen |= {"valid_metric": "NDCG@1", "content_neighbours": 0}
    (source,) = run(["LLMInterest"], "first", config_dict=chosen)
    known = {"init_from": source.checkpoint, "init_conditioning": "source", "epochs": 0}
    zero_shot, random_weights = (
        run(["LLMInterest"], "second", config_dict={**chosen, **more})[0] for more in (known, {"epochs": 0})
    )
    assert source.test["ndcg@1"] > 0.9
    assert zero_shot.test["ndcg@1"] > 0.6 > 0.4 > random_weights.test["ndcg@1"]


@pytest.mark.parametrize(("then", "now"), [(None, 2), (2, None), (2, 2)])
def test_the_optimizer_goes_on_with_sampled_negatives_too(weeks, built, then, now):
    """Sampled negatives have an optimizer of the ID embedding alone, which counts its steps as a number."""
    former = trained(weeks, loss_candidates=then)
    again = trained(weeks, "week2", init_from=former.checkpoint, loss_candidates=now)
    assert again.epochs == 3
    trainer, dataset = built_from(built, weeks, former.checkpoint, loss_candidates=now)
    state = trainer.optimizer if now is None else trainer.optimizer.sparse
    moments = state.state[trainer.model.item_encoder.id_embedding.weight]["exp_avg"]
    assert moments[dataset.token2id("item_id", "i0")].any()
    assert not moments[dataset.token2id("item_id", "i6")].any()


@pytest.mark.parametrize("candidates", [None, 2])
def test_the_learning_rate_schedule_reaches_every_optimizer_that_goes_on(weeks, built, candidates):
    """The learning rate falls to zero in a linear decay over all epochs."""
    former = trained(weeks, loss_candidates=candidates)
    chosen = {"loss_candidates": candidates, "learning_rate_schedule": "linear"}
    trainer, dataset = built_from(built, weeks, former.checkpoint, **chosen)
    trainer.fit(HistoryDataLoader(trainer.config, dataset, None, shuffle=True), show_progress=False, saved=False)
    optimizer = trainer.optimizer
    for part in (optimizer,) if candidates is None else (optimizer.dense, optimizer.sparse):
        assert part.param_groups[0]["lr"] < 1e-9


def test_new_items_without_content_start_as_in_any_training(here, settings, built):
    """Without neighbours by content, a new ID is random: the direction of a zero vector would be undefined."""
    write_dataset(here / "data", "week1", walk(range(12), [0, 1, 2, 3], 8))
    write_dataset(here / "data", "week2", walk(range(12), [0, 1, 2, 3, 4], 16))
    weeks = {**settings, "epochs": 2, "modalities": []}
    former = trained(weeks)
    trainer, dataset = built_from(built, weeks, former.checkpoint)
    ids = trainer.model.item_encoder.id_embedding.weight
    assert 0.3 < float(ids[dataset.token2id("item_id", "i4")].detach().norm()) < 3
    assert trained(weeks, "week2", init_from=former.checkpoint).epochs == 2


# --- what an epoch has


def test_an_epoch_has_every_new_window_and_a_sample_of_the_others(here, settings, built):
    """Users 0 to 9 go on after the former training, users 10 to 39 do not."""
    write_dataset(here / "data", "week1", walk(range(40), range(8), 9), titles(range(8)))
    later = walk(range(10), range(8), 6, start=9)
    write_dataset(here / "data", "week2", [*walk(range(40), range(8), 9), *later], titles(range(8)))
    weeks = {**settings, **WEEKS, "epochs": 1, "time_split": [0.95, 0.98]}
    former = trained(weeks)
    config, _, _, train, *_ = built("LLMInterest", "week2", **weeks)
    assert config["learned_before"] is None
    until = Source.read(former.checkpoint).trained_until
    newer = int((train._dataset.event_times[train._dataset.training_targets()[1]] > until).sum())
    assert newer > 30
    targets = {}
    for replay in (0.0, 1.0, None):
        config = Config("LLMInterest", "week2", config_dict={**weeks, "init_from": former.checkpoint, "replay": replay})
        source_named_by(config)
        train, *_ = data_preparation(config, create_dataset(config))
        epochs = [list(train) for _ in range(2)]
        assert all(len(batches) == len(train) for batches in epochs)
        users = [{int(user) for batch in batches for user in batch["user_id"]} for batches in epochs]
        new = {train._dataset.token2id("user_id", f"u{user}") for user in range(10)}
        assert all(new <= of_epoch for of_epoch in users)
        targets[replay] = [sum(int((batch["next_item_id_list"] > 0).sum()) for batch in batches) for batches in epochs]
        if replay == 0.0:
            assert new <= users[0] < {*range(1, 41)}
        if replay == 1.0:
            assert users[0] != users[1]
            assert new < users[0]
    assert targets[0.0][0] < targets[1.0][0] < targets[None][0]
    for count in targets[1.0]:
        assert 0 <= count - targets[0.0][0] - newer < 6  # a window has at most six targets


def test_replay_without_newer_events_is_an_error(weeks):
    former = trained(weeks, **SPLIT)
    with pytest.raises(DataError, match=r"no training event is newer .* set replay=~"):
        trained(weeks, init_from=former.checkpoint, replay=1.0, **SPLIT)
    with pytest.raises(SettingsError, match="replay needs a split by time"):
        trained(weeks, init_from=former.checkpoint, replay=1.0)


def test_another_shops_events_are_learned_and_ones_own_replayed(here, settings, built):
    """Of two shops' data, split by leave-one-out, the new shop's histories are in each epoch, and as many others."""
    own, other = walk(range(40), range(6), 9), [(f"v{u}", f"j{i}", time) for u, i, time in walk(range(10), range(4), 9)]
    write_dataset(here / "data", "week1", own, titles(range(6)))
    write_dataset(
        here / "data", "both", [*own, *other], {**titles(range(6)), **{f"j{i}": f"other {i}" for i in range(4)}}
    )
    shop = {**settings, **WEEKS, "epochs": 1}
    former = trained(shop)
    _, _, _, train, *_ = built("LLMInterest", "both", **shop)
    chosen = {**shop, "init_from": former.checkpoint, "replay": 1.0, "replay_by": "items"}
    config = Config("LLMInterest", "both", config_dict=chosen)
    source_named_by(config)
    everything = len({int(user) for batch in train for user in batch["user_id"]})
    train, *_ = data_preparation(config, create_dataset(config))
    new = {train._dataset.token2id("user_id", user) for user, *_ in other}
    for _ in range(2):
        users = {int(user) for batch in train for user in batch["user_id"]}
        assert new < users
        assert len(users) <= 2 * len(new) + 1 < everything
    with pytest.raises(DataError, match=r"no training event is of an item that init_from does not have"):
        trained(chosen, "week1")
    with pytest.raises(SettingsError, match="replay_by=items needs replay"):
        trained({**chosen, "replay": None}, "both")


def test_parts_that_start_anew_are_those_of_a_new_model(weeks, built):
    former = trained(weeks)
    trainer, _ = built_from(built, weeks, former.checkpoint, init_anew=["history_bias", "tracker"])
    new = built("LLMInterest", "week2", **weeks)[1].state_dict()
    source = load_checkpoint(Path(former.checkpoint))["state_dict"]
    for name, values in trainer.model.state_dict().items():
        if name.split(".")[0] in ("history_bias", "tracker"):
            assert torch.equal(values, new[name]), name
    kept = [name for name, _ in trainer.model.named_parameters() if "item_encoder.proj" in name]
    assert kept
    assert all(torch.equal(trainer.model.state_dict()[name], source[name]) for name in kept)
    state = trainer.optimizer.state
    assert not state[trainer.model.tracker.output.weight].get("exp_avg", torch.zeros(1)).any()
    assert state[trainer.model.item_encoder.id_embedding.weight]["exp_avg"].any()


def test_frozen_parts_stay_and_the_others_learn(weeks):
    former = trained(weeks)
    after = trained(weeks, init_from=former.checkpoint, frozen=["item_encoder", "user_encoder"])
    then, now = (load_checkpoint(Path(result.checkpoint))["state_dict"] for result in (former, after))
    changed = {name.split(".")[0] for name in then if not torch.equal(then[name], now[name])}
    assert "item_encoder" not in changed
    assert "tracker" in changed
    parts = ["item_encoder", "user_encoder", "event_encoder", "context", "tracker", "history_bias"]
    with pytest.raises(SettingsError, match="nothing is left to train"):
        trained(weeks, frozen=parts)


@pytest.mark.parametrize("eval_step", [1, 7000])
def test_training_ends_after_the_minutes_that_it_may_take(weeks, eval_step):
    """What has been learned is validated, and so kept, however rarely it is to be."""
    result = trained(weeks, epochs=10_000, stopping_step=10_000, minutes=0.02, eval_step=eval_step)
    assert 1 <= result.epochs < 1000
    assert result.best_valid is not None
    assert len(result.losses["next_item"]) == result.epochs


# --- what is refused


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"hidden_size": 32}, "was trained with hidden_size=16, now 32: it cannot change; give --hidden_size=16"),
        ({"tracker": "gru"}, "tracker='lstm', now 'gru'"),
        ({"text_prompt": "query: "}, "text_prompt='', now 'query: '"),
        ({"fusion": "concat"}, "fusion='gated', now 'concat'"),
    ],
)
def test_settings_that_give_weights_their_meaning_cannot_change(weeks, chosen, message):
    former = trained(weeks, epochs=1)
    with pytest.raises(CheckpointError, match=message):
        trained(weeks, "week2", init_from=former.checkpoint, **chosen)


def test_weights_of_another_shape_are_refused_with_the_settings_that_differ(weeks):
    former = trained(weeks, epochs=1, tracker="transformer")
    with pytest.raises(CheckpointError, match=r"has the shape .*MAX_ITEM_LIST_LENGTH=6, now 4"):
        trained(weeks, "week2", init_from=former.checkpoint, tracker="transformer", MAX_ITEM_LIST_LENGTH=4)


@pytest.mark.parametrize(
    ("model", "chosen", "message"),
    [
        ("GRU4Rec", {"init_from": "model.safetensors", "train_neg_sample_args": None}, "init_from is for LLMInterest"),
        ("LLMInterest", {"replay": 1.0}, "replay needs init_from"),
        ("LLMInterest", {"init_from": "nowhere.safetensors"}, "nowhere.safetensors does not exist"),
        ("LLMInterest", {"frozen": ["trackers"]}, "frozen"),
        ("LLMInterest", {"minutes": 0}, "minutes"),
        ("Pop", {"minutes": 1}, "minutes is for LLMInterest: it has no effect on Pop"),
    ],
)
def test_mistakes_are_told(settings, model, chosen, message):
    with pytest.raises(LLMInterestError, match=message):
        run([model], "cycle", config_dict={**settings, **chosen})


def test_a_checkpoint_of_another_model_is_refused(settings):
    (result,) = run(["GRU4Rec"], "cycle", config_dict={**settings, "train_neg_sample_args": None})
    with pytest.raises(CheckpointError, match="is of GRU4Rec"):
        trained(settings, "cycle", init_from=result.checkpoint)


def test_a_checkpoint_that_names_no_items_starts_only_the_same_ones(here, weeks):
    former = trained(weeks)
    saved = dict(load_checkpoint(Path(former.checkpoint)))
    del saved["items"], saved["trained_until"]
    write_state(here / "saved" / "former.safetensors", saved)
    again = trained(weeks, init_from="saved/former.safetensors", epochs=0)
    assert again.ranks == former.ranks
    with pytest.raises(CheckpointError, match="written by a former version"):
        trained(weeks, "week2", init_from="saved/former.safetensors")
    with pytest.raises(CheckpointError, match="does not say when its newest training event was"):
        trained(weeks, init_from="saved/former.safetensors", replay=1.0, **SPLIT)


def test_a_fusion_that_reads_modalities_by_position_takes_no_others(weeks):
    former = trained(weeks, epochs=1, fusion="concat")
    with pytest.raises(CheckpointError, match="had text, id, now text, which its fusion reads by their positions"):
        trained(weeks, "week2", init_from=former.checkpoint, fusion="concat", use_item_id=False)


# --- what remains of it


def test_a_checkpoint_of_a_warm_start_is_tested_without_its_source(weeks):
    former = trained(weeks, **SPLIT)
    after = trained(weeks, "week2", init_from=former.checkpoint, replay=1.0, frozen=["tracker"], **SPLIT)
    Path(former.checkpoint).unlink()
    settings = {**weeks, **SPLIT}
    (again,) = run(["LLMInterest"], "week2", config_dict=settings, checkpoint=after.checkpoint)
    assert again.ranks == after.ranks


def test_an_interrupted_warm_start_goes_on_as_if_it_had_not_been(weeks, monkeypatch):
    former = trained(weeks, **SPLIT)
    chosen = {**weeks, **SPLIT, "init_from": former.checkpoint, "replay": 1.0}
    (whole,) = run(["LLMInterest"], "week2", config_dict=chosen)
    epochs = []
    train_epoch = LLMInterestTrainer._train_epoch

    def interrupted(self, data, epoch, *arguments, **options):
        epochs.append(epoch)
        if epoch == 2:
            raise KeyboardInterrupt
        return train_epoch(self, data, epoch, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(LLMInterestTrainer, "_train_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(["LLMInterest"], "week2", config_dict=chosen)
    (state,) = Path("saved").glob("*.resume.safetensors")
    (resumed,) = run(["LLMInterest"], "week2", config_dict=chosen, resume=str(state))
    assert epochs == [0, 1, 2]
    assert resumed.losses == whole.losses
    assert resumed.ranks == whole.ranks


def test_a_checkpoint_of_a_warm_start_does_not_need_its_source(weeks):
    former = trained(weeks)
    after = trained(weeks, "week2", init_from=former.checkpoint)
    Path(former.checkpoint).unlink()
    recommender = Recommender.load(after.checkpoint)
    assert len(recommender.recommend(recommender.start(), 3)) == 3


def test_one_line_says_what_was_matched(weeks, capsys):
    former = trained(weeks)
    trained(weeks, "week2", init_from=former.checkpoint, epochs=1, show_progress=True)
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("starts from"))
    assert "5 items matched, 1 new, 1 dropped, 1 ID embeddings start from neighbours, the optimizer goes on" in line
