"""Adaptation of encoders: what is learned, what may not be read, lower layers, resuming."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_models
import torch
from safetensors.numpy import load
from torch.nn.functional import normalize

from recbole_llm_interest.adaptation.batches import Batcher
from recbole_llm_interest.adaptation.events import read_adaptation_events
from recbole_llm_interest.adaptation.job import adapt
from recbole_llm_interest.adaptation.lower_layers import LowerLayers
from recbole_llm_interest.adaptation.objectives import OBJECTIVES, CollaborativeContrast, MaskedLanguageModelling
from recbole_llm_interest.adaptation.training import Adaptation
from recbole_llm_interest.adaptation.validation import next_item_ndcg
from recbole_llm_interest.content.encoders.aisfx import AisfxEncoder
from recbole_llm_interest.content.encoders.text import TextEncoder
from recbole_llm_interest.data.dataset import LLMInterestDataset
from recbole_llm_interest.errors import CheckpointError, DataError, DivergedError, EncoderError, SettingsError
from recbole_llm_interest.training.config import configure

#: two kinds of items, which users never mix; their words say nothing about the kind before training
WORDS = [f"w{number}" for number in range(40)]
KINDS = {f"i{number}": number % 2 for number in range(20)}


def text_of(number):
    """Two words of an item's kind, each shared by a few items, and one of its own."""
    kind = number % 2
    return f"{WORDS[kind + 2 * (number % 3)]} {WORDS[20 + number % 18]}"


def write_data(folder, held_out=None):
    """Write a data set of 60 users with nine events; returns settings that read it.

    Args:
        folder: of the data set.
        held_out: the item of all users' last two events; None for items of their kind.
    """
    generator = np.random.default_rng(0)
    root = folder / "kinds"
    (root / "content").mkdir(parents=True)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    # two users with all items of their kind come first: RecBole numbers items by their first event, and what is drawn
    # depends on the numbers
    lines += [f"kind{kind}\ti{2 * time + kind}\t{time}" for kind in (0, 1) for time in range(10)]
    for user in range(60):
        chosen = generator.choice(10, 9, replace=False) * 2 + user % 2
        for time, number in enumerate(chosen):
            item = f"i{number}" if time < 7 or held_out is None else held_out
            lines.append(f"u{user}\t{item}\t{time}")
    (root / "kinds.inter").write_text("\n".join(lines) + "\n")
    items = [json.dumps({"item_id": item, "title": text_of(number)}) for number, item in enumerate(KINDS)]
    (root / "content" / "items.jsonl").write_text("\n".join(items) + "\n")
    return {"data_path": str(folder), "adapt_layers": 1, "adapt_rank": 4, "adapt_batch_size": 16}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_models.masked_model(tmp_path_factory.mktemp("bert"), WORDS)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny_models.causal_model(tmp_path_factory.mktemp("llama"), WORDS)


@pytest.fixture
def kinds(tmp_path, bert, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return {**write_data(tmp_path), "text_encoder": str(bert)}


def configured(settings, **more):
    return configure("LLMInterest", "kinds", [], {**settings, **more, "state": "ERROR"})


def test_collaborative_contrast_teaches_what_goes_together(kinds, tmp_path):
    config = configured(kinds, adapt_epochs=30, adapt_learning_rate=0.005, adapt_method="lora", adapt_patience=100)
    adapted = adapt(config, "text", tmp_path / "out" / "a.safetensors")
    assert adapted.result.best > 1.3 * adapted.result.frozen
    report = json.loads(adapted.report.read_text())
    assert report["best"] == adapted.result.best
    assert report["parameters"] == sum(array.size for array in load(adapted.adapter.read_bytes()).values())
    losses = [losses["collaborative"] for losses in adapted.result.losses]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert not adapted.adapter.with_suffix(".resume.safetensors").exists()
    texts = [text_of(number) for number in range(20)]
    for path, least in ((None, -1.0), (str(adapted.adapter), 0.1)):
        features = normalize(torch.from_numpy(TextEncoder(kinds["text_encoder"], adapter=path).encode(texts)), dim=1)
        centred = normalize(features - features.mean(dim=0), dim=1)
        similarity = centred @ centred.T
        same = similarity[::2, ::2].mean() + similarity[1::2, 1::2].mean()
        gap = float(same - 2 * similarity[::2, 1::2].mean())
        assert gap > least
        frozen_gap = gap if path is None else frozen_gap  # noqa: F821  (set by the first round)
    assert gap > 1.2 * frozen_gap


def parameters_after(settings, folder, **more):
    """The adapter after the last step, whatever validation says."""
    config = configured(settings, adapt_epochs=1, adapt_patience=100, **more)
    kept = {}

    class Watched(Adaptation):
        def run(self):
            result = super().run()
            kept.update({name: values.detach().clone() for name, values in self.adapter.parameters.items()})
            return result

    from recbole_llm_interest.adaptation import job

    original, job.Adaptation = job.Adaptation, Watched
    try:
        adapt(config, "text", folder / "a.safetensors")
    finally:
        job.Adaptation = original
    return kept


def test_held_out_events_are_never_learned_from(bert, tmp_path, monkeypatch):
    """Two data sets that differ in validation and test events alone lead to the same adapter, to the last bit."""
    monkeypatch.chdir(tmp_path)
    weights = {f"adapt_{name}_weight": 1.0 for name in OBJECTIVES if name != "causal_language"}
    learned = []
    for name, held_out in (("one", None), ("other", "i3")):
        settings = {**write_data(tmp_path / name, held_out), "text_encoder": str(bert)}
        learned.append(parameters_after(settings, tmp_path / name, **weights))
    assert learned[0].keys() == learned[1].keys() != set()
    assert all(torch.equal(learned[0][name], learned[1][name]) for name in learned[0])


def test_training_events_are_learned_from(bert, tmp_path, monkeypatch):
    """The counterpart: the test above would notice another training event."""
    monkeypatch.chdir(tmp_path)
    learned = []
    for name in ("one", "other"):
        settings = {**write_data(tmp_path / name), "text_encoder": str(bert)}
        file = tmp_path / name / "kinds" / "kinds.inter"
        lines = file.read_text().splitlines()
        if name == "other":
            lines[22] = "\t".join(["u0", "i1", "1"])
        file.write_text("\n".join(lines) + "\n")
        learned.append(parameters_after(settings, tmp_path / name))
    assert not all(torch.equal(learned[0][name], learned[1][name]) for name in learned[0])


def test_events_are_those_of_the_protocol(kinds):
    events = read_adaptation_events(configured(kinds))
    file = Path(kinds["data_path"]) / "kinds" / "kinds.inter"
    lines = [line.split("\t") for line in file.read_text().splitlines()[1:]]
    by_user = {}
    for user, item, _ in lines:
        by_user.setdefault(user, []).append(item)
    histories = sorted([events.tokens[item] for item in history] for history in events.histories)
    assert histories == sorted(history[:-2] for history in by_user.values())
    pairs = sorted(
        ([events.tokens[item] for item in history], events.tokens[own]) for history, own in events.validation
    )
    assert pairs == sorted((history[:-2], history[-2]) for history in by_user.values())


@pytest.mark.parametrize("method", ["lora", "adalora", "ia3", "prefix", "bottleneck", "bitfit"])
def test_interrupted_adaptation_goes_on_as_if_it_had_not_been(method, kinds, tmp_path):
    settings = {"adapt_method": method, "adapt_layers": None if method == "prefix" else 1, "adapt_epochs": 2}
    settings |= {"adapt_recommendation_weight": 1.0, "adapt_patience": 100}
    whole = adapt(configured(kinds, **settings), "text", tmp_path / "whole.safetensors")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Adaptation, "_save", saved_and_killed(2))
        with pytest.raises(KilledError):
            adapt(configured(kinds, **settings), "text", tmp_path / "parts.safetensors")
    parts = adapt(configured(kinds, **settings), "text", tmp_path / "parts.safetensors")
    assert parts.result.curve == whole.result.curve
    one, other = load(whole.adapter.read_bytes()), load(parts.adapter.read_bytes())
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-6)


def test_adalora_ends_with_its_rank_wherever_it_was_interrupted(kinds, tmp_path):
    """The singular values that are dropped stay 0 to the end, and a training that goes on knows which they are."""
    settings = {"adapt_method": "adalora", "adapt_epochs": 6, "adapt_patience": 100, "adapt_evaluations": 1}
    curves, kept = [], []
    for interruption in (1, 3, 5, None):
        output = tmp_path / f"{interruption}.safetensors"
        if interruption is not None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Adaptation, "_save", saved_and_killed(interruption))
                with pytest.raises(KilledError):
                    adapt(configured(kinds, **settings), "text", output)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Adaptation, "_write", lambda self: kept.append(singular_values(self)))
            curves.append(adapt(configured(kinds, **settings), "text", output).result.curve)
    assert curves.count(curves[-1]) == 4
    maps = 6  # of the last layer: queries, keys, values, their output, and two of the network after it
    assert kept == [4 * maps] * 4  # adapt_rank is 4


class KilledError(Exception):
    """What ends a training in a test."""


def saved_and_killed(calls):
    """A ``_save`` that ends the training after so many calls."""
    original, count = Adaptation._save, iter(range(1, 1000))

    def save(self, step):
        original(self, step)
        if next(count) == calls:
            raise KilledError

    return save


def singular_values(adaptation):
    """How many of the adapter's singular values are not 0."""
    return sum(int((values != 0).sum()) for name, values in adaptation.adapter.parameters.items() if ".lora_E." in name)


def test_state_of_other_settings_is_not_resumed(kinds, tmp_path):
    config = configured(kinds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Adaptation, "_write", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            adapt(config, "text", tmp_path / "a.safetensors")
    splits = {"eval_args": {"split": {"RS": [4, 3, 2]}, "order": "TO", "mode": "full"}}
    for other in ({"adapt_rank": 2}, splits, {"text_prompt": "film: "}, {"item_text_fields": ["item_id"]}):
        with pytest.raises(CheckpointError, match="is of an adaptation with other settings or data: delete it, or gi"):
            adapt(configured(kinds, **other), "text", tmp_path / "a.safetensors")
    (tmp_path / "a.resume.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"state of an adaptation .* delete it to start anew"):
        adapt(config, "text", tmp_path / "a.safetensors")


@pytest.mark.parametrize("model", ["bert", "llama"])
def test_remembered_states_give_the_features_of_the_whole_network(model, request):
    encoder = TextEncoder(str(request.getfixturevalue(model)))
    contents = dict(enumerate(["w1 w2 w3", "w4", "w5 w6 w7 w8 w9", "w1"]))
    whole = encoder.encode(list(contents.values()))
    layers = LowerLayers(encoder, contents, 1, max_bytes=1e9)
    assert layers.bytes == sum(len(text.split()) for text in contents.values()) * 16 * 2
    remembered = layers.embed([2, 0, 3, 1], contents).detach().numpy()
    np.testing.assert_allclose(remembered, whole[[2, 0, 3, 1]], atol=2e-2)  # states are in half precision
    assert np.abs(encoder.encode(list(contents.values())) - whole).max() < 1e-6  # the encoder itself is as before
    recomputed = LowerLayers(encoder, contents, 1, max_bytes=10)
    assert recomputed.bytes == 0
    np.testing.assert_allclose(recomputed.embed([1, 2], contents).detach().numpy(), whole[[1, 2]], atol=1e-5)


def test_remembered_states_of_images(tmp_path):
    from recbole_llm_interest.content.encoders.efficientnet import EfficientNetEncoder

    encoder = EfficientNetEncoder(batch_size=2)
    generator = np.random.default_rng(0)
    contents = {number: generator.normal(size=(3, 224, 224)).astype(np.float32) for number in range(3)}
    whole = encoder.encode(list(contents.values()))
    layers = LowerLayers(encoder, contents, 2, max_bytes=1e9)
    assert layers.bytes > 0
    remembered = layers.embed([2, 1, 0], contents).detach().numpy()
    assert np.corrcoef(remembered.ravel(), whole[::-1].ravel())[0, 1] > 0.999


def naive_contrast(batch):
    """The loss of collaborative contrast, by loops."""
    anchors, directions = normalize(batch.features, dim=-1), normalize(batch.remembered, dim=-1)
    total = weight = 0.0
    for history in batch.histories:
        for place, anchor in enumerate(history):
            for lag in (1, 2, 3):
                if place + lag >= len(history) or history[place + lag] == anchor:
                    continue
                target = history[place + lag]
                logits = {
                    other: float(anchors[anchor] @ directions[other] / 0.07 + batch.log_counts[other])
                    for other in range(len(batch.remembered))
                    if other == target or other not in batch.partners[anchor]
                }
                highest = max(logits.values())
                log_sum = highest + np.log(sum(np.exp(logit - highest) for logit in logits.values()))
                total += (log_sum - logits[target]) / lag
                weight += 1 / lag
    return total / weight


def test_collaborative_contrast_equals_a_loop():
    histories = [np.array([1, 2, 3, 2]), np.array([4, 5]), np.array([2, 6, 1])]
    batcher = Batcher(histories, size=3, negatives=4, items=9, seed=1)
    chosen = batcher.histories_of(0)
    items = np.unique(np.concatenate(chosen))
    negatives = batcher.negatives_of(0, items)
    torch.manual_seed(0)
    features = torch.randn(len(items), 6), torch.randn(len(items) + len(negatives), 6)
    batch = batcher.batch(chosen, items, negatives, *features)
    loss = CollaborativeContrast(None, 6).loss(batch, [])
    assert float(loss) == pytest.approx(naive_contrast(batch), rel=1e-4)


def test_items_without_training_events_are_no_negatives():
    batcher = Batcher([np.array([1, 2]), np.array([3, 4])], size=1, negatives=100, items=9, seed=1)
    drawn = {int(item) for step in range(4) for item in batcher.negatives_of(step, np.array([1]))}
    assert drawn == {2, 3, 4}


def test_features_that_say_nothing_are_worth_nothing():
    """Equal scores share their ranks, so that a collapsed encoder is not taken for a perfect one."""
    pairs, candidates = [(np.array([1, 2]), 3)] * 5, np.arange(1, 200)
    assert next_item_ndcg(torch.ones(200, 4), pairs, candidates) == 0.0
    assert next_item_ndcg(torch.zeros(200, 4), pairs, candidates) == 0.0
    with pytest.raises(DivergedError, match="are not finite: lower adapt_learning_rate"):
        next_item_ndcg(torch.full((200, 4), torch.nan), pairs, candidates)


def test_validation_equals_a_loop():
    generator = np.random.default_rng(0)
    table = torch.from_numpy(generator.normal(size=(12, 5)).astype(np.float32))
    pairs = [(generator.choice(12, 4, replace=False), int(generator.integers(1, 12))) for _ in range(40)]
    candidates = np.arange(1, 12)
    directions = normalize(table, dim=1).numpy()
    gains = []
    for history, target in pairs:
        interest = sum(0.5 ** (len(history) - 1 - place) * directions[item] for place, item in enumerate(history))
        scores = {item: directions[item] @ interest for item in candidates if item not in history}
        rank = sorted(scores, key=scores.get, reverse=True).index(target) if target in scores else 10
        gains.append(1 / np.log2(rank + 2) if rank < 10 else 0)
    assert next_item_ndcg(table, pairs, candidates) == pytest.approx(np.mean(gains), abs=1e-6)


def test_training_ends_when_validation_no_longer_rises(kinds, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Adaptation, "_score", lambda self: 0.5)
        result = adapt(configured(kinds, adapt_epochs=50, adapt_patience=3), "text", tmp_path / "a.safetensors").result
    assert [score for _, score in result.curve] == [0.5] * 4


def test_losses_are_means_over_the_steps_that_were_made(kinds, tmp_path, monkeypatch):
    """Also of the last steps, which are fewer than between two validations."""
    monkeypatch.setattr(Adaptation, "_step", lambda self, step: {"collaborative": 2.0})
    settings = {"adapt_batch_size": 12, "adapt_evaluations": 2, "adapt_epochs": 1, "adapt_patience": 100}
    result = adapt(configured(kinds, **settings), "text", tmp_path / "a.safetensors").result
    assert [step for step, _ in result.curve] == [2, 4, 5]
    assert result.losses == [{"collaborative": 2.0}] * 3


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_every_objective_is_learned(name, kinds, llama, tmp_path):
    settings = {"adapt_collaborative_weight": 0.0, f"adapt_{name}_weight": 1.0, "adapt_patience": 100}
    settings |= {"adapt_epochs": 20, "adapt_learning_rate": 0.005, "adapt_evaluations": 1}
    if name == "causal_language":
        settings["text_encoder"] = str(llama)
    result = adapt(configured({**kinds, **settings}), "text", tmp_path / "a.safetensors").result
    losses = [losses[name] for losses in result.losses]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def test_language_modelling_learns_from_items_without_training_events(kinds, tmp_path, monkeypatch):
    file = Path(kinds["data_path"]) / "kinds" / "content" / "items.jsonl"
    lines = file.read_text() + json.dumps({"item_id": "new", "title": "w39 w39 w39"}) + "\n"
    file.write_text(lines)
    events = Path(kinds["data_path"]) / "kinds" / "kinds.inter"
    events.write_text(events.read_text() + "u0\tnew\t100\n")  # the test event of u0
    read = set()
    original = MaskedLanguageModelling.token_losses

    def recorded(self, contents):
        read.update(contents)
        return original(self, contents)

    monkeypatch.setattr(MaskedLanguageModelling, "token_losses", recorded)
    settings = {**kinds, "adapt_masked_language_weight": 1.0, "adapt_collaborative_weight": 0.0}
    adapt(configured(settings), "text", tmp_path / "a.safetensors")
    assert {f"title: {json.loads(line)['title']}" for line in lines.splitlines()} <= read


def test_mistakes_are_said_in_one_line(kinds, llama, tmp_path):
    output = tmp_path / "a.safetensors"
    for settings, error, says in (
        ({"adapt_collaborative_weight": 0.0}, SettingsError, "nothing to learn: set one of adapt_collaborative_weight"),
        ({"adapt_layers": 5}, EncoderError, "adapt_layers=5: the encoder has 2 layers"),
        ({"text_encoder": "hashing"}, EncoderError, "the text encoder 'hashing' cannot be adapted"),
        ({"text_encoder": "multilingual"}, EncoderError, "the text encoder 'multilingual' cannot be adapted"),
        ({"adapt_learning_rate": 1e30, "adapt_epochs": 20}, DivergedError, "lower adapt_learning_rate"),
        (
            {"adapt_masked_language_weight": 1.0, "text_encoder": str(llama)},
            EncoderError,
            "has no mask token; causal models learn by adapt_causal_language_weight",
        ),
        (
            {"adapt_causal_language_weight": 1.0},
            EncoderError,
            "is no causal model; it learns by adapt_masked_language_weight",
        ),
        ({"adapt_method": "prefix"}, EncoderError, "prefix adapts all layers: set adapt_layers=~"),
        (
            {"eval_args": {"split": {"LS": "test_only"}, "order": "TO", "mode": "full"}},
            DataError,
            "no validation event has an item with content",
        ),
    ):
        output.with_suffix(".resume.safetensors").unlink(missing_ok=True)
        with pytest.raises(error, match=says):
            adapt(configured({**kinds, **settings}), "text", output)


def test_sounds_of_several_windows_are_adapted(kinds, tmp_path):
    """Files of different lengths are several inputs of the network each, in batches that mix them."""
    folder = tmp_path / "kinds" / "content"
    (folder / "audio").mkdir()
    generator = np.random.default_rng(0)
    for number in range(20):
        samples = generator.normal(0, 0.1, 8000 * (2 + number % 5)).astype(np.float32)
        soundfile.write(folder / "audio" / f"{number}.wav", samples, 8000)
    items = [json.dumps({"item_id": item, "audio_file_name": f"audio/{item[1:]}.wav"}) for item in KINDS]
    (folder / "items.jsonl").write_text("\n".join(items) + "\n")
    settings = {"audio_encoder": str(tiny_models.audio_model("wav2vec2", tmp_path / "wav2vec2")), "adapt_epochs": 1}
    adapted = adapt(configured({**kinds, **settings}), "audio", tmp_path / "a.safetensors")
    assert adapted.result.parameters == sum(array.size for array in load(adapted.adapter.read_bytes()).values()) > 0
    assert adapted.result.state_bytes == 0


def test_files_of_several_blocks_are_embedded_as_they_are_encoded():
    encoder = AisfxEncoder()
    generator = np.random.default_rng(0)
    contents = {number: generator.random((number + 2, 100, 96), np.float32) for number in range(2)}
    layers = LowerLayers(encoder, contents, 1, max_bytes=1e9)
    features = layers.embed([1, 0], contents).detach().numpy()
    np.testing.assert_allclose(features, encoder.encode([contents[1], contents[0]]), atol=1e-5)


@pytest.mark.parametrize("settings", [{"adapt_method": "prefix"}, {"adapt_causal_language_weight": 1.0}])
def test_what_does_not_fit_is_known_before_content_is_read(settings, kinds, tmp_path, monkeypatch):
    from recbole_llm_interest.adaptation import job

    monkeypatch.setattr(job, "load_contents", lambda *_: pytest.fail("content was read"))
    with pytest.raises(EncoderError):
        adapt(configured(kinds, **settings), "text", tmp_path / "a.safetensors")


def test_an_adapter_of_another_split_is_named_in_a_run(kinds, tmp_path, caplog):
    """It may have learned from events that the run holds out."""
    adapted = adapt(configured(kinds, adapt_method="bitfit"), "text", tmp_path / "a.safetensors")
    for split, is_named in (({"LS": "valid_and_test"}, False), ({"RS": [4, 3, 2]}, True)):
        caplog.clear()
        eval_args = {"split": split, "order": "TO", "mode": "full"}
        LLMInterestDataset(configured(kinds, text_adapter=str(adapted.adapter), eval_args=eval_args)).build()
        assert ("text_adapter learned from other training events than this run's" in caplog.text) == is_named


def test_adapted_encoder_is_used_by_a_run_and_encoded_anew(kinds, tmp_path):
    from recbole_llm_interest import compare

    adapted = adapt(configured(kinds, adapt_method="bitfit"), "text", tmp_path / "a.safetensors")
    compare("kinds", epochs=1, **kinds)
    stores = {path.name for path in (tmp_path / "saved" / "features" / "kinds").glob("text-*")}
    compare("kinds", epochs=1, text_adapter=str(adapted.adapter), **kinds)
    assert len(stores) == 1
    assert len({path.name for path in (tmp_path / "saved" / "features" / "kinds").glob("text-*")}) == 2


def test_exported_folder_has_the_adapter(kinds, tmp_path):
    """New items are encoded as in training where the adapter's own file is gone."""
    from recbole_llm_interest import Recommender, compare

    encoder = {"text_encoder": kinds["text_encoder"]}
    adapted = adapt(configured(kinds, adapt_method="bitfit", adapt_epochs=4), "text", tmp_path / "a.safetensors")
    run = compare("kinds", epochs=1, text_adapter=str(adapted.adapter), **kinds)
    with pytest.raises(CheckpointError, match="may not name files elsewhere: give text_adapter"):
        Recommender.load(run.checkpoint("LLMInterest"), **encoder)
    recommender = Recommender.load(run.checkpoint("LLMInterest"), text_adapter=str(adapted.adapter), **encoder)
    recommender.save_pretrained(tmp_path / "model")
    recommender.add_item("new", {"title": text_of(3)})
    expected = recommender.recommend(recommender.start(history=["i1", "new"]), k=5)

    adapted.adapter.unlink()
    again = Recommender.from_pretrained(str(tmp_path / "model"), **encoder)
    again.save_pretrained(tmp_path / "copy")
    shutil.rmtree(tmp_path / "model")
    again = Recommender.from_pretrained(str(tmp_path / "copy"), **encoder)
    again.add_item("new", {"title": text_of(3)})
    assert again.recommend(again.start(history=["i1", "new"]), k=5) == expected
    assert str(tmp_path) not in (tmp_path / "copy" / "config.json").read_text()


def test_damaged_or_absent_adapter_of_a_folder_is_refused(kinds, tmp_path):
    from recbole_llm_interest import Recommender, compare

    encoder = {"text_encoder": kinds["text_encoder"]}
    adapted = adapt(configured(kinds, adapt_method="bitfit"), "text", tmp_path / "a.safetensors")
    run = compare("kinds", epochs=1, text_adapter=str(adapted.adapter), **kinds)
    Recommender.load(run.checkpoint("LLMInterest"), text_adapter=str(adapted.adapter), **encoder).save_pretrained(
        tmp_path / "model"
    )
    file = tmp_path / "model" / "text_adapter.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match=r"text_adapter\.safetensors.* checksum does not match"):
        Recommender.from_pretrained(str(tmp_path / "model"), **encoder)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"has no text_adapter\.safetensors"):
        Recommender.from_pretrained(str(tmp_path / "model"), **encoder)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["settings"]["text_adapter"] = "/etc/adapter.safetensors"
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"text_adapter='/etc/adapter\.safetensors' is a path"):
        Recommender.from_pretrained(str(tmp_path / "model"), **encoder)
