"""Encodes a catalogue of texts by one process and by two nodes of a Ray cluster, and again while a worker is killed.

Two raylets with one core each stand for two machines; the cluster runs before the clock starts. Each time is that of
the whole command ``llm-interest encode``, imports and the start of workers included, with one thread a process.

    python benchmarks/ray_encoding.py --texts=50000
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from encode import made_texts
from figure import print_figure
from safetensors.numpy import load_file

from recbole_llm_interest.cluster import ray_actors  # noqa: F401  (imports ray without its warning)

NODES = 2
_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
_WORKER = b"ray::_Actor"

Rows = dict[bytes, bytes]


def write_catalogue(folder: Path, texts: int) -> None:
    """Write a data set with one event, and an item for each text."""
    (folder / "made").mkdir()
    titles = [f"i{number}\t{text}" for number, text in enumerate(made_texts(texts, longest=8))]
    (folder / "made" / "made.item").write_text("\n".join(["item_id:token\ttitle:token_seq", *titles]) + "\n")
    (folder / "made" / "made.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\nu1\ti0\t1.0\n")


@contextmanager
def two_nodes() -> Iterator[str]:
    """Start two raylets with one core each; yields the address of the cluster."""
    from ray.cluster_utils import Cluster

    # workers have the priority of the one process, where Ray would give them a lower one
    os.environ.update(OMP_NUM_THREADS="1", RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")
    logging.getLogger("ray").setLevel(logging.ERROR)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(NODES - 1):
            cluster.add_node(num_cpus=1)
        yield cluster.address
    finally:
        cluster.shutdown()


def encode(folder: Path, name: str, *words: str) -> tuple[float, Rows]:
    """Encode into a new store; returns the seconds, and the bytes of each feature vector by key.

    Raises:
        RuntimeError: the command failed.
    """
    cache = folder / name
    command = [sys.executable, "-m", "recbole_llm_interest.cli.encode", "--dataset=made", f"--data_path={folder}"]
    settings = [f"--feature_cache={cache}", f"--checkpoint_dir={folder / 'saved'}", "--modalities=[text]"]
    started = time.perf_counter()
    done = subprocess.run([*command, *settings, *words], env=_ENVIRONMENT, cwd=folder, capture_output=True, text=True)
    taken = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    shards = [load_file(path) for path in cache.rglob("*.safetensors")]
    pairs = [pair for shard in shards for pair in zip(shard["keys"], shard["features"], strict=True)]
    rows = {key.tobytes(): vector.tobytes() for key, vector in pairs}
    print(f"{name}: {len(rows)} features, {taken:.1f} s, {len(pairs) - len(rows)} stored twice")
    return taken, rows


def workers() -> list[int]:
    """Return the actors' process ids below this process, from /proc."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended
    mine = {os.getpid()}
    while more := {process for process, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return [process for process in mine if _title(process).startswith(_WORKER)]


def _title(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def kill_one(cache: Path, shards: int, killed: list[int]) -> None:
    """Kill (SIGKILL) an actor once there are so many shards."""
    while len(list(cache.rglob("*.safetensors"))) < shards:
        time.sleep(0.02)
    killed.append(workers()[0])
    os.kill(killed[0], signal.SIGKILL)


def largest_difference(rows: Rows, expected: Rows) -> float:
    """The largest difference of two stores' features, infinite if one lacks a text."""
    if rows.keys() != expected.keys():
        return float("inf")
    return max(float(np.abs(_vector(rows[key]) - _vector(expected[key])).max()) for key in expected)


def _vector(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.float32)


def main() -> None:
    """Measure, and print the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    one_seconds, two_seconds, differences = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_catalogue(folder, options.texts)
        for repeat in range(options.repeats):
            taken, expected = encode(folder, f"one process {repeat + 1}")
            one_seconds.append(taken)
            with two_nodes() as address:
                taken, rows = encode(folder, f"{NODES} nodes {repeat + 1}", f"--ray={address}")
            two_seconds.append(taken)
            differences.append(largest_difference(rows, expected))
        killed: list[int] = []
        cache = "a worker killed"
        with two_nodes() as address:
            killer = threading.Thread(target=kill_one, args=(folder / cache, options.texts // 1500, killed))
            killer.start()
            killed_seconds, rows = encode(folder, cache, f"--ray={address}")
            killer.join()
    print_figure(
        f"encoding {options.texts} texts, one process / {NODES} nodes of Ray",
        "s",
        one_seconds,
        two_seconds,
        on=torch.device("cpu"),
        largest_difference=max(differences),
        workers_killed=len(killed),
        seconds_with_a_worker_killed=round(killed_seconds, 1),
        largest_difference_with_a_worker_killed=largest_difference(rows, expected),
        missing_with_a_worker_killed=len(expected.keys() - rows.keys()),
    )


if __name__ == "__main__":
    main()
