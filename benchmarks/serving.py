"""What a service bears: requests a second, kills, ten minutes, and hostile requests.

    python benchmarks/serving.py --what=load
    python benchmarks/serving.py --what=soak --seconds=600 --clients=4
    python benchmarks/serving.py --what=kills --kills=30 --items=2000 --workers=2
    python benchmarks/serving.py --what=hostile --cases=2000 --items=2000

The data set is made here: 10,000 users with four recorded events each. The model is trained for one epoch: neither time
nor safety depends on what it has learned. `load` and `soak` are by locust (pip install locust), whose one process sends
80 % events and 20 % lists, one after the other from each of its users; `soak` compares the memory of the service's
processes at the end with that when every user is in memory. `kills` ends a process of the service, or all of it, by
SIGKILL at random moments while four clients send events, and compares what was acknowledged with what is stored.
`hostile` sends what schemathesis makes of the interface's description.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch
from stream import make_data, trained
from tqdm import tqdm

from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.errors import LLMInterestError
from recbole_llm_interest.io.event_store import EventStore

USERS, WIDTH, PORT = 10_000, 128, 8765
URL = f"http://127.0.0.1:{PORT}"
#: a service that loads a model beside other work takes its time, s
_PATIENCE = 120


def start(checkpoint: str, store: Path, workers: int) -> subprocess.Popen[bytes]:
    """Start a service, in a group of processes of its own, and wait until it answers."""
    options = {"checkpoint": checkpoint, "store": store, "port": PORT, "workers": workers, "rate": 1e6}
    words = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "recbole_llm_interest.cli.serve", *words, "--quiet"]
    with store.with_suffix(".log").open("ab") as log:
        service = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and service.poll() is None:
        try:
            httpx.get(f"{URL}/ready", timeout=_PATIENCE).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return service
    raise LLMInterestError(f"the service does not start: {store.with_suffix('.log').read_text()[-500:]}")


def processes(service: subprocess.Popen[bytes]) -> list[int]:
    """The service's processes that have the model."""
    children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
    return [int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


@contextmanager
def served(checkpoint: str, store: Path, workers: int) -> Iterator[subprocess.Popen[bytes]]:
    """A service that runs in the ``with`` block."""
    service = start(checkpoint, store, workers)
    try:
        yield service
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(_PATIENCE)


# --- locust


def load(folder: Path, checkpoint: str, options: argparse.Namespace) -> dict[str, Any]:
    """Requests a second and their durations, as locust counts them, and the memory of the service."""
    with served(checkpoint, folder / "served", options.workers) as service:
        before = _megabytes(service)
        sampled: list[float] = []
        ends = threading.Event()
        sampler = threading.Thread(target=_sample, args=(service, sampled, ends))
        sampler.start()
        words = ["--headless", f"-u{options.clients}", f"-r{options.clients}", f"-t{options.seconds}s"]
        script = Path(__file__).with_name("serving_load.py")
        command = [sys.executable, "-m", "locust", f"-f{script}", *words, "--only-summary", "--csv=load"]
        environment = {**os.environ, "SERVED_AT": URL, "SERVED_ITEMS": str(options.items), "SERVED_USERS": str(USERS)}
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ends.set()
        sampler.join()
    with Path("load_stats.csv").open() as file:
        total = next(row for row in csv.DictReader(file) if row["Name"] == "Aggregated")
    filled = sampled[len(sampled) // 3]  # by then, every user has been in memory
    return {
        "clients": options.clients,
        "seconds": options.seconds,
        "requests": int(total["Request Count"]),
        "errors": int(total["Failure Count"]),
        "requests/s": round(float(total["Requests/s"]), 1),
        **{f"p{share} ms": float(total[f"{share}%"]) for share in (50, 95, 99)},
        **{"MB at the start": before, "MB after a third": filled, "MB at the end": sampled[-1]},
        "growth": round(sampled[-1] / filled - 1, 4),
    }


def _sample(service: subprocess.Popen[bytes], sampled: list[float], ends: threading.Event) -> None:
    while not ends.wait(1):
        sampled.append(_megabytes(service))


def _megabytes(service: subprocess.Popen[bytes]) -> float:
    """Memory of the service's processes: private and shared pages that are in use."""
    status = [Path(f"/proc/{one}/status").read_text() for one in processes(service)]
    return round(sum(int(text.partition("VmRSS:")[2].split()[0]) for text in status) / 1024, 1)


# --- kills


class Clients:
    """Threads that send events with keys, and note those that were acknowledged. What was not is sent again."""

    def __init__(self, items: int, count: int = 4) -> None:
        self.acknowledged: list[str] = []
        self.sent: dict[str, tuple[str, str, float]] = {}
        self.repeated = 0
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number, items)) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def _send(self, number: int, items: int) -> None:
        draw, step = random.Random(number), 0
        while not self._ends.is_set():
            step += 1
            key, user = f"{number}-{step}", f"u{4 * draw.randrange(50) + number}"
            event: dict[str, Any] = {"item": f"i{draw.randrange(items)}", "time": 2e9 + step, "key": key}
            self.sent[key] = (user, event["item"], event["time"])
            while (result := self._attempt(user, event)) is None:
                time.sleep(0.02)
            self.repeated += result == "repeated"
            self.acknowledged.append(key)

    @staticmethod
    def _attempt(user: str, event: dict[str, Any]) -> str | None:
        try:
            answer = httpx.post(f"{URL}/users/{user}/events", json=event, timeout=_PATIENCE)
        except httpx.HTTPError:
            return None
        return str(answer.json()["result"]) if answer.status_code == 200 else None

    def end(self) -> None:
        """Send no more."""
        self._ends.set()
        for thread in self._threads:
            thread.join()


def kills(folder: Path, checkpoint: str, options: argparse.Namespace) -> dict[str, Any]:
    """Kill by turns a process and the whole service under load, and compare what is stored."""
    draw, store = random.Random(options.seed), folder / "served"
    service = start(checkpoint, store, options.workers)
    clients = Clients(options.items)
    for number in tqdm(range(options.kills), unit="kill"):
        time.sleep(draw.random() * 2)
        if number % 2:
            os.killpg(service.pid, signal.SIGKILL)
            service.wait()
            service = start(checkpoint, store, options.workers)
        else:
            victim = draw.choice(processes(service))
            os.kill(victim, signal.SIGKILL)
            while victim in processes(service) or len(processes(service)) < options.workers:
                time.sleep(0.02)
            httpx.get(f"{URL}/ready", timeout=_PATIENCE)
    clients.end()
    service.send_signal(signal.SIGTERM)
    service.wait(_PATIENCE)
    with EventStore(store, writes=False) as opened:
        stored = list(opened.events())
    counts = Counter(event.key for event in stored)
    in_state = _events_in_states(checkpoint, store, options)
    return {
        **{"kills": options.kills, "acknowledged": len(clients.acknowledged), "sent again": clients.repeated},
        "lost": len(set(clients.acknowledged) - set(counts)),
        "twice": sum(count > 1 for count in counts.values()),
        "other than sent": sum(clients.sent[str(one.key)] != (one.user, one.item, one.time) for one in stored),
        "missing in states": len(stored) - in_state,
    }


def _events_in_states(checkpoint: str, store: Path, options: argparse.Namespace) -> int:
    """Number of events that the states have beyond the four recorded ones of each user, as the service says."""
    with served(checkpoint, store, options.workers):
        users = [f"u{user}" for user in range(200)]
        lists = httpx.post(f"{URL}/recommendations", json={"users": users, "k": 1}, timeout=_PATIENCE).json()["lists"]
    return sum(one["events"] for one in lists) - 4 * len(users)


# --- hostile requests


def hostile(folder: Path, checkpoint: str, options: argparse.Namespace) -> dict[str, Any]:
    """Requests by schemathesis: 0 server errors, and answers as described."""
    with served(checkpoint, folder / "served", options.workers):
        cases = options.cases // 12  # of each of the 15 calls; some have fewer different ones
        checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
        words = [f"{URL}/openapi.json", f"--checks={checks}", f"--max-examples={cases}", f"--seed={options.seed}"]
        command = [Path(sys.executable).with_name("schemathesis"), "run", *words, "--phases=examples,coverage,fuzzing"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        statuses: Counter[str] = Counter()
        for line in httpx.get(f"{URL}/metrics").text.splitlines():
            if line.startswith("llm_interest_requests_total"):
                statuses[line.partition('status="')[2][0] + "xx"] += int(float(line.rpartition(" ")[2]))
    return {"requests": sum(statuses.values()), **statuses, "exit code": done.returncode, "said": done.stdout[-300:]}


def main() -> None:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--what", choices=["load", "soak", "kills", "hostile"], required=True)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.argv = sys.argv[:1]  # RecBole would read it once more
    measure = {"load": load, "soak": load, "kills": kills, "hostile": hostile}[options.what]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        make_data(folder, options.items, 1, USERS)
        found = measure(folder, trained(folder, embedding_size=WIDTH, hidden_size=WIDTH), options)
    described = {"what": options.what, "items": options.items, "workers": options.workers, "torch": torch.__version__}
    print(json.dumps({**described, **found}))


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing is kept"))
