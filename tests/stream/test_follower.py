"""Following a stream: states, evaluation, each event once, and what cannot be read."""

from __future__ import annotations

import json
import os
import random
import threading

import pytest
import torch
from conftest import cycle_events
from streams import later, write_events

from recbole_llm_interest.errors import DataError, RequestError, StorageError
from recbole_llm_interest.io.event_store import EventBatch, EventStore, StoredEvent
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.recommender.live_states import LiveStates
from recbole_llm_interest.stream.events import MAX_LINE_BYTES, EventReading
from recbole_llm_interest.stream.follower import Follower, FollowOptions
from recbole_llm_interest.stream.sources import GrowingFile, StandardInput


def shuffled(events, seed=0):
    """The events of users in their order, with users mixed up."""
    queues = {}
    for event in events:
        queues.setdefault(event["user_id"], []).append(event)
    draw, mixed = random.Random(seed), []
    while queues:
        user = draw.choice(sorted(queues))
        mixed.append(queues[user].pop(0))
        if not queues[user]:
            del queues[user]
    return mixed


def full_pass(recommender, events, user):
    """The state of a user by one pass over the recorded and the later events."""
    state = recommender.start(user) if user in recommender.users else recommender.start(history=[])
    own = [event for event in events if event["user_id"] == user and event["item_id"] in recommender.items]
    recorded = [recommender.items.tokens[row] for row in state.items[0]]
    times = [*state.times[0].tolist(), *(event["timestamp"] for event in own)]
    return recommender.start(history=[*recorded, *(event["item_id"] for event in own)], at=times)


def test_columns_may_have_the_names_of_parameters(follow, here):
    """A column ``state``, which the model reads, is no state."""
    codes = [f"{u}\t{i}\t{t!r}\t{'NV' if n % 2 else 'TX'}\t{n % 3}" for n, (u, i, t) in enumerate(cycle_events())]
    header = "user_id:token\titem_id:token\ttimestamp:float\tstate:token\tat:token"
    chosen = {"event_fields": ("state", "at"), "load_col": None}
    events = [{**event, "state": "NV", "at": 1} for event in later(users=4, steps=2)]

    def compared(follower):
        for user, state in stored_states(follower, ["u0", "u1"]).items():
            expected = follower.recommender.start(user)
            for event in events:
                if event["user_id"] == user:
                    content = {"state": "NV", "at": 1}
                    expected = follower.recommender.update(
                        expected, event["item_id"], event["timestamp"], columns=content
                    )
            torch.testing.assert_close(state.interest, expected.interest, rtol=0, atol=1e-5)

    found, _ = follow(write_events(here / "e.jsonl", events), compared, shop={**chosen, "lines": (header, *codes)})
    assert (found["events"], found["refused"]) == (8, 0)


def stored_states(follower, users):
    data = follower.store.states(users, follower.recommender.version)
    return {user: follower.recommender.from_bytes(data[user]) for user in users}


@pytest.mark.parametrize("tracker", ["lstm", "transformer"])
@pytest.mark.parametrize("batch", [1, 7, 256])
def test_states_equal_a_full_pass(follow, here, tracker, batch):
    events = shuffled([*later(users=30, steps=6), {"user_id": "u3", "item_id": "unheard of", "timestamp": 2e5}])
    users = sorted({event["user_id"] for event in events})

    def compared(follower):
        for user, state in stored_states(follower, users).items():
            expected = full_pass(follower.recommender, events, user)
            torch.testing.assert_close(state.interest, expected.interest, rtol=0, atol=1e-5)
            assert state.events.items.tolist() == expected.events.items.tolist()
            assert state.events.times.tolist() == expected.events.times.tolist()
        return True

    found, is_compared = follow(
        write_events(here / "events.jsonl", events), compared, batch=batch, shop={"tracker": tracker}
    )
    assert is_compared
    assert (found["events"], found["unknown_items"], found["refused"]) == (len(events), 1, 0)


def test_an_event_is_ranked_before_it_is_read(follow, here, shop):
    events = shuffled(later(users=26, steps=4))
    _, ranks = follow(
        write_events(here / "events.jsonl", events), lambda follower: [*follower.store.events()], batch=50
    )
    checkpoint, places = shop()
    recommender = Recommender.load(checkpoint, **places)
    states = {}
    for event, stored in zip(events, ranks, strict=True):
        user, item = event["user_id"], event["item_id"]
        state = states.get(user) or recommender.start_each([user])[0]
        best = [found for found, _ in recommender.recommend(state, k=8)]
        assert stored.rank == (best.index(item) + 1 if len(state.items[0]) else None)
        states[user] = recommender.update(state, item, event["timestamp"])


def test_the_means_are_those_of_all_ranks(follow, here):
    windows = []

    def means(follower):
        return torch.tensor(follower.store.ranks, dtype=torch.double)

    events = write_events(here / "events.jsonl", later(users=24, steps=10))
    found, ranks = follow(events, means, window=50)
    gains = (1 / torch.log2(ranks + 1)).where(ranks > 0, 0.0)
    assert found["ndcg@10"] == pytest.approx(float(gains.mean()))
    written = json.loads((here / "stream" / "evaluation.json").read_text())
    windows = [window["ndcg"] for window in written["windows"]]
    assert windows == pytest.approx(gains[: len(windows) * 50].reshape(-1, 50).mean(dim=1).tolist())


def test_a_share_is_evaluated(follow, here):
    found, _ = follow(write_events(here / "events.jsonl", later(users=20, steps=10)), evaluate=0.25)
    assert found["evaluated"] == 50
    assert found["events"] == 200


def test_it_goes_on_where_it_ended(follow, here):
    events = shuffled(later(users=20, steps=6))
    path = write_events(here / "events.jsonl", events[:70])
    follow(path)
    write_events(path, events[70:])
    found, stored = follow(path, lambda follower: [*follower.store.events()])
    assert found["events"] == 50
    assert [(one.user, one.item, one.time) for one in stored] == [tuple(event.values()) for event in events]


def test_a_batch_is_written_whole_or_not_at_all(follow, here, monkeypatch):
    events = shuffled(later(users=20, steps=6))
    path = write_events(here / "events.jsonl", [*events[:60], "no event", *events[60:]])
    put = EventStore._put
    calls = []

    def die(self, name, value):
        calls.append(name)
        if name.startswith("position") and sum(call.startswith("position") for call in calls) == 3:
            raise KeyboardInterrupt
        put(self, name, value)

    monkeypatch.setattr(EventStore, "_put", die)
    with pytest.raises(KeyboardInterrupt):
        follow(path, batch=25)
    monkeypatch.undo()
    found, stored = follow(path, lambda follower: [*follower.store.events()], batch=25)
    assert [(one.user, one.item, one.time) for one in stored] == [tuple(event.values()) for event in events]
    assert found["events"] == len(events) - 50
    assert len((here / "stream" / "dead_letters.jsonl").read_text().splitlines()) == 1


def test_what_cannot_be_read_is_kept_with_the_reason(follow, here):
    path = here / "events.jsonl"
    path.write_bytes(
        b"\n".join(
            [
                b'{"user_id": "u1", "item_id": "i1", "timestamp": 200000}',
                b"hello",
                b'["u1", "i1", 5]',
                b'{"user_id": "u1", "timestamp": 200001}',
                b'{"user_id": "u1", "item_id": "i1"}',
                b'{"user_id": "u1", "item_id": "i1", "timestamp": [1]}',
                b'{"user_id": "u1", "item_id": "i1", "timestamp": NaN}',
                b'{"user_id": "a\\tb", "item_id": "i1", "timestamp": 200002}',
                b'{"user_id": "\\ud800", "item_id": "i1", "timestamp": 200002}',
                b'{"user_id": "u1", "item_id": "i1", "timestamp": 100000}',
                b'{"user_id": "' + b"x" * MAX_LINE_BYTES + b'"}',
                b"\xff\xfe",
                b"",
                b'{"user_id": "u1", "item_id": "i2", "timestamp": 200003}',
            ]
        )
    )
    found, stored = follow(path, lambda follower: [*follower.store.events()])
    assert [one.item for one in stored] == ["i1", "i2"]  # the last line has no end, and is read at the file's
    letters = [json.loads(line) for line in (here / "stream" / "dead_letters.jsonl").read_text().splitlines()]
    assert found["refused"] == len(letters) == 11
    reasons = " ".join(letter["reason"] for letter in letters)
    for part in ("not JSON", "no JSON object", "no 'item_id'", "no 'timestamp'", "no id", "older than", "longer than"):
        assert part.replace("no JSON", "not a JSON") in reasons
    assert max(len(letter["line"]) for letter in letters) <= 2000


def test_an_event_with_a_key_is_read_once(follow, here):
    events = [{**event, "event": f"e{n}"} for n, event in enumerate(later(users=10, steps=3))]
    path = write_events(here / "events.jsonl", [*events[:20], *events[15:20], *events[:5]])
    found, _ = follow(path, key="event")
    assert (found["events"], found["repeated"]) == (20, 10)
    write_events(path, events)
    found, stored = follow(path, lambda follower: [*follower.store.events()], key="event")
    assert (found["events"], found["repeated"]) == (10, 20)
    assert [one.key for one in stored] == [f"e{n}" for n in range(30)]


def test_other_columns_are_kept_for_training(follow, here):
    event = {"user_id": "u1", "item_id": "i1", "timestamp": 2e5, "rating": 4, "words": ["a", "b"]}
    _, stored = follow(write_events(here / "events.jsonl", [event]), lambda follower: [*follower.store.events()])
    assert stored[0].columns == {"rating": 4, "words": ["a", "b"]}


def unread(_):
    """The position of a source that was not read before."""
    return


def test_a_file_that_grows_is_read_as_it_grows(here):
    path = write_events(here / "events.jsonl", ["1", "2"])
    chunks = GrowingFile(path).chunks(unread, most=10)
    first = next(chunks)
    assert (first.lines, first.position) == ([b"1", b"2"], "4")
    assert next(chunks).lines == []
    with path.open("a") as file:
        file.write("3\n4")
        file.flush()
        assert next(chunks) == ([b"3"], first.source, "6")
        assert next(chunks).lines == []  # the line has no end yet
        file.write("5\n")
        file.flush()
        assert next(chunks) == ([b"45"], first.source, "9")
    assert next(GrowingFile(path).chunks({first.source: "6"}.get, most=10)).lines == [b"45"]


def test_a_file_without_a_first_line_is_waited_for(here):
    path = here / "events.jsonl"
    path.write_text("")
    chunks = GrowingFile(path).chunks(unread, most=10)
    assert next(chunks).lines == []
    path.write_text("1")
    assert next(chunks).lines == []
    path.write_text("12\n")
    assert next(chunks).lines == [b"12"]


def test_a_file_that_was_cut_is_refused(here):
    path = write_events(here / "events.jsonl", ["1"])
    with pytest.raises(DataError, match="another file"):
        next(GrowingFile(path).chunks(lambda _: "100", most=10))


def test_standard_input_waits_for_its_reader():
    reading, writing = os.pipe()
    lines = [f"line {n}" for n in range(200_000)]
    written = []

    def write():
        with os.fdopen(writing, "w") as file:
            for line in lines:
                file.write(line + "\n")
                written.append(line)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    chunks = StandardInput(reading).chunks(unread, most=1000)
    first = next(chunk for chunk in chunks if chunk.lines)
    writer.join(0.5)
    assert writer.is_alive()  # the pipe is full: what is not read is not in memory
    assert len(written) < len(lines) / 4
    read = [line.decode() for chunk in [first, *chunks] for line in chunk.lines]
    assert read == lines
    os.close(reading)


def test_another_model_takes_a_stream_over(follow, here, caplog):
    events = later(users=26, steps=4)
    path = write_events(here / "events.jsonl", events[:52])
    follow(path)
    write_events(path, events[52:])

    def compared(follower):
        for user, state in stored_states(follower, ["u1", "u25"]).items():
            expected = full_pass(follower.recommender, events, user)
            torch.testing.assert_close(state.interest, expected.interest, rtol=0, atol=1e-5)

    found, _ = follow(path, compared, shop={"tracker": "gru"})
    assert found["events"] == 52
    assert "the stream's events come on top" in caplog.text


def test_each_source_has_a_position(follow, here):
    monday = write_events(here / "monday.jsonl", later(users=5, steps=2))
    tuesday = write_events(here / "tuesday.jsonl", [{**one, "timestamp": 3e5} for one in later(users=5, steps=1)])
    assert [follow(path)[0]["events"] for path in (monday, tuesday, monday, tuesday)] == [10, 5, 0, 0]
    monday.write_text("")
    write_events(monday, [{**one, "timestamp": 4e5} for one in later(users=6, steps=1)])  # another file of that name
    assert follow(monday)[0]["events"] == 6


def test_an_unfinished_last_line_is_left(follow, here):
    events = later(users=3, steps=1)
    path = write_events(here / "events.jsonl", events[:2])
    last = json.dumps(events[2])
    with path.open("a") as file:
        file.write(last[:20])
    assert follow(path)[0]["events"] == 2
    with path.open("a") as file:
        file.write(last[20:])
    found, _ = follow(path)
    assert (found["events"], found["refused"]) == (1, 0)


def test_a_file_that_is_rotated_is_read_to_its_end_and_said(here):
    path = write_events(here / "events.jsonl", ["1"])
    chunks = GrowingFile(path).chunks(unread, most=10)
    first = next(chunks)
    write_events(path, ["2"])
    path.rename(here / "events.jsonl.1")
    write_events(path, ["3"])
    assert next(chunks) == ([b"2"], first.source, "4")  # not a position in the file that has the name now
    with pytest.raises(DataError, match="was replaced"):
        next(chunks)
    new = next(GrowingFile(path).chunks({first.source: "4"}.get, most=10))
    assert new.lines == [b"3"]
    assert new.source != first.source


def test_a_stream_has_one_process(follow, here, shop):
    path = write_events(here / "events.jsonl", later(users=4, steps=2))
    follow(path)
    checkpoint, places = shop()
    again = Follower.opened(checkpoint, here / "stream", FollowOptions(), places)
    with again, pytest.raises(StorageError, match="in use"):
        follow(path)


@pytest.mark.parametrize("content", [b"no database", b""])
def test_a_damaged_store_is_named(here, content):
    (here / "stream").mkdir()
    (here / "stream" / "events.sqlite").write_bytes(content)
    if content:
        with pytest.raises(DataError, match=r"events\.sqlite cannot be read"):
            EventStore(here / "stream")
    else:
        EventStore(here / "stream").close()  # an empty file is a new one


def test_a_store_of_another_version_is_refused(here):
    with EventStore(here / "stream") as store:
        store._database.execute("pragma user_version = 99")
    with pytest.raises(DataError, match="another version"):
        EventStore(here / "stream")


def test_a_full_disk_is_said_and_nothing_is_lost(here):
    with EventStore(here / "stream") as store:
        store.write(EventBatch("file", "1", "model", [StoredEvent("u1", "i1", 1.0)], {"u1": b"state"}))
        (pages,) = store._database.execute("pragma page_count").fetchone()
        store._database.execute(f"pragma max_page_count = {pages}")
        large = EventBatch("file", "2", "model", [StoredEvent("u1", "i1", 2.0)], {"u1": bytes(1_000_000)}, ["letter"])
        with pytest.raises(StorageError, match="full"):
            store.write(large)
        assert (store.position("file"), store.event_count) == ("1", 1)
        assert store.states(["u1"], "model") == {"u1": b"state"}
    with EventStore(here / "stream") as store:
        assert store.dead_letters.read_text() == ""


def test_states_that_leave_memory_come_back(here, shop):
    checkpoint, places = shop()
    recommender = Recommender.load(checkpoint, **places)
    reading = EventReading("user_id", "item_id", "timestamp", None, None)
    events = [reading.read(json.dumps(event).encode()) for event in later(users=6, steps=3)]
    with EventStore(here / "stream") as store:
        states = LiveStates(recommender, store, most_users=2)
        for number, event in enumerate(events):
            states.advance([event], [False])
            stored = [StoredEvent(event.user, event.item, event.time)]
            store.write(EventBatch("file", str(number), recommender.version, stored, states.packed([event.user])))
            states.trim()
        assert len(states) == 2
        data = store.states([f"u{n}" for n in range(6)], recommender.version)
    plain = later(users=6, steps=3)
    for user, packed in data.items():
        expected = full_pass(recommender, plain, user)
        torch.testing.assert_close(recommender.from_bytes(packed).interest, expected.interest, rtol=0, atol=1e-5)


def test_times_may_be_dates_only_if_the_data_set_has_a_unit():
    line = b'{"user_id": "u1", "item_id": "i1", "timestamp": "2026-12-01"}'
    with pytest.raises(RequestError, match="give a number"):
        EventReading("user_id", "item_id", "timestamp", None, None).read(line)
    assert EventReading("user_id", "item_id", "timestamp", None, "s").read(line).time == 1796083200
