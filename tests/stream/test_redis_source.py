"""Events from a stream in Redis: each once, over stops, and what is said of what cannot be read."""

from __future__ import annotations

import json
from itertools import islice

import pytest
import redis
from streams import later, redis_server

from recbole_llm_interest.cli.follow import main
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.io.redis_streams import RedisAddress
from recbole_llm_interest.stream.redis_source import RedisStream


@pytest.fixture
def address():
    """Of a stream of a server."""
    with redis_server() as server:
        yield f"{server}?stream=shop"


def add(address, entries):
    """Append entries to the stream; texts as they are."""
    with redis.Redis.from_url(RedisAddress.parse(address).url, protocol=2) as server:
        for entry in entries:
            server.xadd("shop", {"event": entry if isinstance(entry, str) else json.dumps(entry)})


def stored(follower):
    events = follower.store.events(0)
    return [(event.user, event.item, event.time) for event in events]


def test_every_event_is_read_once_over_stops(follow, address):
    """Reading ends after each few chunks as if the process was killed, between reading and storing as well."""
    events = later(users=10, steps=8)
    add(address, events)
    source = RedisStream(RedisAddress.parse(address), ends=True)

    class Stopping:
        def chunks(self, position_of, most):
            yield from islice(source.chunks(position_of, most), 3)

    found = []
    for _ in range(4):
        _, found = follow(Stopping(), stored, batch=10)
    assert found == [(event["user_id"], event["item_id"], event["timestamp"]) for event in events]


def test_new_entries_are_waited_for(follow, address):
    """The stream does not exist yet when reading begins."""
    source = RedisStream(RedisAddress.parse(address))
    chunks = source.chunks(lambda _: None, 10)
    assert next(chunks).lines == []
    add(address, later(users=3, steps=1))
    found = next(chunk for chunk in chunks if chunk.lines)
    assert [json.loads(line)["user_id"] for line in found.lines] == ["u0", "u1", "u2"]
    add(address, later(users=2, steps=1))
    assert len(next(chunk for chunk in chunks if chunk.lines).lines) == 2


def test_entries_that_are_no_events_become_dead_letters(follow, address):
    add(address, ["hello", later(users=1, steps=1)[0]])
    with redis.Redis.from_url(RedisAddress.parse(address).url, protocol=2) as server:
        server.xadd("shop", {"user_id": "u1"})
    source = RedisStream(RedisAddress.parse(address), ends=True)
    found, letters = follow(source, lambda f: f.store.dead_letters.read_text().splitlines())
    assert (found["events"], found["refused"]) == (1, 2)
    assert [json.loads(letter)["line"] for letter in letters] == ["hello", "fields: user_id"]


def test_another_stream_under_the_name_is_an_error(address):
    add(address, later(users=1, steps=1))
    source = RedisStream(RedisAddress.parse(address), ends=True)
    with pytest.raises(DataError, match=r"was read to 99999999999999-5 before: it is another stream"):
        list(source.chunks(lambda _: "99999999999999-5", 10))


def test_a_server_that_is_not_there_is_said_in_one_line(here, tiny_checkpoint, capsys):
    words = [f"--checkpoint={tiny_checkpoint}", "--output=made", "--until_end"]
    assert main([*words, "--events=redis://:secret@127.0.0.1:1/0?stream=shop"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: redis://127.0.0.1:1/0?stream=shop cannot be read: ")
    assert "secret" not in line
    assert main([*words, "--events=redis://:secret@127.0.0.1:1/0"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "names no stream: write it as redis://HOST:PORT/0?stream=NAME" in line
    assert "secret" not in line


@pytest.mark.parametrize("address", [":secret@[::1", ":secret/more@localhost:6379/0", ":secret@localhost:port"])
def test_what_is_no_url_is_said_without_its_password(address):
    with pytest.raises(SettingsError, match=r"is no URL: write it as redis://HOST:PORT/0\?stream=NAME") as error:
        RedisAddress.parse(f"redis://{address}?stream=shop")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("option", ["maxlen=5", "socket_timeout=soon"])
def test_options_that_redis_does_not_know_are_said(address, option):
    source = RedisStream(RedisAddress.parse(f"{address}&{option}"), ends=True)
    with pytest.raises(DataError, match=r"shop has an option beside stream that redis-py cannot use"):
        list(source.chunks(lambda _: None, 10))


def test_databases_of_one_socket_have_positions_of_their_own():
    names = {RedisAddress.parse(f"unix:///run/redis.sock?db={number}&stream=shop").name for number in (0, 1)}
    assert len(names) == 2


@pytest.mark.parametrize("text", ["redis://localhost", "redis://localhost/0?stream=a&stream=b", "unix:///socket"])
def test_an_address_names_one_stream(text):
    with pytest.raises(SettingsError, match="names no stream"):
        RedisAddress.parse(text)
