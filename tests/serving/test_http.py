"""The interface over HTTP: what is answered, refused, and written to the log."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass

import pytest
from starlette.testclient import TestClient

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.serving.api_keys import ApiKeys
from recbole_llm_interest.serving.app import create_app
from recbole_llm_interest.serving.options import ServeOptions
from recbole_llm_interest.serving.request_queue import OverloadedError, RequestQueue
from recbole_llm_interest.serving.service import Service
from recbole_llm_interest.serving.stores import open_store

READ, WRITE, ADMIN = (f"{role}-0123456789abcdef0123" for role in ("read", "write", "admin"))
KEYS = ApiKeys.of_lines([f"web {READ} read", "# a comment", "", f"shop {WRITE} write", f"office {ADMIN} admin"])
HOSTILE = [
    "<script>alert(1)</script>",
    "'; drop table events; --",
    "../../etc/passwd",
    "\u202eevil",
    "名前",
    "a%00b",
    "\x7f",
]


@pytest.fixture
def client(shop):
    """Makes clients of a service in memory."""
    opened = []

    def make(keys=None, **options):
        checkpoint, places = shop()
        service = Service(Recommender.load(checkpoint, **places), open_store("memory"))
        app = create_app(service, ServeOptions(str(checkpoint), **options), keys)
        opened.append(TestClient(app, "http://localhost", raise_server_exceptions=False))
        return opened[-1].__enter__()

    yield make
    for one in opened:
        one.__exit__(None, None, None)


pytestmark = pytest.mark.slow


def test_a_user_from_the_first_event_to_the_last(client):
    http = client()
    first = http.get("/users/new/recommendations", params={"k": 3}).json()
    assert (first["user"], first["events"], len(first["items"])) == ("new", 0, 3)
    event = {"item": "i3", "time": 1e6, "key": "a"}
    assert http.post("/users/new/events", json=event).json() == {"result": "stored", "reason": None}
    assert http.post("/users/new/events", json=event).json()["result"] == "repeated"
    batch = {"events": [{"user": "new", "item": "i4", "time": 2e6}, {"user": "new", "item": "no"}]}
    results = http.post("/events", json=batch).json()["results"]
    assert [one["result"] for one in results] == ["stored", "refused"]
    second = http.get("/users/new/recommendations", params={"k": 3, "exclude_seen": True}).json()
    assert second["events"] == 2
    assert {"i3", "i4"}.isdisjoint(one["item"] for one in second["items"])
    assert second["items"][0]["title"].startswith("A film about")
    best = second["items"][0]["item"]
    explained = http.get("/users/new/explanations", params={"item": best}).json()
    assert explained["score"] == pytest.approx(second["items"][0]["score"], abs=1e-5)
    interests = http.get("/users/new/interests").json()["interests"]
    assert interests[0]["weight"] == max(one["weight"] for one in interests)
    lists = http.post("/recommendations", json={"users": ["new", "u1"], "k": 3, "exclude_seen": True}).json()["lists"]
    assert lists[0]["items"] == second["items"]
    preview = http.post("/previews", json={"user": "new", "items": ["i5"], "k": 2, "explain": "i1"}).json()
    assert (preview["events"], preview["explanation"]["item"]) == (3, "i1")
    assert http.delete("/users/new").json() == {"count": 3}
    assert http.get("/users/new/recommendations", params={"k": 3}).json() == first


def test_items_come_and_go(client):
    http = client()
    added = http.post("/items", json={"items": [{"item": "i9", "content": {"title": "鲸鱼的电影"}}]})
    assert added.json() == {"count": 1}
    assert http.get("/items", params={"query": "鲸鱼"}).json() == {"items": [{"item": "i9", "title": "鲸鱼的电影"}]}
    assert http.delete("/items/i9").json() == {"count": 1}
    assert http.get("/items", params={"query": "鲸鱼"}).json() == {"items": []}
    assert http.delete("/items/i9").status_code == 422
    for column in ("image", "image_file_name", "audio"):
        refused = http.post("/items", json={"items": [{"item": "i10", "content": {column: "/etc/passwd"}}]})
        assert refused.status_code == 422
        assert "names a file" in refused.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", "/users/u1/events", {"item": "nothing"}, "unknown item 'nothing': add it first"),
        ("POST", "/users/u1/events", {"item": "i1", "time": "yesterday"}, "give a number"),
        ("POST", "/users/u1/events", {"item": "i1", "itme": 5}, "body.itme"),
        ("POST", "/users/u1/events", {}, "body.item"),
        ("POST", "/users/%20/events", {"item": "i1"}, "no id"),
        ("POST", f"/users/{'u' * 9999}/events", {"item": "i1"}, "path.user"),
        ("GET", "/users/u1/recommendations?k=0", None, "query.k"),
        ("GET", "/users/u1/recommendations?k=500", None, "only 8 candidates"),
        ("GET", "/users/u1/explanations?item=no", None, "unknown item"),
        ("POST", "/recommendations", {"users": []}, "body.users"),
        ("POST", "/recommendations", {"users": ["u1"], "k": 2, "context": {"query": "x"}}, "reads no context"),
        ("POST", "/recommendations", {"users": ["u1"], "candidates": ["i1", "no"], "k": 1}, "unknown item 'no'"),
        ("GET", "/nowhere", None, "Not Found"),
        ("PUT", "/model", None, "Method Not Allowed"),
    ],
)
def test_mistakes_are_one_line(client, method, path, body, said):
    answer = client().request(method, path, json=body)
    assert 400 <= answer.status_code < 500
    assert set(answer.json()) == {"error"}
    assert said in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_texts(client, text):
    http = client()
    answers = [
        http.post("/events", json={"events": [{"user": text, "item": text, "key": text, "columns": {text: text}}]}),
        http.get("/items", params={"query": text}),
        http.post("/previews", json={"user": text, "k": 3}),
        http.get("/users/u1/explanations", params={"item": text}),
        http.request("GET", "/model", headers={"Authorization": f"Bearer {text}".encode()}),
    ]
    for answer in answers:
        assert answer.status_code < 500
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"item": "\\ud800"}', b"\xff\xfe", b'{"item": 1e999}', b"9" * 5000, b""]
)
def test_bodies_that_are_no_events(client, body):
    answer = client().post("/users/u1/events", content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert set(answer.json()) == {"error"}


def test_keys_and_roles(client):
    http = client(KEYS)
    event, item = {"item": "i1", "time": 1e6}, {"items": [{"item": "i9", "content": {"title": "Tea"}}]}
    requests = [
        ("GET", "/users/u1/recommendations?k=3", None, "read"),
        ("POST", "/users/u1/events", event, "write"),
        ("POST", "/items", item, "admin"),
        ("DELETE", "/items/i9", None, "admin"),
        ("DELETE", "/users/u1", None, "admin"),
        ("GET", "/metrics", None, "read"),
    ]
    roles = {"read": READ, "write": WRITE, "admin": ADMIN}
    for method, path, body, needed in requests:
        assert http.request(method, path, json=body).status_code == 401
        assert http.request(method, path, json=body, headers={"Authorization": "Bearer wrong"}).status_code == 401
        for role, key in roles.items():
            answer = http.request(method, path, json=body, headers={"Authorization": f"Bearer {key}"})
            may = list(roles).index(role) >= list(roles).index(needed)
            assert answer.status_code == (200 if may else 403), (path, role)
    for path in ("/health", "/ready", "/", "/docs", "/openapi.json", "/static/docs.js", "/swagger/swagger-ui.css"):
        assert http.get(path).status_code == 200


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["web short read"], "fewer than 20 characters"),
        ([f"web {READ}"], "line 1: write NAME KEY ROLE"),
        ([f"web {READ} owner"], "read, write, admin"),
        (["# nothing"], "has no key"),
    ],
)
def test_files_of_keys_that_are_none(lines, said):
    with pytest.raises(SettingsError, match=said):
        ApiKeys.of_lines(lines)


def test_other_hosts_are_refused_without_keys(client):
    """A page elsewhere could otherwise reach a service without keys through a name of its own for this machine."""
    assert client().get("/model", headers={"host": "evil.example"}).status_code == 400
    assert (
        client(KEYS).get("/model", headers={"host": "shop.example", "Authorization": f"Bearer {READ}"}).status_code
        == 200
    )


def test_large_bodies_and_many_requests(client):
    http = client(max_body=1000, rate=5)
    assert http.post("/users/u1/events", content=b"x" * 1001).status_code == 413
    assert http.post("/users/u1/events", content=iter([b"x" * 600, b"x" * 600])).status_code == 413
    codes = [http.get("/health").status_code for _ in range(20)]
    assert codes[0] == 200
    assert codes[-1] == 429
    assert http.get("/health").headers["retry-after"] == "1"


def test_the_log_has_nothing_of_users(client, caplog):
    http = client(KEYS)
    with caplog.at_level(logging.DEBUG):
        http.post(
            "/users/secret-user/events", json={"item": "secret-item"}, headers={"Authorization": f"Bearer {WRITE}"}
        )
        http.get("/items?query=secret-title", headers={"Authorization": f"Bearer {READ}"})
    entries = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert [(one["method"], one["route"], one["status"], one["client"]) for one in entries] == [
        ("POST", "/users/{user}/events", 422, "shop"),
        ("GET", "/items", 200, "web"),
    ]
    assert not [one for one in caplog.records if one.name.startswith("recbole") and "secret" in str(vars(one))]


def test_metrics_count_requests_and_events(client):
    http = client()

    def figure(name):
        lines = http.get("/metrics").text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)), 0.0)

    stored = 'llm_interest_events_total{result="stored"}'
    requests = 'llm_interest_requests_total{method="POST",route="/users/{user}/events",status="200"}'
    before = figure(stored), figure(requests)
    http.post("/users/metered/events", json={"item": "i1", "time": 1e6})
    assert (figure(stored), figure(requests)) == (before[0] + 1, before[1] + 1)
    assert figure("llm_interest_items") == 8


def test_the_description_has_every_route_with_examples(client):
    found = client().get("/openapi.json").json()
    assert {"/users/{user}/events", "/users/{user}/recommendations", "/items", "/items/{item}"} <= set(found["paths"])
    assert found["components"]["schemas"]["NewEvent"]["properties"]["item"]["examples"] == ["i3"]
    for path, methods in found["paths"].items():
        for described in methods.values():
            assert described["description"], path


def test_a_fault_of_the_service_is_said_without_the_request(client, caplog, monkeypatch):
    http = client()
    monkeypatch.setattr(Service, "find_items", lambda *_: 1 / 0)
    answer = http.get("/items?query=secret")
    assert (answer.status_code, set(answer.json())) == (500, {"error"})
    assert "ZeroDivisionError at " in caplog.text
    assert not [one for one in caplog.records if one.name.startswith("recbole") and "secret" in str(vars(one))]
    monkeypatch.undo()
    assert http.get("/items?query=bread").status_code == 200


# --- the queue


@dataclass
class Question:
    value: int
    size: int = 1


def test_requests_that_cannot_wait_are_refused():
    """Two may wait: of five, one is begun, two wait, and two are refused."""
    begun, go_on = threading.Event(), threading.Event()

    def answer(jobs):
        begun.set()
        go_on.wait(10)
        return [job.value * 2 for job in jobs]

    async def run():
        queue = RequestQueue(answer, most=2, patience=5)
        running = asyncio.create_task(queue.run())
        first = asyncio.create_task(queue.result(Question(1)))
        await asyncio.to_thread(begun.wait)
        others = [asyncio.create_task(queue.result(Question(number))) for number in (2, 3, 4, 5)]
        await asyncio.sleep(0.05)
        assert queue.is_full
        go_on.set()
        results = await asyncio.gather(first, *others, return_exceptions=True)
        queue.close()
        await running
        return results

    results = asyncio.run(run())
    assert results[:3] == [2, 4, 6]
    assert all(isinstance(one, OverloadedError) for one in results[3:])


def test_requests_that_have_waited_too_long_are_not_begun():
    answered = []

    def answer(jobs):
        answered.extend(job.value for job in jobs)
        threading.Event().wait(0.3)
        return [job.value for job in jobs]

    async def run():
        queue = RequestQueue(answer, most=10, patience=0.1)
        running = asyncio.create_task(queue.run())
        first = asyncio.create_task(queue.result(Question(1)))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(queue.result(Question(2)))
        gone = asyncio.create_task(queue.result(Question(3)))
        await asyncio.sleep(0.05)
        gone.cancel()
        results = await asyncio.gather(first, second, return_exceptions=True)
        queue.close()
        await running
        return results

    first, second = asyncio.run(run())
    assert (first, answered) == (1, [1])
    assert isinstance(second, OverloadedError)


def test_requests_that_wait_when_the_service_ends_are_answered():
    async def run():
        queue = RequestQueue(lambda jobs: [job.value for job in jobs], most=10, patience=5)
        waiting = [asyncio.create_task(queue.result(Question(number))) for number in range(5)]
        await asyncio.sleep(0)
        queue.close()
        await queue.run()
        with pytest.raises(OverloadedError, match="the service ends"):
            await queue.result(Question(6))
        return await asyncio.gather(*waiting)

    assert asyncio.run(run()) == [0, 1, 2, 3, 4]


def test_large_requests_are_not_all_answered_at_once():
    batches = []

    def answer(jobs):
        batches.append([job.value for job in jobs])
        return jobs

    async def run():
        queue = RequestQueue(answer, most=10, patience=5)
        waiting = [asyncio.create_task(queue.result(Question(number, size=200))) for number in range(5)]
        await asyncio.sleep(0)
        queue.close()
        await queue.run()
        await asyncio.gather(*waiting)

    asyncio.run(run())
    assert batches == [[0, 1], [2, 3], [4]]
