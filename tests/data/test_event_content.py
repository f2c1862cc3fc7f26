"""Content of events: what a user wrote at one event tells of the next, and never of its own."""

from __future__ import annotations

import json
import random

import pytest
from conftest import SUBJECTS, write_dataset

from recbole_llm_interest.training.comparison import run


def write_messages(here, name, told):
    """Events of items at random; the text of each names the subject of the item that ``told`` gives for it."""
    chance = random.Random(1)
    events = [(f"u{user}", f"i{chance.randrange(8)}", float(100 * user + step)) for user in range(60) for step in range(9)]
    write_dataset(here / "data", name, events, {f"i{n}": subject for n, subject in enumerate(SUBJECTS)})
    content = here / "data" / name / "content"
    content.mkdir()
    following = [*events[1:], events[0]]
    with (content / "events.jsonl").open("w") as file:
        for event, after in zip(events, following, strict=True):
            user, item, time = event
            subject = SUBJECTS[int(told(event, after)[1][1:])]
            print(json.dumps({"user_id": user, "item_id": item, "timestamp": time, "note": subject}), file=file)


def next_item(event, after):
    return after


def own_item(event, after):
    return event


@pytest.mark.slow
@pytest.mark.parametrize(
    ("told", "context", "least", "most"),
    [(next_item, [], 0.9, 1.0), (own_item, [], 0.0, 0.6), (own_item, ["note"], 0.9, 1.0)],
    ids=["an event tells of the next", "an event does not tell of itself", "unless it is said to be known before"],
)
def test_what_an_event_tells_of(here, settings, told, context, least, most):
    write_messages(here, "notes", told)
    quick = {"text_encoder": "hashing", "epochs": 30, "stopping_step": 30, "learning_rate": 0.01}
    (result,) = run(["LLMInterest"], "notes", config_dict={**settings, **quick, "context_fields": context})
    assert least <= result.test["recall@3"] <= most
