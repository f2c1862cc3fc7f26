"""The split by time is that of a naive reading of the events, for every model, and nothing of the future leaks."""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np
import pytest
import torch
from conftest import write_dataset
from recbole.utils import get_trainer

from recbole_llm_interest.data.clock import clock_of
from recbole_llm_interest.data.event_counts import count_training_events
from recbole_llm_interest.data.event_histories import own_events, seen_items
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.training.config import configure

MODELS = ["LLMInterest", "SASRec", "DIEN", "Pop", "FM"]
RULES = ["first", "last", "random", "successive", "all"]
SPLIT = [0.6, 0.8]
BY_TIME = {"eval_args": {"order": "TO", "split": {"LS": "valid_and_test"}, "mode": "full"}, "repeatable": True}
SETTINGS = {**BY_TIME, "modalities": [], "epochs": 1}


def walk_events(seed=3, users=30):
    """Events in a file of no order, with many at the same second, of users who come and leave at different times."""
    chance = random.Random(seed)
    start = {f"u{u}": chance.randint(0, 70) for u in range(users)}
    events = [
        (user, f"i{chance.randint(0, 9)}", 1_300_000_000.0 + first + chance.randint(0, 30))
        for user, first in start.items()
        for _ in range(1 + chance.randint(0, 11))
    ]
    chance.shuffle(events)
    return events


@pytest.fixture
def walks(here):
    events = walk_events()
    write_dataset(here / "data", "walks", events)
    return events


def naive_split(events, rule):
    """Return each part's set of (user, position among the user's events, length of the history), in plain Python.

    ``random`` has all possible targets.
    """
    times = sorted(time for _, _, time in events)
    begins = [times[int(np.ceil(q * (len(times) - 1)))] for q in SPLIT]
    histories = defaultdict(list)
    for user, item, time in sorted(events, key=lambda event: event[2]):
        histories[user].append((item, time))
    parts = [set(), set(), set()]
    for user, history in histories.items():
        period = [sum(time >= begin for begin in begins) for _, time in history]
        parts[0] |= {(user, n, n) for n in range(len(history)) if period[n] == 0}
        for number in (1, 2):
            inside = [n for n in range(1, len(history)) if period[n] == number]
            known = sum(p < number for p in period)
            if rule == "all":
                parts[number] |= {(user, n, known) for n in inside if known}
            elif inside:
                chosen = {"first": inside[:1], "last": inside[-1:]}.get(rule, inside)
                parts[number] |= {(user, n, n) for n in chosen}
    return histories, parts


def rows_of(dataset):
    """Return (user, position, length of history) of each row, and (user, seen items), by tokens."""
    rows = dataset.inter_feat
    start, end, own = rows["history_start"], rows["history_end"], own_events(rows)
    users = [str(user) for user in dataset.id2token("user_id", rows["user_id"])]
    seen = defaultdict(list)
    for row, item in zip(*map(torch.Tensor.tolist, seen_items(dataset, rows)), strict=True):
        seen[row].append(str(dataset.id2token("item_id", item)))
    keys = list(zip(users, (own - start).tolist(), (end - start).tolist(), strict=True))
    return keys, [seen[row] for row in range(len(keys))]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("model", MODELS)
def test_parts_are_those_of_a_naive_split(built, walks, model, rule):
    *_, train, valid, test = built(model, "walks", **SETTINGS, time_split=SPLIT, test_targets=rule)
    histories, expected = naive_split(walks, rule)
    for number, loader in enumerate((train, valid, test)):
        dataset = loader._dataset
        keys, seen = rows_of(dataset)
        items = [str(item) for item in dataset.id2token("item_id", dataset.inter_feat["item_id"])]
        assert len(set(keys)) == len(keys) > 3
        if number == 0 and model in MODELS[:3]:
            assert set(keys) == {key for key in expected[0] if key[1]}
        elif number and rule == "random":
            assert set(keys) < expected[number]
            assert {user for user, *_ in keys} == {user for user, *_ in expected[number]}
            assert len({user for user, *_ in keys}) == len(keys)
        else:
            assert set(keys) == expected[number]
        for (user, position, length), item, history in zip(keys, items, seen, strict=True):
            assert item == histories[user][position][0]
            assert history == [item for item, _ in histories[user][:length]]


@pytest.mark.parametrize("rule", RULES)
def test_models_read_the_histories_of_their_rows(built, walks, rule):
    """RecBole's lists and ours are the last six items before the event, or before the period."""
    for model in ("LLMInterest", "SASRec", "DIEN"):
        *_, valid, test = built(model, "walks", **SETTINGS, time_split=SPLIT, test_targets=rule)
        for loader in (valid, test):
            _, seen = rows_of(loader._dataset)
            (batch, *_), *rest = loader
            assert not rest
            read = batch["item_id_list"].tolist()
            names = [[str(test._dataset.id2token("item_id", item)) for item in items if item] for items in read]
            assert names == [history[-6:] for history in seen]
            assert batch["item_length"].tolist() == [len(history[-6:]) for history in seen]


def test_random_targets_depend_on_the_seed_alone(built, walks):
    def targets(model, seed):
        *_, test = built(model, "walks", **SETTINGS, time_split=SPLIT, test_targets="random", seed=seed)
        return set(rows_of(test._dataset)[0])

    assert targets("LLMInterest", 1) == targets("SASRec", 1) == targets("Pop", 1)
    assert len({frozenset(targets("Pop", seed)) for seed in range(5)}) > 1


@pytest.mark.parametrize("model", MODELS)
def test_no_training_event_is_at_or_after_the_boundary(built, walks, model):
    _, _, dataset, train, *_ = built(model, "walks", **SETTINGS, time_split=SPLIT)
    histories, (expected, *_) = naive_split(walks, "last")
    part = train._dataset
    begin = dataset.periods.valid
    assert (part.event_times[own_events(part.inter_feat)] < begin).all()
    assert (part.event_times == begin).any()
    items, users = count_training_events(part)
    is_learnt = {user for user, position, _ in expected if position} if model in MODELS[:3] else set(histories)
    learnt = [key for key in expected if key[0] in is_learnt]
    counted = defaultdict(int)
    for user, position, _ in learnt:
        counted[user] += 1
        counted[histories[user][position][0]] += 1
    for field, counts in (("user_id", users), ("item_id", items)):
        tokens = [str(token) for token in dataset.field2id_token[field]]
        assert counts.tolist() == [counted[token] for token in tokens]


def test_windows_hold_training_targets_only(built, walks):
    """LLMInterest learns from consecutive events: each target of the training part once, and no other."""
    *_, train, _, _ = built("LLMInterest", "walks", **SETTINGS, time_split=SPLIT, MAX_ITEM_LIST_LENGTH=3)
    histories, (expected, *_) = naive_split(walks, "last")
    learnt = []
    for batch in train:
        columns = (batch[field].tolist() for field in ("user_id", "item_id_list", "next_item_id_list"))
        for user, *rows in zip(*columns, strict=True):
            user = str(train._dataset.id2token("user_id", user))
            read, targets = ([str(train._dataset.id2token("item_id", item)) for item in row if item] for row in rows)
            known = [item for item, _ in histories[user]]
            assert any(known[n : n + len(read)] == read for n in range(len(known)))
            learnt += [(user, target) for target in targets]
    assert sorted(learnt) == sorted((user, histories[user][n][0]) for user, n, _ in expected if n)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["Pop", "LLMInterest"])
def test_leaked_future_would_score_one(built, here, model):
    """After the split, all users choose one new item again and again: who has seen the future ranks it first."""
    events = [(f"u{u}", f"i{(u + step) % 7}", 1.3e9 + 10 * step + u % 3) for u in range(20) for step in range(8)]
    events += [(f"u{u}", "new", 1.3e9 + 1000 + 10 * step + u % 3) for u in range(20) for step in range(9)]
    write_dataset(here / "data", "future", events)
    by_time = {"time_split": ["2011-03-13T07:20", "2011-03-13T07:24"], "test_targets": "first"}
    scores = []
    for split in ({}, by_time):
        settings = {**SETTINGS, "metrics": ["Recall"], "topk": [1], "valid_metric": "Recall@1", "epochs": 4}
        config, net, _, train, valid, _ = built(model, "future", **settings, **split, learning_rate=0.01)
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, net)
        trainer.fit(train, saved=False, show_progress=False)
        scores.append(trainer.evaluate(valid, load_best_model=False)["recall@1"])
    assert scores == [1.0, 0.0]


# --- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"time_split": [0.9, 0.8]}, "validation has to begin before the test"),
        ({"time_split": ["2011-03-14", "2011-03-13"]}, "validation has to begin before the test"),
        ({"time_split": [0.5, 1.5]}, "1.5 is no quantile"),
        ({"time_split": [0.5, "yesterday"]}, "yesterday"),
        ({"time_split": [0.5]}, "time_split"),
        ({"time_split": SPLIT, "benchmark_filename": ["a", "b", "c"]}, "split already"),
        ({"test_targets": "all"}, "test_targets=all needs time_split"),
        ({"time_split": SPLIT, "repeatable": False}, "repeatable"),
        ({"seen_items": "filtered", "repeatable": False}, "seen_items=filtered needs full ranking"),
        ({"seen_items": "filtered", "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}}}, "seen_items=filtered needs"),
        ({"seen_items": "filtered", "eval_args": {**BY_TIME["eval_args"], "mode": "uni100"}}, "needs full ranking"),
        ({"seen_items": "kept", "valid_metric": "filtered_NDCG@10"}, "valid_metric=filtered_NDCG@10 is not among"),
    ],
)
def test_contradictions_are_errors_before_data_are_read(walks, here, settings, message):
    for part in "abc":
        (here / "data" / "walks" / f"walks.{part}.inter").write_bytes((here / "data/walks/walks.inter").read_bytes())
    with pytest.raises(SettingsError, match=message):
        configure("Pop", "walks", overrides={"data_path": str(here / "data"), **settings})


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (["1999-01-01", 0.5], "no training event"),
        ([0.5, "2030-01-01"], "no test event"),
        ([0.5, 0.501], "no time lies between"),
    ],
)
def test_empty_parts_are_errors(built, walks, split, message):
    with pytest.raises((DataError, SettingsError), match=message):
        built("Pop", "walks", **SETTINGS, time_split=split)


def test_dates_need_a_clock_and_positions_are_warned_about(built, here, caplog):
    write_dataset(here / "data", "places", [(f"u{u}", f"i{(u * n) % 7}", n) for u in range(9) for n in range(8)])
    built("SASRec", "places", **SETTINGS, time_split=[0.5, 0.8])
    assert "positions" in caplog.text
    with pytest.raises(SettingsError, match="since 1970"):
        built("SASRec", "places", **SETTINGS, time_split=[0.5, "2011-03-13"])


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 1, 2, 0, 1], "positions"),
        ([1, 2, 3, 1, 2], "positions"),
        ([1, 2, 3, 0, 1], "positions"),
        ([0, 1, 3, 0, 1], "seconds"),
        ([86_400 * 12_000, 86_400 * 12_001, 86_400 * 12_002, 86_400 * 12_000, 86_400 * 12_003], "days"),
        ([6e10, 6e10 + 60, 6e10 + 120, 6e10, 6e10], "minutes"),
        ([1.3e12, 1.3e12 + 60_000, 1.3e12 + 120_000, 1.3e12, 1.3e12], "seconds"),
        ([1.3e9, 1.3e9 + 1, 1.3e9 + 5, 1.3e9, 1.3e9], "seconds"),
        (None, "none"),
    ],
)
def test_clocks_are_told_from_positions(times, expected):
    times = None if times is None else np.array(times, dtype=np.float64)
    assert clock_of(times, np.array([1, 1, 1, 4, 4])) == expected
