"""How many events of a stream a second, and what a kill loses.

    python benchmarks/stream.py --what=rate --items=100000 --events=40000
    python benchmarks/stream.py --what=kills --items=2000 --events=20000 --kills=20
    python benchmarks/stream.py --what=kills --items=2000 --events=20000 --kills=20 --redis=redis://localhost:6379/0

The data set is made here: users with a few recorded events, and a stream of more events of these users and of new ones.
The model is trained for one epoch: time and safety do not depend on what it has learned. `rate` is the command's own,
with and without an evaluation of each event. `kills` ends the process
by SIGKILL at random moments, starts it again, and compares the stored events with those of the file, one by one, and
the states with those of a process that was never killed. With --redis, the events are read from a stream that is made
in that server.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import redis
import torch
from tqdm import tqdm

from recbole_llm_interest import compare
from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.errors import LLMInterestError
from recbole_llm_interest.io.event_store import EventStore
from recbole_llm_interest.recommender import Recommender

USERS, RECORDED, NEW_USERS = 5000, 4, 5000
_SETTINGS: dict[str, Any] = {
    **{"epochs": 1, "train_batch_size": 4096, "show_progress": False, "metrics": ["NDCG"], "topk": [10]},
    **{"modalities": [], "valid_metric": "NDCG@10", "time_split": [0.9, 0.95]},  # an update takes as long with content
    "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id"]},  # items without an event, too
}


def make_data(folder: Path, items: int, events: int, recorded_users: int = USERS) -> Path:
    """Write a data set with recorded events, and the events of the stream; returns the file of these."""
    draw = np.random.default_rng(1)
    data = folder / "data" / "shop"
    data.mkdir(parents=True)
    lines = ["item_id:token\ttitle:token_seq", *(f"i{n}\tarticle {n % 997} of kind {n % 61}" for n in range(items))]
    (data / "shop.item").write_text("\n".join(lines) + "\n")
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for step in range(RECORDED):
        lines += [f"u{user}\ti{draw.integers(items)}\t{1e9 + 1000 * step + user}" for user in range(recorded_users)]
    (data / "shop.inter").write_text("\n".join(lines) + "\n")
    path = folder / "events.jsonl"
    users, chosen = draw.integers(USERS + NEW_USERS, size=events), draw.integers(items, size=events)
    with path.open("w") as file:
        for place, (user, item) in enumerate(zip(users, chosen, strict=True)):
            event = {"user_id": f"u{user}", "item_id": f"i{item}", "timestamp": 2e9 + place}
            file.write(json.dumps(event) + "\n")
    return path


def trained(folder: Path, **settings: Any) -> str:
    """The checkpoint of a model of the data set."""
    places = {"data_path": str(folder / "data"), "checkpoint_dir": str(folder / "saved")}
    made = compare("shop", "LLMInterest", **places, **_SETTINGS, **settings)
    return made.checkpoint("LLMInterest")


def sent_to_redis(server: str, events: Path) -> str:
    """Write the events into a new stream of a server; returns its address."""
    name = f"events-{uuid.uuid4().hex[:8]}"
    with redis.Redis.from_url(server) as connection, connection.pipeline(transaction=False) as pipeline:
        for line in events.open():
            pipeline.xadd(name, {"event": line})
        pipeline.execute()
    return f"{server}?stream={name}"


def command(checkpoint: str, events: str | Path, output: Path, *more: str) -> list[str]:
    """The command that follows the stream."""
    words = [f"--checkpoint={checkpoint}", f"--events={events}", f"--output={output}", "--until_end", "--json", *more]
    return [sys.executable, "-m", "recbole_llm_interest.cli.follow", *words]


def rate(folder: Path, checkpoint: str, events: str | Path) -> dict[str, Any]:
    """Events a second, as the command counts them: reading, updating and storing, without the start of the process."""
    found: dict[str, Any] = {}
    for name, share in (("updated and stored", 0), ("evaluated, too", 1)):
        words = command(checkpoint, events, folder / f"stream-{share}", f"--evaluate={share}")
        made = subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        result = json.loads(made.stdout.splitlines()[-1])
        found[f"events/s, {name}"] = round(result["events"] / result["seconds"])
    return found


def _stored(output: Path) -> int:
    """Number of stored events; 0 before there is a store."""
    try:
        with EventStore(output, writes=False) as store:
            return store.event_count
    except LLMInterestError:
        return 0


def kills(folder: Path, checkpoint: str, events: Path, source: str | Path, count: int, seed: int) -> dict[str, Any]:
    """Kill the process at random moments, and compare what is stored with the file and with a process left alone."""
    draw, output = random.Random(seed), folder / "killed"
    total = sum(1 for _ in events.open())
    for kill in tqdm(range(count), unit="kill"):
        process = subprocess.Popen(
            command(checkpoint, source, output, "--batch=16"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        goal = (kill + draw.random()) / count * total  # in the middle of the work, at different places of the file
        while process.poll() is None and _stored(output) < goal:
            time.sleep(0.001)
        time.sleep(draw.random() * 0.02)  # at any moment of a batch
        process.send_signal(signal.SIGKILL)
        process.wait()
    alone = folder / "alone"
    for place in (output, alone):
        subprocess.run(command(checkpoint, source, place, "--batch=16"), check=True, capture_output=True)
    sent = [tuple(json.loads(line).values()) for line in events.open()]
    with EventStore(output, writes=False) as store, EventStore(alone, writes=False) as other:
        stored = [(one.user, one.item, one.time) for one in store.events()]
        difference = _largest_difference(checkpoint, store, other, sorted({user for user, *_ in sent}))
    return {
        **{"kills": count, "sent": len(sent), "lost": len(set(sent) - set(stored))},
        **{"twice": len(stored) - len(set(stored)), "in order": stored == sent, "largest difference": difference},
    }


def _largest_difference(checkpoint: str, one: EventStore, other: EventStore, users: list[str]) -> float:
    """The largest difference of the interests of two stores' states."""
    recommender = Recommender.load(checkpoint)
    states, others = (store.states(users, recommender.version) for store in (one, other))
    if states.keys() != others.keys():
        raise LLMInterestError("states of some users are missing")
    pairs = [(recommender.from_bytes(states[user]), recommender.from_bytes(others[user])) for user in states]
    return max(float((ours.interest - theirs.interest).abs().max()) for ours, theirs in pairs)


def main() -> None:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--what", choices=["rate", "kills"], required=True)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--redis", help="address of a server, to read from a stream there rather than from a file")
    options = parser.parse_args()
    sys.argv = sys.argv[:1]  # RecBole would read it once more
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        events = make_data(folder, options.items, options.events)
        source = sent_to_redis(options.redis, events) if options.redis else events
        checkpoint = trained(folder)
        found = (
            rate(folder, checkpoint, source)
            if options.what == "rate"
            else kills(folder, checkpoint, events, source, options.kills, options.seed)
        )
    print(json.dumps({"what": options.what, "items": options.items, "torch": torch.__version__, **found}))


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing is kept"))
