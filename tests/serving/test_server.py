"""A service as a process: kills, new weights, and how it ends."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from recbole_llm_interest.serving.stores import open_store

pytestmark = pytest.mark.slow
#: loading a model beside other tests takes its time, s
_PATIENCE = 90


class Running:
    """A service that was started as a process."""

    def __init__(self, checkpoint, places, folder, *words):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        given = {"checkpoint": checkpoint, "store": folder, "port": port, **places}
        words = [*(f"--{name}={value}" for name, value in given.items()), *words]
        command = [sys.executable, "-m", "recbole_llm_interest.cli.serve", *words]
        self.log = Path(f"{folder}.log")
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)

    def wait(self):
        """Wait until it answers."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            try:
                return httpx.get(f"{self.url}/ready", timeout=_PATIENCE).raise_for_status()
            except httpx.HTTPError:
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def workers(self):
        """Processes that have the model."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]

    def end(self):
        """End it gracefully; returns what it printed."""
        self.process.send_signal(signal.SIGTERM)
        printed, _ = self.process.communicate(timeout=_PATIENCE)
        return printed


@pytest.fixture
def serve(shop, here):
    """Starts services, and ends those that still run."""
    started = []

    def start(*words, folder="store", checkpoint=None):
        trained, places = shop()
        started.append(Running(checkpoint or trained, places, here / folder, *words))
        started[-1].wait()
        return started[-1]

    yield start
    for one in started:
        for worker in one.workers() if one.process.poll() is None else ():
            os.kill(worker, signal.SIGKILL)
        one.process.kill()
        one.process.communicate()


class Senders:
    """Threads that send events until they are told to end, and note what was acknowledged."""

    def __init__(self, url, threads=4):
        self._url, self._ends = url, threading.Event()
        self.acknowledged, self.failures = [], Counter()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def _send(self, number):
        draw = random.Random(number)
        with httpx.Client(timeout=_PATIENCE) as client:
            for step in range(10**6):
                if self._ends.is_set():
                    return
                event = {"item": f"i{draw.randrange(8)}", "time": 1e6 + step, "key": f"{number}-{step}"}
                try:
                    answer = client.post(f"{self._url}/users/u{number}-{draw.randrange(3)}/events", json=event)
                    if answer.status_code == 200:
                        self.acknowledged.append(event["key"])
                    self.failures[answer.status_code] += answer.status_code != 200
                except httpx.HTTPError:
                    self.failures["connection"] += 1
                    time.sleep(0.05)

    def end(self):
        self._ends.set()
        for thread in self._threads:
            thread.join()
        return self.acknowledged


def assert_each_is_stored_once(folder, acknowledged):
    store = open_store(str(folder))
    stored = Counter(event.key for event in store.events())
    store.close()
    assert len(acknowledged) > 20
    assert set(acknowledged) <= set(stored)
    assert max(stored.values()) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_process_loses_nothing_and_is_replaced(serve, here, workers):
    running = serve(f"--workers={workers}", "--quiet")
    senders = Senders(running.url)
    for _ in range(2):
        time.sleep(0.5)
        victim = random.choice(running.workers())
        os.kill(victim, signal.SIGKILL)
        end = time.monotonic() + _PATIENCE
        while (victim in running.workers() or len(running.workers()) < workers) and time.monotonic() < end:
            time.sleep(0.1)
        running.wait()
    time.sleep(0.5)
    acknowledged = senders.end()
    assert running.process.poll() is None
    assert_each_is_stored_once(here / "store", acknowledged)


def test_a_killed_service_goes_on_where_it_was(serve, here):
    first = serve("--quiet")
    senders = Senders(first.url)
    time.sleep(0.7)
    (worker,) = first.workers()
    first.process.kill()
    first.process.wait()
    acknowledged = senders.end()
    end = time.monotonic() + _PATIENCE
    while Path(f"/proc/{worker}").exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists(), "a process ends with the one that has started it"
    assert_each_is_stored_once(here / "store", acknowledged)
    second = serve("--quiet")
    assert httpx.get(f"{second.url}/users/u0-0/recommendations?k=3").json()["events"] > 0


def test_sigterm_ends_it_after_what_was_begun(serve):
    running = serve()
    senders = Senders(running.url)
    time.sleep(0.5)
    printed = running.end()
    senders.end()
    assert running.process.returncode == 0
    assert printed.splitlines()[-1] == "stopped: every event that was acknowledged is stored"
    assert senders.failures.keys() <= {"connection", 200, 503}
    entries = [json.loads(line) for line in running.log.read_text().splitlines()]
    assert {"ready", "request"} <= {one["message"] for one in entries}


def test_sighup_takes_new_weights_without_a_pause(serve, shop, here):
    """The checkpoint is replaced by another under its name; requests are answered all the time."""
    trained, _ = shop()
    other, _ = shop(epochs=2)
    served = Path(shutil.copy(trained, here / "served.safetensors"))
    running = serve("--quiet", checkpoint=served)
    former = httpx.get(f"{running.url}/model").json()["version"]
    senders = Senders(running.url, threads=2)
    shutil.copy(other, here / "new.safetensors")
    os.replace(here / "new.safetensors", served)
    running.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + _PATIENCE
    while httpx.get(f"{running.url}/model", timeout=_PATIENCE).json()["version"] == former:
        assert time.monotonic() < end
        time.sleep(0.2)
    acknowledged = senders.end()
    assert sum(senders.failures.values()) == 0, senders.failures
    counts = Counter(key.split("-")[0] for key in acknowledged)
    found = [httpx.get(f"{running.url}/users/u0-{n}/recommendations?k=3").json()["events"] for n in range(3)]
    assert sum(found) == counts["0"], "the new weights have read all events"


def test_what_cannot_be_served_is_said(serve, shop, here):
    trained, places = shop()
    damaged = here / "damaged.safetensors"
    damaged.write_bytes(trained.read_bytes()[:-100])
    running = Running(damaged, places, here / "store")
    running.process.communicate(timeout=_PATIENCE)
    assert running.process.returncode == 2
    (said,) = running.log.read_text().splitlines()
    assert said.startswith(f"error: checkpoint {damaged} is damaged")
    first = serve(folder="another")
    port = first.url.rpartition(":")[2]
    for words in (["--store=third", f"--port={port}"], [f"--store={here / 'another'}"]):
        command = [sys.executable, "-m", "recbole_llm_interest.cli.serve", f"--checkpoint={trained}", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert done.stdout == ""


def test_json_says_where_it_is(serve):
    running = serve("--json")
    (line,) = running.end().splitlines()
    assert set(json.loads(line)) == {"url", "store"}
    assert json.loads(line)["url"] == running.url
