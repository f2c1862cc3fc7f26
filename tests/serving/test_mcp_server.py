"""Tools of a language model, called by the official client over standard input and output."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time

import pytest
import uvicorn
from mcp import Client, StdioServerParameters

from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.serving.api_keys import ApiKeys
from recbole_llm_interest.serving.app import create_app
from recbole_llm_interest.serving.options import ServeOptions
from recbole_llm_interest.serving.service import Service
from recbole_llm_interest.serving.stores import open_store

pytestmark = pytest.mark.slow
READ, WRITE = (f"{role}-0123456789abcdef0123" for role in ("read", "write"))


@pytest.fixture
def url(shop):
    """A service that runs."""
    checkpoint, places = shop()
    service = Service(Recommender.load(checkpoint, **places), open_store("memory"))
    app = create_app(
        service, ServeOptions(str(checkpoint)), ApiKeys.of_lines([f"reader {READ} read", f"writer {WRITE} write"])
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def call(here):
    """Calls tools of one server, one after the other; gives whether each failed, and what it said."""

    def run(url, calls, key=READ):
        (here / "key.txt").write_text(f"{key}\n")
        words = ["-m", "recbole_llm_interest.cli.mcp", f"--url={url}", f"--api_key_file={here / 'key.txt'}"]

        async def session():
            async with Client(
                StdioServerParameters(command=sys.executable, args=words, env=dict(os.environ))
            ) as client:
                tools = (await client.list_tools()).tools
                return tools, [await client.call_tool(name, arguments) for name, arguments in calls]

        tools, results = asyncio.run(session())
        return tools, [(one.is_error, one.structured_content or one.content[0].text) for one in results]

    return run


def test_a_model_recommends_and_stores(url, call):
    calls = [
        ("find_items", {"query": "whales"}),
        ("recommend", {"user": "a/b ü", "k": 3}),
        ("add_event", {"user": "a/b ü", "item": "i1"}),
        ("recommend", {"user": "a/b ü", "k": 3}),
        ("explain", {"user": "u1", "item": "i2"}),
        ("interests", {"user": "u1"}),
        ("preview", {"items": ["i1", "i2"], "k": 2}),
    ]
    tools, results = call(url, calls, WRITE)
    assert {tool.name for tool in tools} == {name for name, _ in calls}
    assert [tool.name for tool in tools if not tool.annotations.read_only_hint] == ["add_event"]
    assert all(tool.description for tool in tools)
    assert not any(failed for failed, _ in results)
    found = [result for _, result in results]
    assert found[0]["items"] == [{"item": "i1", "title": "A film about whales"}]
    assert (found[1]["events"], found[2]["result"], found[3]["events"]) == (0, "stored", 1)
    assert found[4]["item"] == "i2"
    assert found[5]["interests"][0]["weight"] > 0
    assert found[6]["events"] == 2


def test_what_is_refused_is_said_to_the_model(url, call):
    calls = [("explain", {"user": "u1", "item": "no"}), ("add_event", {"user": "u1", "item": "i1"})]
    _, results = call(url, calls)
    assert [failed for failed, _ in results] == [True, True]
    assert "unknown item 'no'" in results[0][1]
    assert "has the role read, and this needs write" in results[1][1]


def test_a_service_that_is_not_there_is_said(call):
    _, [(failed, said)] = call("http://127.0.0.1:1", [("interests", {"user": "u1"})])
    assert failed
    assert "no service answers at http://127.0.0.1:1" in said
