"""New weights while a stream is followed: what they learn, and what becomes of a training that fails or is ended."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from streams import later, write_events

from recbole_llm_interest.cli import follow as follow_command
from recbole_llm_interest.cli import forget
from recbole_llm_interest.errors import DataError, StorageError
from recbole_llm_interest.io.event_store import EventStore
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.training import config

TRAINING = {"epochs": 8, "learning_rate": 0.02, "train_batch_size": 32}
pytestmark = pytest.mark.slow


def expected_state(recommender, events, user):
    own = [event for event in events if event["user_id"] == user]
    state = recommender.start(user)
    for event in own:
        state = recommender.update(state, event["item_id"], event["timestamp"])
    return state


def test_new_weights_have_learned_the_stream(follow, here):
    events = later(users=24, steps=20)
    path = write_events(here / "events.jsonl", events)
    found, _ = follow(path, refresh_every=480, settings=TRAINING)
    assert found["refreshes"] == 1
    assert found["events"] == 480

    more = [{**event, "timestamp": event["timestamp"] + 1e5} for event in later(users=24, steps=4)]
    write_events(path, more)
    found, (ranks, states, recommender) = follow(
        path,
        lambda follower: (
            follower.store.ranks[-len(more) :],
            {
                user: follower.recommender.from_bytes(data)
                for user, data in follower.store.states(["u1", "u5"], follower.recommender.version).items()
            },
            follower.recommender,
        ),
        settings=TRAINING,
    )
    first = ranks[24:]  # the round begins anew, which nobody could know
    assert sum(rank == 1 for rank in first) > 0.9 * len(first)
    for user, kept in states.items():
        torch.testing.assert_close(kept.interest, expected_state(recommender, more, user).interest, rtol=0, atol=1e-5)


def test_states_go_on_with_new_weights_while_events_come(follow, here, shop):
    """Events that come while weights are trained are not in the new model's data, and are in its states."""
    events = later(users=24, steps=12)
    path = write_events(here / "events.jsonl", events)

    def states(follower):
        stored = follower.store.states([f"u{n}" for n in range(24)], follower.recommender.version)
        return follower.model, follower.recommender, stored

    found, (model, recommender, stored) = follow(path, states, refresh_every=100, settings=TRAINING)
    assert found["refreshes"] >= 1
    assert model.until < len(events)
    for user in ("u0", "u7"):
        known = [event for event in events[model.until :] if event["user_id"] == user]
        expected = expected_state(recommender, known, user)
        assert len(expected.items[0]) == 9 + 12
        if user in stored:
            kept = recommender.from_bytes(stored[user])
            torch.testing.assert_close(kept.interest, expected.interest, rtol=0, atol=1e-5)


def test_a_training_that_fails_is_said_and_the_former_weights_stay(follow, here, caplog):
    path = write_events(here / "events.jsonl", later(users=24, steps=10))
    with caplog.at_level(logging.WARNING):
        found, model = follow(path, lambda f: f.model, refresh_every=100, settings={**TRAINING, "time_split": None})
    assert found["refreshes"] == 0
    assert model.number == 0
    warnings = [record.getMessage() for record in caplog.records if "refresh 1 failed" in record.getMessage()]
    assert len(warnings) == 1  # the next one waits for more events
    assert "replay needs a split by time" in warnings[0]
    assert "training.log" in warnings[0]
    found, _ = follow(path, refresh_every=100, settings=TRAINING)  # nothing new, so nothing to learn
    assert found["refreshes"] == 0
    more = [{**event, "timestamp": event["timestamp"] + 1e5} for event in later(users=24, steps=10)]
    found, model = follow(write_events(path, more), lambda f: f.model, refresh_every=100, settings=TRAINING)
    assert found["refreshes"] >= 1
    assert model.until > len(more)


def test_data_that_cannot_grow_is_said_before_anything_is_read(follow, here, shop, monkeypatch):
    monkeypatch.setattr(config.recbole, "__file__", str(shop()[1]["data_path"]) + "/recbole.py")
    path = write_events(here / "events.jsonl", later(users=2, steps=2))
    with pytest.raises(DataError, match="part of the RecBole installation"):
        follow(path, refresh_every=1)


def command(checkpoint, places, *more):
    words = [f"--{name}={value}" for name, value in {**places, **TRAINING}.items()]
    return [f"--checkpoint={checkpoint}", "--output=stream", *words, *more]


def started(here, *words):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "recbole_llm_interest.cli.follow", *words],
        cwd=here, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(condition, seconds=90.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def stored(here):
    """Number of events in the store; 0 before it has any tables."""
    try:
        with EventStore(here / "stream", writes=False) as store:
            return store.event_count
    except StorageError:
        return 0


def test_a_killed_process_loses_no_event_and_no_training(here, shop):
    checkpoint, places = shop()
    events = later(users=24, steps=12)
    path = write_events(here / "events.jsonl", events)
    words = command(checkpoint, places, f"--events={path}", "--refresh_every=200", "--batch=10")
    process = started(here, *words)
    wait_for(lambda: (here / "stream" / "refresh-1" / "training.log").exists())
    process.send_signal(signal.SIGKILL)
    process.communicate()

    done = started(here, *words, "--until_end", "--json")
    output, errors = done.communicate(timeout=120)
    assert done.returncode == 0, errors
    found = json.loads(output.splitlines()[-1])
    assert "failed" not in errors, errors
    assert found["refreshes"] >= 1
    with EventStore(here / "stream") as store:
        assert [(one.user, one.item, one.time) for one in store.events()] == [tuple(one.values()) for one in events]
    with EventStore(here / "stream") as store:
        assert store.fact("refresh") is None


def test_a_stopped_process_says_so_and_goes_on(here, shop):
    checkpoint, places = shop()
    words = command(checkpoint, places, "--events=-", "--batch=5")
    process = started(here, *words)
    events = later(users=10, steps=4)
    for event in events[:20]:
        process.stdin.write(json.dumps(event) + "\n")
    process.stdin.flush()
    wait_for(lambda: stored(here) == 20)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "the same command goes on behind it" in errors.splitlines()[-1]

    again = started(here, *words)
    output, errors = again.communicate("".join(json.dumps(event) + "\n" for event in events[20:]), timeout=60)
    assert again.returncode == 0, errors
    assert "20 events, 0 refused, 0 repeated, " in output
    assert stored(here) == 40


def test_forget_finds_a_stream_and_what_it_trained(follow, here, shop, capsys):
    checkpoint, places = shop(seed=5)  # a data set of its own, which loses users
    refused = [{"user_id": "u3", "item_id": "i1", "timestamp": 1.0}, {"user_id": "u3"}, "other"]
    path = write_events(here / "events.jsonl", [*later(users=24, steps=10), *refused])
    follow(path, refresh_every=240, settings=TRAINING, shop={"seed": 5})
    words = ["--dataset=cycle", *(f"--{name}={value}" for name, value in places.items()), "--user=u3"]
    forget.main([*words, f"--checkpoint_dir={checkpoint.parent}", "--checkpoints", "--results", "--json"])
    left = json.loads(capsys.readouterr().out.splitlines()[-1])["left"]
    places_of_this_test = (str(here), str(checkpoint.parent.parent))
    assert [one for one in left if one["file"].startswith(places_of_this_test)] == []
    with EventStore(here / "stream") as store:
        assert all(event.user != "u3" for event in store.events())
        assert store.event_count == 240
        ((states,),) = store._rows("select count(*) from states where user = 'u3'")
        assert states == 0
    assert b"u3" not in (here / "stream" / "events.sqlite").read_bytes().replace(b"u3\x00", b"")
    assert [json.loads(line)["line"] for line in (here / "stream" / "dead_letters.jsonl").open()] == ["other"]
    (grown,) = (here / "stream").rglob("cycle.inter")
    assert not any(line.startswith("u3\t") for line in grown.read_text().splitlines())
    assert list((here / "stream").rglob("LLMInterest-*.safetensors")) == []


def test_the_command_prints_windows_and_where_results_are(here, shop, capsys):
    checkpoint, places = shop()
    path = write_events(here / "events.jsonl", [*later(users=24, steps=10), "nonsense"])
    words = command(checkpoint, places, f"--events={path}", "--until_end", "--window=100")
    assert follow_command.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["100 evaluated", "200 evaluated"]
    assert re.fullmatch(r"240 events, 1 refused, 0 repeated, [\d,]+ a second; 0 refreshes", lines[2])
    assert lines[3].startswith("240 evaluated before they were read: NDCG@10 0.")
    assert lines[4].endswith("files: stream/events.sqlite, stream/dead_letters.jsonl, stream/evaluation.json")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--events=absent.jsonl"], "events absent.jsonl does not exist"),
        (["--events=-", "--until_end"], "standard input ends by itself"),
        (["--events=-", "--batch=0"], "--batch=0: give 1 or more"),
        (["--events=-", "--evaluate=2"], "from 0 to 1"),
        (["--events=-", "--key="], "--key is empty"),
        (["--events=-", "--refresh_every=-1"], "give 0 or more"),
        (["--events=-", "--epocs=3"], "epochs"),
    ],
)
def test_mistakes_are_said_at_once(here, shop, capsys, words, message):
    checkpoint, _ = shop()
    assert follow_command.main([f"--checkpoint={checkpoint}", "--output=stream", *words]) == 2
    assert message in capsys.readouterr().err
    assert not Path("stream").exists()


def test_the_new_model_is_served_alone(follow, here, shop):
    path = write_events(here / "events.jsonl", later(users=24, steps=10))
    found, _ = follow(path, refresh_every=240, settings=TRAINING)
    served = Recommender.load(found["checkpoint"])  # its data are where its manifest says
    assert len(served.start("u0").items[0]) == 9 + 10
