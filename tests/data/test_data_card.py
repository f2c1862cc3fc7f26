"""The data card: counts against naive ones, the clock's unit, and the same card for every model."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

import numpy as np
import pytest
from conftest import write_dataset

from recbole_llm_interest.data.data_card import data_card, describe_events


def test_card_equals_naive_counts():
    chance = np.random.default_rng(0)
    users, items = chance.integers(0, 9, 200), chance.integers(0, 12, 200)
    times = chance.integers(0, 40, 200) * 60.0 + 1e9 // 60 * 60
    walks = defaultdict(list)
    for user, item, time in sorted(zip(users, items, times, strict=True), key=lambda event: (event[0], event[2])):
        walks[user].append((item, time))
    repeats = sum(item in {of for of, _ in walk[:n]} for walk in walks.values() for n, (item, _) in enumerate(walk))
    ties = sum(walk[n][1] == walk[n - 1][1] for walk in walks.values() for n in range(1, len(walk)))
    assert describe_events(users, items, times) == {
        "users": len(walks),
        "items": len(set(items)),
        "events": 200,
        "density": pytest.approx(200 / len(walks) / len(set(items))),
        "median_length": median(map(len, walks.values())),
        "repeats": pytest.approx(repeats / 200),
        "clock": "minutes",
        "ties": pytest.approx(ties / 200),
    }


@pytest.mark.parametrize(
    ("times", "clock"),
    [
        ([0, 1, 2, 0, 1], "positions"),
        ([1_209_600_000, 1_209_686_400, 1_209_772_800, 1_209_600_000, 1_209_600_000], "days"),
        ([1_200_000_000, 1_200_000_060, 1_200_000_120, 1_200_000_000, 1_200_000_060], "minutes"),
        ([1_195_000_001, 1_195_000_060, 1_195_000_120, 1_200_000_005, 1_200_000_060], "seconds"),
        ([1_200_000_000_000, 1_200_000_060_000, 1_200_000_120_000, 1_200_000_000_000, 1_200_000_060_000], "minutes"),
        ([0.5, 1.5, 2.25, 0.0, 1.0], "seconds"),
    ],
)
def test_clock_is_the_unit_of_all_times(times, clock):
    card = describe_events(np.array([3, 3, 3, 4, 4]), np.arange(5), np.array(times, dtype=float))
    assert card["clock"] == clock


def test_without_times_there_is_no_clock():
    card = describe_events(np.array([1, 1]), np.array([1, 1]), None)
    assert (card["clock"], card["ties"], card["repeats"]) == ("none", None, 0.5)


def test_events_that_lie_seconds_apart_are_no_ties(here, built):
    """RecBole's float32 rounds today's times to multiples of 128 seconds; the card is made before that."""
    start = 1_700_000_001.0
    events = [(f"u{user}", f"i{item}", start + 5 * item + user) for user in range(6) for item in range(6)]
    events += [(f"u{user}", f"i{user}", start + 25 + user) for user in range(3)]
    write_dataset(here / "data", "clocked", events)
    cards = [data_card(built(model, "clocked")[2]) for model in ("LLMInterest", "GRU4Rec")]
    assert cards[0] == cards[1]
    assert (cards[0]["clock"], cards[0]["events"]) == ("seconds", 39)
    assert cards[0]["ties"] == pytest.approx(3 / 39)
    assert cards[0]["repeats"] == pytest.approx(3 / 39)
