"""Kills the encoding job at random moments, lets it finish, and compares with a job that was left alone.

    python benchmarks/kills.py --kills=10 --dataset=ml-1m-mm --data_path=… --config_files=benchmarks/ml-1m-mm.yaml

What is not an option here goes to ``python -m recbole_llm_interest.content.encode``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from recbole_llm_interest.content.collect import SHARD_ROWS

Rows = dict[tuple[str, bytes], np.ndarray]


def main() -> None:
    """Print the figure, in words and then as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--earliest", type=float, default=5.0, help="seconds from the start to the earliest kill")
    parser.add_argument("--latest", type=float, default=35.0, help="seconds from the start to the latest kill")
    parser.add_argument("--undisturbed", help="feature cache of a job that was left alone; made if not given")
    options, words = parser.parse_known_args()
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Path(options.undisturbed or Path(folder) / "undisturbed")
        if options.undisturbed is None:
            start(words, undisturbed).wait()
        disturbed = Path(folder) / "disturbed"
        progress = Path(folder) / "progress"
        kept, encoded_for_nothing = 0, []
        for _ in range(options.kills):
            job = start(words, disturbed, progress)
            time.sleep(chance.uniform(options.earliest, options.latest))
            job.send_signal(signal.SIGKILL)
            job.wait()
            kept_before, kept = kept, len(read(disturbed)[0])
            # Counted by the job's own progress bars: what went through the encoder and did not reach the store.
            encoded_for_nothing.append(pieces_done(progress) - (kept - kept_before))
        last = start(words, disturbed)
        if last.wait() != 0:
            sys.exit("error: the job that resumes did not end well")
        expected, _ = read(undisturbed)
        found, doubled = read(disturbed)
    common = expected.keys() & found.keys()
    figure = {
        "figure": "encoding killed at random moments",
        "kills": options.kills,
        "rows": len(expected),
        "rows_lost": len(expected.keys() - found.keys()),
        "rows_stored_twice": doubled,
        "largest_difference": float(max(np.abs(expected[key] - found[key]).max() for key in common)),
        "encoded_twice_by_kill": encoded_for_nothing,
        "shard_rows": SHARD_ROWS,
    }
    print(
        f"{figure['kills']} kills: {figure['rows_lost']} of {figure['rows']} rows lost, {doubled} stored twice; "
        f"at most {max(encoded_for_nothing)} encoded again after one kill (a shard has up to {SHARD_ROWS})"
    )
    print(json.dumps(figure))


def start(words: list[str], cache: Path, progress: Path | None = None) -> subprocess.Popen[bytes]:
    """The encoding job, with its own cache; its progress bars go to a file."""
    command = [sys.executable, "-m", "recbole_llm_interest.content.encode", *words, f"--feature_cache={cache}"]
    with (progress or Path(os.devnull)).open("wb") as file:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file)


def pieces_done(progress: Path) -> int:
    """How many pieces went through encoders, by the last state of each progress bar."""
    states = re.findall(r"(Encoding [^:\r]+):[^\r]*?(\d+)/\d+ \[", progress.read_text(errors="replace"))
    return sum(int(done) for done in dict(states).values())


def read(cache: Path) -> tuple[Rows, int]:
    """Every row below a feature cache, by its encoder's folder and key, and how many are there twice."""
    rows: Rows = {}
    count = 0
    for path in cache.rglob("*.safetensors"):
        shard = load_file(path)
        count += len(shard["keys"])
        for key, row in zip(shard["keys"], shard["features"], strict=True):
            rows[path.parent.name, key.tobytes()] = row
    return rows, count - len(rows)


if __name__ == "__main__":
    main()
