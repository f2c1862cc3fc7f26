"""The facts on a split are those of a naive count, and the same for every model."""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np
import pytest
from conftest import write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm_interest.data.protocol import SplitEvents, protocol_facts
from recbole_llm_interest.training.comparison import run

BY_TIME = {"eval_args": {"order": "TO", "split": {"LS": "valid_and_test"}, "mode": "full"}, "repeatable": True}
SETTINGS = {**BY_TIME, "modalities": [], "epochs": 1, "embedding_size": 8}
SPLITS = {"leave-one-out": {}, **{rule: {"time_split": [0.6, 0.8], "test_targets": rule} for rule in ("last", "all")}}


@pytest.fixture
def walks(here):
    """Users who come one after the other, with repeats, ties, and items that appear late."""
    chance = random.Random(11)
    events = []
    for user in range(24):
        start = chance.randint(0, 50)
        moments = sorted(chance.randint(start, start + 25) for _ in range(chance.randint(1, 12)))
        events += [
            (f"u{user}", f"i{chance.randint(moment // 12, moment // 8 + 3)}", 1e9 + moment) for moment in moments
        ]
    write_dataset(here / "data", "walks", events)
    return events


def naive_facts(events, rule):
    """Return the facts and the tested events, in plain Python."""
    times = sorted(time for *_, time in events)
    begins = [times[int(np.ceil(q * (len(times) - 1)))] for q in (0.6, 0.8)]
    histories = defaultdict(list)
    for user, item, time in events:
        histories[user].append((item, time))
    training, tested = [], []
    for user, history in histories.items():
        if rule == "leave-one-out":
            held_out = min(2, max(len(history) - 2, 0))
            training += [(user, *event) for event in history[: len(history) - held_out]]
            tested += [(user, len(history) - 1, len(history) - 1)] if held_out else []
            continue
        training += [(user, item, time) for item, time in history if time < begins[0]]
        known = sum(time < begins[1] for _, time in history)
        inside = list(range(max(known, 1), len(history)))
        tested += [(user, n, known) for n in inside if known] if rule == "all" else [(user, n, n) for n in inside[-1:]]
    own = [(user, *histories[user][n]) for user, n, _ in tested]
    warm_users, warm_items = {user for user, *_ in training}, {item for _, item, _ in training}
    users, items = {user for user, *_ in own}, {item for _, item, _ in own}
    return {
        "repeated_events": sum(histories[u][n][0] in [i for i, _ in histories[u][:end]] for u, n, end in tested),
        "tied_events": sum([time for _, time in histories[user]].count(time) > 1 for user, _, time in own),
        "later_training_events": pytest.approx(
            np.mean([np.mean([later > time for *_, later in training]) for *_, time in own])
        ),
        "warm_users": len(users & warm_users),
        "cold_users": len(users - warm_users),
        "warm_items": len(items & warm_items),
        "cold_items": len(items - warm_items),
    }, own


@pytest.mark.parametrize("rule", SPLITS)
@pytest.mark.parametrize("model", ["LLMInterest", "SASRec", "Pop"])
def test_facts_are_those_of_a_naive_count(built, walks, model, rule):
    _, _, dataset, *loaders = built(model, "walks", **SETTINGS, **SPLITS[rule])
    facts = protocol_facts(dataset, *(loader._dataset for loader in loaders))
    expected, tested = naive_facts(walks, rule)
    assert {name: facts[name] for name in expected} == expected
    assert facts["split"] == ("leave-one-out" if rule == "leave-one-out" else "time")
    assert facts.get("test_targets", "leave-one-out") == rule
    assert len(loaders[2]._dataset) == len(tested)
    assert (facts["later_training_events"] > 0.1) == (rule == "leave-one-out")
    assert min(facts[name] for name in ("repeated_events", "tied_events", "warm_users", "warm_items")) > 0


def test_positions_know_no_later_events(built, here):
    write_dataset(here / "data", "places", [(f"u{u}", f"i{(u * n) % 7}", n) for u in range(9) for n in range(8)])
    _, _, dataset, *loaders = built("SASRec", "places", **SETTINGS)
    assert protocol_facts(dataset, *(loader._dataset for loader in loaders))["later_training_events"] is None


def test_other_splits_have_no_facts(built, walks):
    arguments = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user", "mode": "full"}
    _, _, dataset, *loaders = built("Pop", "walks", **{**SETTINGS, "eval_args": arguments})
    assert protocol_facts(dataset, *(loader._dataset for loader in loaders)) == {}


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.sampled_from([0, 1, 2])), min_size=1, max_size=25))
def test_shares_and_ties_equal_a_naive_count(events):
    """Events are (user, time, part): 0 for training, 1 for validation, 2 for tests."""
    users, times, parts = np.array(sorted(events)).T
    counted = SplitEvents(users, users, times.astype(float) + 0.5, parts == 0, np.flatnonzero(parts == 2))
    tested = [(user, time) for user, time, part in events if part == 2]
    training = [time for _, time, part in events if part == 0]
    assert counted.tied() == sum(sum(other[:2] == event for other in events) > 1 for event in tested)
    if tested and training:
        shares = [sum(later > time for later in training) / len(training) for _, time in tested]
        assert counted.later_training() == pytest.approx(sum(shares) / len(shares))
    else:
        assert counted.later_training() is None


@pytest.mark.slow
def test_results_tell_splits_apart_and_models_agree(walks, here):
    given = {"data_path": str(here / "data"), "show_progress": False, "topk": [3], "valid_metric": "NDCG@3"}
    digests = set()
    for split in {**SPLITS, "successive": {"time_split": [0.6, 0.8], "test_targets": "successive"}}.values():
        results = run(["LLMInterest", "SASRec", "Pop"], "walks", config_dict={**SETTINGS, **given, **split})
        (test_digest,) = {result.test_digest for result in results}
        digests.add(test_digest)
        for result in results:
            assert result.protocol == results[0].protocol
            for name, ranks in (("recall@3", result.ranks), ("filtered_recall@3", result.filtered_ranks)):
                assert len(ranks) == result.test_events
                assert result.test[name] == pytest.approx(np.mean(np.array(ranks) > 0), abs=1e-4)
    assert len(digests) == 4
