"""The data set with new items: what is left of it can be compared on."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter

import pytest
from conftest import REPOSITORY, write_dataset

from recbole_llm_interest.runner import run


@pytest.fixture
def held_out(here):
    """What the script printed of a data set of short histories, and the lines before and after: (user, item) each."""
    chance = random.Random(1)
    events = [
        (f"u{user}", f"i{item}", 100.0 * user + step)
        for user in range(40)
        for step, item in enumerate(chance.sample(range(12), k=4 + user % 4))
    ]
    write_dataset(here / "data", "short", events)
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "hold_out_items.py"), "--dataset=short",
               "--data_path=data", "--output=data", "--share=0.3"]  # fmt: skip
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    lines = (here / "data" / "short-new-items" / "short-new-items.inter").read_text().splitlines()[1:]
    return done.stdout, [event[:2] for event in events], [tuple(line.split("\t")[:2]) for line in lines]


def test_every_kind_of_model_is_tested_on_the_same_events(held_out, settings):
    first, second = run(["GRU4Rec", "Pop"], "short-new-items", config_dict=settings)
    assert first.test_digest == second.test_digest


def test_held_out_items_are_last_events_only_and_the_dropped_are_counted(held_out):
    said, before, after = held_out
    counts = json.loads(said.splitlines()[-1])
    left = Counter(user for user, _ in after)
    assert min(left.values()) == 4
    assert counts["users_dropped"] == 40 - len(left) > 0
    assert f"; {counts['users_dropped']} users with fewer than 4 events left were dropped" in said
    last = dict(after)
    new = {item for _, item in before} - {item for place, (_, item) in enumerate(after[:-1])
                                          if after[place + 1][0] == after[place][0]}  # fmt: skip
    assert len(new) == counts["items_held_out"] == 3
    assert sum(item in new for item in last.values()) == counts["tested_events"] > 0
    assert counts["events"] == len(after)
