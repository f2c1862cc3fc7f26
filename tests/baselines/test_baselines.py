"""Each baseline equals a plain reference, whatever the batches are, and runs wherever RecBole's models run."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, write_dataset
from recbole.quick_start import load_data_and_model
from sklearn.feature_extraction.text import TfidfVectorizer

from recbole_llm_interest.baselines import counting
from recbole_llm_interest.data.history_dataset import HistoryDataset
from recbole_llm_interest.data.text_dataset import TextDataset
from recbole_llm_interest.errors import CheckpointError, DataError, SettingsError
from recbole_llm_interest.registration import REGISTERED
from recbole_llm_interest.settings import BASELINE_SETTINGS, MODELS, baseline_keys
from recbole_llm_interest.training.comparison import run
from recbole_llm_interest.training.counting import CountingTrainer

DAY = 86_400.0
#: tested in test_context_text.py
BY_CONTEXT = {"BM25", "NearestText"}
BASELINES = [model for model in BASELINE_SETTINGS if model not in BY_CONTEXT]
ITEMS = [f"i{n}" for n in range(12)]
TITLES = {item: f"{'red' if n % 2 else 'blue'} film {n % 5} of {n % 3}" for n, item in enumerate(ITEMS)} | {"i11": ""}
#: by model, settings that differ from the defaults, which the reference reads, too
OTHER_SETTINGS = {
    "RecentPop": [{"popularity_days": 2.5}, {"popularity_days": 20}],
    "VSKNN": [
        {"k": 2, "weighting": "linear", "score_weighting": "quadratic", "idf_weighting": 0.5},
        {"k": 3, "sample_size": 4, "weighting": "log", "score_weighting": "log"},
        {"k": 50, "weighting": "quadratic", "score_weighting": "same"},
        {"k": 2, "weighting": "same", "score_weighting": "linear"},
    ],
    "TransitionText": [
        {"history_decay": 0.8, "hop_weight": 2.0, "two_apart_weight": 0.7, "reverse_weight": 0.0, "text_weight": 3.0},
        {"history_decay": 1.0, "hop_weight": 0.0, "text_weight": 0},
    ],
}
CASES = [(model, {}) for model in BASELINES] + [
    (model, case) for model in OTHER_SETTINGS for case in OTHER_SETTINGS[model]
]


def drawn_events(users: int = 14) -> list[tuple[str, str, float]]:
    """Users of different lengths whose events alternate, with repeats, on one clock."""
    draw = random.Random(5)
    return [
        (f"u{user}", draw.choice(ITEMS), 1.6e9 + DAY * draw.uniform(0, 12))
        for user in range(users)
        for _ in range(draw.randint(4, 9))
    ]


@pytest.fixture
def drawn(built, here):
    """Builds a baseline on the drawn events; returns (model, training split, test loader)."""
    write_dataset(here / "data", "drawn", drawn_events(), TITLES)

    def build(model, **overrides):
        _, network, _, train, _, test = built(model, "drawn", MAX_ITEM_LIST_LENGTH=50, **overrides)
        return network, train._dataset, test

    return build


def sequences(dataset):
    """Return (user, items, times) of each user by tokens, in chronological order, and the number of training events."""
    by_user = defaultdict(list)
    for user, item, time in drawn_events():
        by_user[user].append((time, item))
    for user, events in by_user.items():
        times, items = zip(*sorted(events), strict=True)
        yield user, [dataset.token2id("item_id", item) for item in items], list(times)


def training_histories(dataset):
    """All but the last two events of each user."""
    return {user: (items[:-2], times[:-2]) for user, items, times in sequences(dataset)}


def reference_repeat_last(settings, dataset, user, items, time):
    return {item: 1 / (1 + items[::-1].index(item)) for item in items}


def reference_recent_pop(settings, dataset, user, items, time):
    window = settings.get("popularity_days", 7.0) * DAY
    events = [event for past, times in training_histories(dataset).values() for event in zip(past, times, strict=True)]
    time = min(time, np.nextafter(max(at for _, at in events), np.inf))
    return Counter(item for item, at in events if time - window <= at < time)


def reference_most_recent(settings, dataset, user, items, time):
    events = [event for past, times in training_histories(dataset).values() for event in zip(times, past, strict=True)]
    all_times = sorted(at for at, _ in events)
    return {item: all_times.index(at) + 1 for at, item in sorted(events) if at < time}


def reference_vsknn(settings, dataset, user, items, time):
    length, past = len(items), training_histories(dataset)
    by_age = {
        "same": lambda ago: 1,
        "div": lambda ago: (length - ago) / length,
        "linear": lambda ago: max(1 - 0.1 * ago, 0),
        "log": lambda ago: 1 / math.log10(ago + 1.7),
        "quadratic": lambda ago: ((length - ago) / length) ** 2,
    }[settings.get("weighting", "div")]
    by_step = {
        "same": lambda step: 1,
        "div": lambda step: 1 / step,
        "linear": lambda step: max(1 - 0.1 * (step - 1), 0),
        "log": lambda step: 1 / math.log10(step + 1.7),
        "quadratic": lambda step: 1 / step**2,
    }[settings.get("score_weighting", "div")]
    weights = {item: by_age(items[::-1].index(item)) for item in items}
    others = [(times[-1], set(theirs)) for other, (theirs, times) in past.items() if other != user]
    sharing = sorted((pair for pair in others if pair[1] & set(items)), key=lambda pair: -pair[0])
    similar = [(round(sum(weights[i] for i in theirs & set(items)), 9), at, theirs) for at, theirs in sharing]
    similar = [found for found in similar if found[0] > 0][: settings.get("sample_size")]
    nearest = sorted(similar, key=lambda found: (-found[0], -found[1]))[: settings.get("k", 100)]
    scores = defaultdict(float)
    for similarity, _, theirs in nearest:
        step = next(step for step, item in enumerate(reversed(items), start=1) if item in theirs)
        for item in theirs:
            idf = math.log(len(past) / sum(item in other for other, _ in past.values()))
            scores[item] += similarity * by_step(step) * (1 + settings.get("idf_weighting", 0) * idf)
    return scores


def reference_transition_text(settings, dataset, user, items, time):
    def setting(name, default):
        return settings.get(name, default)

    counts = defaultdict(Counter)
    for past, _ in training_histories(dataset).values():
        for apart, weight in ((1, 1.0), (2, setting("two_apart_weight", 0.25))):
            for one, other in zip(past, past[apart:], strict=False):
                counts[one][other] += weight
                counts[other][one] += weight * setting("reverse_weight", 0.5)
    share = {
        one: {other: n / sum(row.values()) for other, n in row.items()}
        for one, row in counts.items()
        if any(row.values())
    }
    tokens = dataset.id2token("item_id", range(1, dataset.item_num))
    texts = {token: title and f"title: {title}" for token, title in TITLES.items()}  # as an encoder reads them
    words = TfidfVectorizer(token_pattern=r"\w+").fit(filter(None, texts.values()))
    vectors = words.transform([texts[token] for token in tokens])
    cosine = (vectors @ vectors.T).toarray()
    scores = defaultdict(float)
    for ago, item in enumerate(reversed(items)):
        weight = setting("history_decay", 0.5) ** ago
        for one, p in share.get(item, {}).items():
            scores[one] += weight * p
            for other, q in share.get(one, {}).items():
                scores[other] += weight * p * q * setting("hop_weight", 0.5)
        for other in range(1, dataset.item_num):
            scores[other] += weight * cosine[item - 1, other - 1] * setting("text_weight", 0.2)
    return scores


REFERENCES = {
    "RepeatLast": reference_repeat_last,
    "RecentPop": reference_recent_pop,
    "MostRecent": reference_most_recent,
    "VSKNN": reference_vsknn,
    "TransitionText": reference_transition_text,
}


@pytest.mark.parametrize(("model", "given"), CASES)
def test_scores_equal_those_of_a_plain_reference(drawn, model, given):
    network, dataset, test = drawn(model, **given)
    batch, *_ = next(iter(test))
    scores = network.score(batch)
    histories = {user: (items, times) for user, items, times in sequences(dataset)}
    scored = 0
    for row, user in enumerate(dataset.id2token("user_id", batch["user_id"])):
        items, times = histories[user]
        expected = REFERENCES[model](given, dataset, user, items[:-1], times[-1])
        scored += len(expected)
        wanted = [expected.get(item, 0) for item in range(1, dataset.item_num)]
        assert scores[row, 1:].tolist() == pytest.approx(wanted, rel=1e-5, abs=1e-7)
    assert scored > len(histories)


@pytest.mark.parametrize("model", BASELINES)
def test_scores_do_not_depend_on_the_batch(drawn, model, monkeypatch):
    network, _, test = drawn(model)
    batch, *_ = next(iter(test))
    together = network.full_sort_predict(batch)
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(1))
    assert torch.equal(network.full_sort_predict(batch[order]), together[order])
    alone = torch.cat([network.full_sort_predict(batch[row : row + 1]) for row in range(len(batch))])
    assert torch.allclose(alone, together, rtol=1e-5)
    monkeypatch.setattr(counting, "_ROWS", 3)
    assert torch.allclose(network.full_sort_predict(batch), together, rtol=1e-5)
    assert torch.equal(network.predict(batch), together.gather(1, batch["item_id"][:, None]).squeeze(1))


@pytest.mark.parametrize("model", BASELINES)
def test_unscored_items_come_last_in_an_order_by_seed(drawn, model):
    network, _, test = drawn(model, seed=1)
    other, *_ = drawn(model, seed=2)
    batch, *_ = next(iter(test))
    scores, is_scored = network.full_sort_predict(batch), network.score(batch) > 0
    assert scores[is_scored].gt(0).all()
    assert scores[~is_scored].lt(0).all()
    assert not torch.equal(network.unscored, other.unscored)


@pytest.mark.parametrize("model", ["RecentPop", "MostRecent"])
def test_later_events_are_not_read(built, here, model):
    """Scores stay as they are if every training event at or after the time of a predicted event changes its item."""
    events = sorted(drawn_events(), key=lambda event: event[2])
    histories = defaultdict(list)
    for event in events:
        histories[event[0]].append(event)
    user, cut = min(((user, theirs[-1][2]) for user, theirs in histories.items()), key=lambda found: found[1])
    held_out = {event for theirs in histories.values() for event in theirs[-2:]}
    later = {event for event in events if event[2] >= cut} - held_out
    assert later
    changed = [(event[0], "i0", event[2]) if event in later else event for event in events]
    scores = []
    for name, used in (("drawn", events), ("changed", changed)):
        write_dataset(here / "data", name, [("u99", item, 1e9) for item in ITEMS] + used)
        _, network, data, *_, test = built(model, name, MAX_ITEM_LIST_LENGTH=50)
        batch, *_ = next(iter(test))
        (row,) = np.flatnonzero(data.id2token("user_id", batch["user_id"]) == user)
        scores.append(network.score(batch)[row])
    assert torch.equal(*scores)


def test_days_are_the_last_of_training_where_training_ends_earlier(drawn):
    """In a split by time, tests are days after training."""
    network, dataset, test = drawn("RecentPop", popularity_days=2, time_split=[0.4, 0.8])
    batch, *_ = next(iter(test))
    events = dataset.training_events()
    last = events.times.max()
    counts = np.bincount(events.items[events.times >= last - 2 * DAY], minlength=dataset.item_num)
    assert dataset.event_times[batch["history_end"]].min() > last + 2 * DAY
    assert counts.any()
    assert network.score(batch).tolist() == [counts.tolist()] * len(batch)


def test_own_training_history_is_no_neighbour(built, here):
    events = [("u0", item, float(n)) for n, item in enumerate("abcdab")]
    events += [(f"u{user}", f"x{step}", float(step)) for user in range(1, 4) for step in range(4)]
    write_dataset(here / "data", "alone", events)
    _, network, data, *_, test = built("VSKNN", "alone")
    batch, *_ = next(iter(test))
    by_user = dict(zip(data.id2token("user_id", batch["user_id"]), network.score(batch), strict=True))
    assert not by_user["u0"].any()
    assert by_user["u1"].any()


def test_training_events_are_all_but_the_held_out_ones(drawn):
    _, dataset, _ = drawn("VSKNN")
    events = dataset.training_events()
    expected = training_histories(dataset)
    for user, (items, times) in expected.items():
        own = events.users == dataset.token2id("user_id", user)
        assert events.items[own].tolist() == items
        assert events.times[own].tolist() == times
    assert len(events.items) == sum(len(items) for items, _ in expected.values())


@pytest.mark.parametrize(("model", "given"), [("RecentPop", {}), ("MostRecent", {}), ("VSKNN", {"sample_size": 3})])
def test_positions_are_no_clock(built, model, given):
    with pytest.raises(DataError, match=f"^{model} needs the clock, and the times of 'cycle' are positions"):
        built(model, **given)


def test_no_texts_are_an_error_unless_none_are_read(built, here):
    write_dataset(here / "data", "bare", drawn_events())
    with pytest.raises(DataError, match=r"^TransitionText reads item texts, and 'bare' has none: .* text_weight=0$"):
        built("TransitionText", "bare")
    _, network, *_, test = built("TransitionText", "bare", text_weight=0)
    assert network.score(next(iter(test))[0]).any()


def test_texts_are_those_of_the_settings(drawn, caplog):
    _, dataset, _ = drawn("TransitionText", item_text_template="about {title}")
    titles = [TITLES[token] for token in dataset.id2token("item_id", range(1, 13))]
    assert dataset.item_texts == ["", *(title and f"about {title}" for title in titles)]
    caplog.clear()
    _, dataset, _ = drawn("TransitionText")
    assert dataset.item_texts[dataset.token2id("item_id", "i11")] == ""
    assert "1 of 12 items have no text" in caplog.text


def test_registry_and_settings_name_the_same_models():
    assert tuple(REGISTERED) == MODELS
    for model in BASELINES:
        registered = REGISTERED[model]
        assert registered.model.__name__ == registered.settings == model
        assert registered.trainer is CountingTrainer
        assert registered.dataset is (TextDataset if model == "TransitionText" else HistoryDataset)
    assert set(REGISTERED) >= BY_CONTEXT


@pytest.mark.parametrize("model", BASELINES)
def test_search_spaces_are_of_the_models_own_settings(model):
    space = REPOSITORY / "properties" / "search" / f"{model}.hyper"
    searched = {line.split()[0] for line in space.read_text().splitlines()} if space.exists() else set()
    assert searched <= set(baseline_keys(model))
    assert bool(searched) == bool(baseline_keys(model))


@pytest.mark.slow
def test_comparison_ranks_what_follows_always_first(settings):
    """Each item of ``cycle`` has one successor: transitions and neighbours find it, repeats do not."""
    models = ["TransitionText", "VSKNN", "RepeatLast", "Pop"]
    quick = {**settings, "topk": [1, 3], "text_weight": 0, "hop_weight": 0.0, "reverse_weight": 0.0}
    quick |= {"two_apart_weight": 0.0, "history_decay": 0.1}
    results = {result.model: result for result in run(models, "cycle", config_dict=quick)}
    assert results["TransitionText"].test["recall@1"] == 1
    assert results["RepeatLast"].test["recall@1"] == 0
    assert {result.test_digest for result in results.values()} == {results["Pop"].test_digest}
    found = results["TransitionText"]
    assert (found.epochs, found.parameters, found.losses) == (1, 0, {})
    assert found.effective_settings["history_decay"] == 0.1
    assert set(found.effective_settings) == set(baseline_keys("TransitionText"))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["TransitionText", "VSKNN", "RepeatLast"])
def test_checkpoint_has_the_result_of_its_run(settings, model):
    (trained,) = run([model], "cycle", config_dict=settings)
    (again,) = run([model], "cycle", config_dict=settings, checkpoint=trained.checkpoint)
    assert again.test == trained.test
    assert again.ranks == trained.ranks
    _, network, *_ = load_data_and_model(trained.checkpoint)
    assert type(network).__name__ == model


def test_checkpoint_of_other_settings_is_refused(settings):
    (trained,) = run(["VSKNN"], "cycle", config_dict=settings)
    with pytest.raises(CheckpointError, match="k=100, now 5"):
        run(["VSKNN"], "cycle", config_dict={**settings, "k": 5}, checkpoint=trained.checkpoint)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hop_wieght": 1}, "unknown setting 'hop_wieght': did you mean 'hop_weight'?"),
        ({"history_decay": 0}, "history_decay=0 is not a value of this setting"),
    ],
)
def test_wrong_setting_is_an_error(settings, wrong, message):
    with pytest.raises(SettingsError) as caught:
        run(["TransitionText"], "cycle", config_dict={**settings, **wrong})
    assert str(caught.value).startswith(message)


def test_baselines_run_where_data_is_split_already(settings, here):
    """Two forms of ``benchmark_filename``: the events of three files, of which the first are for training."""
    folder = here / "data" / "split"
    folder.mkdir()
    rows = [(f"u{user}", ITEMS[(user + step) % 6], 1.6e9 + DAY * step + user) for user in range(6) for step in range(6)]
    for part, steps in (("train", range(4)), ("valid", (4,)), ("test", (5,))):
        lines = [f"{u}\t{i}\t{t!r}" for n, (u, i, t) in enumerate(rows) if n % 6 in steps]
        (folder / f"split.{part}.inter").write_text(
            "\n".join(["user_id:token\titem_id:token\ttimestamp:float", *lines]) + "\n"
        )
    given = {**settings, "benchmark_filename": ["train", "valid", "test"], "text_weight": 0, "history_decay": 0.1}
    results = run(BASELINES, "split", config_dict=given)
    assert [result.test_events for result in results] == [6] * len(BASELINES)
    assert dict(zip(BASELINES, results, strict=True))["TransitionText"].test["recall@3"] == 1
