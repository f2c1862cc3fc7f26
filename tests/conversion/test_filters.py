"""Filters keep what a naive loop keeps."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm_interest.conversion.filters import apply_filters, consecutive_repeats, core
from recbole_llm_interest.conversion.options import complete

pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60)
few_examples = settings(max_examples=100, deadline=None, derandomize=True, database=None)


def naive_core(events, least_of_user, least_of_item):
    while True:
        users, items = Counter(user for user, _ in events), Counter(item for _, item in events)
        kept = [(u, i) for u, i in events if users[u] >= least_of_user and items[i] >= least_of_item]
        if kept == events:
            return kept
        events = kept


@few_examples
@given(pairs, st.integers(0, 5), st.integers(0, 5))
def test_core_is_that_of_a_naive_loop(events, least_of_user, least_of_item):
    users, items = np.array(events).T
    kept = core(users, items, least_of_user, least_of_item)
    assert [event for event, is_kept in zip(events, kept, strict=True) if is_kept] == naive_core(
        events, least_of_user, least_of_item
    )


@few_examples
@given(pairs)
def test_consecutive_repeats_are_those_of_a_naive_loop(events):
    last, expected = {}, []
    for user, item in events:
        expected.append(last.get(user) == item)
        last[user] = item
    assert consecutive_repeats(*np.array(events).T).tolist() == expected


def table(events):
    users, items, times = zip(*events, strict=True)
    return pd.DataFrame({"user_id": pd.Categorical(users), "item_id": pd.Categorical(items), "timestamp": times})


def test_each_filter_counts_what_it_removed():
    events = [("a", "x", 1), ("a", "x", 1), ("a", "x", 2), ("a", "y", 3), ("b", "x", 4), ("b", "y", 5), ("c", "z", 6)]
    kept, removed = apply_filters(table(events), complete({"deduplicate": "consecutive", "min_length": 2, "k_core": 2}))
    assert kept.drop(columns="timestamp").astype(str).to_numpy().tolist() == [
        ["a", "x"],
        ["a", "y"],
        ["b", "x"],
        ["b", "y"],
    ]
    assert [str(each) for each in removed] == [
        "deduplicate=exact removed 1 event, 0 users, 0 items",
        "deduplicate=consecutive removed 1 event, 0 users, 0 items",
        "min_length=2 removed 1 event, 1 user, 1 item",
        "k_core=2 removed 0 events, 0 users, 0 items",
    ]


def test_core_leaves_no_user_below_min_length():
    events = [("a", "x", 1), ("a", "y", 2), ("a", "z", 3), ("b", "x", 4), ("b", "y", 5), ("b", "w", 6)]
    kept, _ = apply_filters(table(events), complete({"min_length": 3, "k_core": 2}))
    assert kept.empty
