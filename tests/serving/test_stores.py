"""The stores of a service: each keeps the same promises."""

from __future__ import annotations

import random
import threading

import pytest
from streams import redis_server

from recbole_llm_interest.errors import SettingsError, StorageError
from recbole_llm_interest.io.event_store import StoredEvent
from recbole_llm_interest.io.shared_event_store import Append, CatalogChange
from recbole_llm_interest.serving.stores import check_store, open_store

SHARED = ["folder", "redis"]


@pytest.fixture
def address(request, tmp_path):
    """The address of a store of the kind that the test asks for."""
    if request.param == "redis":
        with redis_server() as server:
            yield f"{server}?stream=shop"
    else:
        yield {"folder": str(tmp_path / "store"), "memory": "memory"}[request.param]


def appended(store, user, item="i1", key=None, time=1.0, seen=None):
    """Store one event of a user, who has been seen as the store has them."""
    seen = store.last_numbers([user])[user] if seen is None else seen
    event = StoredEvent(user, item, time, {"review": "good"}, key=key)
    return store.append(Append([event], {user: item.encode()}, "model", {user: seen}))


every_store = pytest.mark.parametrize("address", ["memory", *SHARED], indirect=True)
shared_store = pytest.mark.parametrize("address", SHARED, indirect=True)


@every_store
def test_what_was_stored_is_read(address):
    store = open_store(address)
    for item in ("i1", "i2"):
        assert not appended(store, "u1", item).stale
    assert [(one.item, one.columns) for one in store.events_of(["u1", "u2"], 0)["u1"]] == [
        ("i1", {"review": "good"}),
        ("i2", {"review": "good"}),
    ]
    first, last = store.last_numbers(["u1"])["u1"] - 1, store.last_numbers(["u1"])["u1"]
    assert [one.item for one in store.events_of(["u1"], first)["u1"]] == ["i2"]
    assert store.events_of(["u1"], last) == {}
    assert store.states(["u1", "u2"], "model") == {"u1": b"i2"}
    assert store.states(["u1"], "another model") == {}
    assert store.last_numbers(["u2", "u1"]) == {"u2": 0, "u1": last}
    store.close()


@every_store
def test_nothing_overwrites_what_it_has_not_seen(address):
    store = open_store(address)
    appended(store, "u1")
    assert appended(store, "u1", "i2", seen=0).stale == {"u1"}
    assert store.states(["u1"], "model") == {"u1": b"i1"}
    assert len(store.events_of(["u1"], 0)["u1"]) == 1
    store.close()


@every_store
def test_one_stale_user_does_not_hold_up_another(address):
    store = open_store(address)
    appended(store, "u1")
    events = [StoredEvent("u1", "i2", 1.0), StoredEvent("u2", "i3", 1.0)]
    done = store.append(Append(events, {"u1": b"1", "u2": b"2"}, "model", {"u1": 0, "u2": 0}))
    assert (done.stale, list(done.numbers)) == ({"u1"}, ["u2"])
    assert store.states(["u1", "u2"], "model") == {"u1": b"i1", "u2": b"2"}
    store.close()


@every_store
def test_a_key_counts_once(address):
    store = open_store(address)
    appended(store, "u1", key="order 1")
    assert store.known_keys(["order 1", "order 2"]) == {"order 1"}
    assert appended(store, "u1", "i2", key="order 1").stale == {"u1"}
    assert len(store.events_of(["u1"], 0)["u1"]) == 1
    store.close()


@every_store
def test_a_deleted_user_is_remembered_as_deleted(address):
    store = open_store(address)
    appended(store, "u1", key="order 1")
    number = store.last_numbers(["u1"])["u1"]
    assert store.delete_user("u1") == 2
    assert store.last_numbers(["u1"]) == {"u1": 0}
    assert (store.events_of(["u1"], 0), store.states(["u1"], "model")) == ({}, {})
    assert store.forgotten(["u1", "u2"]) == {"u1"}
    assert store.known_keys(["order 1"]) == set()
    appended(store, "u1")
    assert store.last_numbers(["u1"])["u1"] > number, "a number is not used again"
    store.close()


@every_store
def test_changes_of_the_catalog_have_an_order(address):
    store = open_store(address)
    assert store.change_catalog(CatalogChange("i9", {"title": "鲸"}), seen=0) == 1
    assert store.change_catalog(CatalogChange("i9", None), seen=0) is None
    assert store.change_catalog(CatalogChange("i9", None), seen=1) == 2
    assert store.catalog_changes(after=0) == [(1, CatalogChange("i9", {"title": "鲸"})), (2, CatalogChange("i9", None))]
    assert store.catalog_changes(after=1) == [(2, CatalogChange("i9", None))]
    assert store.catalog_number == 2
    store.close()


@shared_store
def test_writers_at_the_same_time_lose_nothing(address):
    """Four writers each add events of the same three users, and try again whenever another one was ahead."""
    users, each = ["u0", "u1", "u2"], 30

    def write(number):
        store, draw = open_store(address), random.Random(number)
        for step in range(each):
            user = draw.choice(users)
            while appended(store, user, f"{number}-{step}").stale:
                pass
        store.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = open_store(address)
    stored = store.events_of(users, 0)
    assert sorted(event.item for events in stored.values() for event in events) == sorted(
        f"{number}-{step}" for number in range(4) for step in range(each)
    )
    for user, events in stored.items():
        assert store.states([user], "model")[user] == events[-1].item.encode(), "the state is that of the last event"
        of_writer = [event.item for event in events if event.item.startswith("2-")]
        assert of_writer == sorted(of_writer, key=lambda item: int(item[2:])), "each writer's events keep their order"
    store.close()


def test_a_store_outlasts_its_process(tmp_path):
    store = open_store(str(tmp_path / "store"))
    appended(store, "u1")
    store.close()
    again = open_store(str(tmp_path / "store"))
    assert again.states(["u1"], "model") == {"u1": b"i1"}
    again.close()


def test_a_server_that_is_not_there_is_one_line():
    with pytest.raises(StorageError, match=r"Redis at redis://localhost:1.*: check that the server runs"):
        open_store("redis://:secret@localhost:1/0?stream=shop")


@pytest.mark.parametrize(
    ("address", "workers", "said"),
    [("", 1, "is empty"), ("memory", 2, "of one process"), ("redis://localhost:6379/0", 1, "names no stream")],
)
def test_addresses_that_name_no_store(address, workers, said):
    with pytest.raises(SettingsError, match=said):
        check_store(address, workers)
