"""What a service answers: states as one pass over all events gives them, whoever stored these."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from conftest import SUBJECTS

from recbole_llm_interest.cli import forget
from recbole_llm_interest.errors import RequestError, SettingsError, StorageError
from recbole_llm_interest.io.event_store import StoredEvent
from recbole_llm_interest.io.shared_event_store import Append, CatalogChange
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.serving.answers import ListRequest
from recbole_llm_interest.serving.options import ServeOptions
from recbole_llm_interest.serving.server import load_service
from recbole_llm_interest.serving.service import Service
from recbole_llm_interest.serving.stores import open_store

USERS = ["u1", "u2", "somebody new"]


@pytest.fixture
def service(shop, tmp_path):
    """Makes services over one store, each as a process of its own has it."""
    made = []

    def make(address=None, chosen=(), **options):
        checkpoint, places = shop(**dict(chosen))
        store = open_store(str(tmp_path / "store") if address is None else address)
        made.append(Service(Recommender.load(checkpoint, **places), store, **options))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


def events_of(steps, seed=0, start=1e6):
    """Events of the users, mixed up, in the order of their times."""
    draw = random.Random(seed)
    return [StoredEvent(draw.choice(USERS), f"i{draw.randrange(8)}", start + step) for step in range(steps)]


def expected(recommender, events, user):
    """The state of a user by one pass over the recorded and the stored events."""
    known = user in recommender.users
    state = recommender.start(user) if known else recommender.start(history=[])
    items = [*(recommender.items.tokens[row] for row in state.items[0]), *(e.item for e in events if e.user == user)]
    times = [*state.times[0].tolist(), *(e.time for e in events if e.user == user)]
    return recommender.start(user if known else None, history=items, at=times)


def assert_equal(service, events):
    for user in USERS:
        state = expected(service.recommender, events, user)
        (found,) = service.recommend([(user, ListRequest(k=8))])
        best = service.recommender.recommend(state, 8)
        assert [item for item, _ in found.best] == [item for item, _ in best]
        torch.testing.assert_close([s for _, s in found.best], [s for _, s in best], rtol=0, atol=1e-4)
        assert found.events == int(state.length[0])


@pytest.mark.slow
@pytest.mark.parametrize("tracker", ["lstm", "transformer"])
@pytest.mark.parametrize("cached", [1, 100])
def test_two_processes_serve_one_store(service, tracker, cached):
    """Events come to either process, in batches; both answer as one pass over all of them does."""
    services = [service(chosen={"tracker": tracker}, cached_users=cached) for _ in range(2)]
    events, draw, place = events_of(60), random.Random(1), 0
    while place < len(events):
        count = draw.randint(1, 7)
        batch = events[place : place + count]
        assert all(result.fault is None for result in draw.choice(services).add_events(batch))
        place += count
    for one in services:
        assert_equal(one, events)
        assert one.users_in_memory <= max(cached, 1)


@pytest.mark.slow
def test_a_process_that_is_behind_tries_again(service):
    """Another process stores an event of the user between a process's look at the store and its write."""
    slow, fast = service(), service()
    append, others = slow.store.append, iter([[StoredEvent("u1", "i2", 1e6)], [StoredEvent("u1", "i3", 1e6 + 1)]])

    def late_append(new):
        for events in [next(others, [])]:
            fast.add_events(events)
        return append(new)

    slow.store.append = late_append
    assert slow.add_events([StoredEvent("u1", "i4", 1e6 + 2)]) == [(False, None)]
    stored = slow.store.events_of(["u1"], 0)["u1"]
    assert [one.item for one in stored] == ["i2", "i3", "i4"]
    for one in (slow, fast):
        assert_equal(one, stored)


@pytest.mark.slow
def test_events_that_are_refused_or_repeated(service):
    one = service()
    events = [
        StoredEvent("u1", "i3", 1e6, key="a"),
        StoredEvent("u1", "unheard of", 1e6),
        StoredEvent("u1", "i4", 5.0),
        StoredEvent("u1", "i3", 1e6, key="a"),
        StoredEvent("u2", "i5", 1e6),
        StoredEvent("u2", "i5", 5.0, key="b"),
        StoredEvent("u2", "i5", 5.0, key="b"),
    ]
    results = one.add_events(events)
    assert [result.is_repeated for result in results] == [False, False, False, True, False, False, False]
    assert results[5] == results[6] == results[2], "what was refused is not said to be stored"
    assert results[1].fault == "unknown item 'unheard of': add it first"
    assert results[2].fault == "it is older than the user's last event"
    assert one.add_events([events[0]])[0].is_repeated
    assert_equal(one, [events[0], events[4]])


@pytest.mark.slow
def test_events_without_a_time_are_of_now(service, monkeypatch):
    one = service(clock=lambda: 5e5)
    monkeypatch.setattr(type(one.recommender), "time_unit", "s")
    one.add_events([StoredEvent("u1", "i3"), StoredEvent("u2", "i3", 6e5), StoredEvent("u2", "i4")])
    stored = one.store.events_of(["u1", "u2"], 0)
    assert [event.time for event in stored["u1"]] == [5e5]
    assert [event.time for event in stored["u2"]] == [6e5, 6e5], "not before the user's last event"


@pytest.mark.slow
def test_what_cannot_be_stored_changes_nothing(service):
    one = service()
    append = one.store.append
    one.add_events([StoredEvent("u1", "i3", 1e6)])

    def full(_):
        raise StorageError("the disk is full")

    one.store.append = full
    with pytest.raises(StorageError):
        one.add_events([StoredEvent("u1", "i5", 2e6)])
    one.store.append = append
    assert_equal(one, [StoredEvent("u1", "i3", 1e6)])


@pytest.mark.slow
def test_a_deleted_user_is_somebody_new_everywhere(service):
    here, there = service(), service()
    here.add_events([StoredEvent("u1", "i3", 1e6)])
    there.recommend([("u1", ListRequest(k=3))])
    assert there.delete_user("u1") == 2
    new = here.recommender.recommend(here.recommender.start(history=[]), 3)
    for one in (here, there, service()):
        (found,) = one.recommend([("u1", ListRequest(k=3))])
        assert (found.events, [item for item, _ in found.best]) == (0, [item for item, _ in new])
    here.add_events([StoredEvent("u1", "i3", 1e6)])
    (found,) = there.recommend([("u1", ListRequest(k=3))])
    assert found.events == 1


@pytest.mark.slow
def test_items_come_and_go_in_every_process(service):
    here, there = service(), service()
    here.change_catalog(CatalogChange("i9", {"title": "A film about whales and ships"}))
    there.follow_catalog()
    for one in (here, there, service()):
        assert "i9" in one.recommender.items
        assert one.add_events([StoredEvent(f"new {id(one)}", "i9", 1e6)])[0].fault is None
    with pytest.raises(RequestError, match="already in the catalog"):
        there.change_catalog(CatalogChange("i9", {"title": "another"}))
    there.change_catalog(CatalogChange("i1", None))
    with pytest.raises(RequestError, match="unknown item"):
        there.change_catalog(CatalogChange("i1", None))
    here.follow_catalog()
    for one in (here, there, service()):
        (found,) = one.recommend([("u1", ListRequest(k=8))])
        assert "i1" not in [item for item, _ in found.best]
        assert one.find_items("WHALES", 10) == [(i, one.recommender.label(i)) for i in ("i1", "i9") if i != "i1"]


@pytest.mark.slow
def test_two_processes_add_items_at_the_same_time(service):
    here, there = service(), service()
    change, once = here.store.change_catalog, iter([CatalogChange("i10", {"title": "Tea and bread"})])

    def late(own, seen):
        for other in once:
            there.change_catalog(other)
        return change(own, seen)

    here.store.change_catalog = late
    here.change_catalog(CatalogChange("i9", {"title": "Chess at night"}))
    there.follow_catalog()
    for one in (here, there):
        assert {"i9", "i10"} <= set(one.recommender.items.rows)
        assert Counter(one.recommender.items.tokens)["i10"] == 1


@pytest.mark.slow
def test_new_weights_replay_the_events(service):
    """A model of other weights has no states in the store: it makes them of recorded and stored events."""
    first = service()
    events = events_of(20)
    first.add_events(events)
    second = service(chosen={"epochs": 2})
    assert second.recommender.version != first.recommender.version
    assert_equal(second, events)
    more = events_of(5, seed=3, start=2e6)
    second.add_events(more)
    assert_equal(first, [*events, *more])


@pytest.mark.slow
def test_a_data_set_that_has_grown_by_stored_events_counts_them_once(service, shop):
    one, events = service(address="memory"), [StoredEvent("u1", "i3", 1e6), StoredEvent("u1", "i4", 2e6)]
    one.store.append(Append(events, {"u1": b"a state"}, "former weights", {"u1": 0}))
    checkpoint, _ = shop()
    path = checkpoint.parent.parent / "data" / "cycle" / "cycle.inter"
    before = path.read_text()
    try:
        path.write_text(f"{before}u1\ti3\t1000000.0\n")
        (found,) = one.recommend([("u1", ListRequest(k=3))])
    finally:
        path.write_text(before)
    (recorded,) = one.recommend([("u2", ListRequest(k=3))])
    assert found.events == recorded.events + 2


@pytest.mark.slow
def test_previews_store_nothing(service):
    one = service()
    found = one.preview("u1", ["i3", "i4"], ListRequest(k=3), explained="i5")
    state = one.recommender.update(one.recommender.update(one.recommender.start("u1"), "i3"), "i4")
    assert list(found.best) == list(one.recommender.recommend(state, 3))
    assert found.explanation.item == "i5"
    assert sum(one.weight for one in found.interests) == pytest.approx(1)
    assert one.store.events_of(["u1"], 0) == {}
    (now,) = one.recommend([("u1", ListRequest(k=3))])
    assert now.events == found.events - 2
    stranger = one.preview(None, ["i3"], ListRequest(k=3))
    assert stranger.events == 1


@pytest.mark.slow
def test_one_list_that_cannot_be_given_does_not_hold_up_others(service):
    one = service()
    found = one.recommend(
        [("u1", ListRequest(k=3)), ("u2", ListRequest(k=99)), ("u2", ListRequest(k=3, candidates=("no",)))]
    )
    assert len(found[0].best) == 3
    assert isinstance(found[1], RequestError)
    assert isinstance(found[2], RequestError)
    assert len(one.recommend([("u1", ListRequest(k=8, exclude_seen=True))])[0].best) < len(SUBJECTS)


@pytest.mark.slow
def test_forget_finds_the_store_of_a_service_that_runs(shop, here, capsys):
    checkpoint, places = shop(seed=7)  # a data set of its own, which loses users
    one = load_service(ServeOptions(str(checkpoint), places, str(here / "store")))
    one.add_events([StoredEvent("u3", "i3", 1e6), StoredEvent("u4", "i3", 1e6)])
    words = ["--dataset=cycle", *(f"--{name}={value}" for name, value in places.items()), "--user=u3"]
    forget.main([*words, f"--checkpoint_dir={checkpoint.parent}"])
    capsys.readouterr()
    assert list(one.store.events_of(["u3", "u4"], 0)) == ["u4"]
    assert [found.events for found in one.recommend([("u3", ListRequest(k=3)), ("u4", ListRequest(k=3))])] == [0, 10]
    one.store.close()


@pytest.mark.slow
def test_an_index_finds_what_it_promises(shop):
    checkpoint, places = shop()
    one = load_service(ServeOptions(str(checkpoint), places, "memory", recall=1.0))
    exact = Recommender.load(checkpoint, **places)
    (found,) = one.recommend([("u1", ListRequest(k=3))])
    assert one.recommender._changes.index is not None
    assert [item for item, _ in found.best] == [item for item, _ in exact.recommend(exact.start("u1"), 3)]
    folder = exact.save_pretrained(checkpoint.parent / "folder")[0].parent
    with pytest.raises(SettingsError, match="a folder has none"):
        load_service(ServeOptions(str(folder), {}, "memory", recall=0.9))
