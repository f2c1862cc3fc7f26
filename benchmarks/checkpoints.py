"""Measures saving and loading a checkpoint: seconds, CPU seconds, bytes, and the memory to load.

    python benchmarks/checkpoints.py

There are two sizes, that of ml-100k and 100,000 items of width 128, each with the two moments of Adam.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from figure import memory
from recbole.config import Config

import recbole_llm_interest  # noqa: F401  (makes RecBole work with current libraries)
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint
from recbole_llm_interest.io.checkpoints.writing import write_state
from recbole_llm_interest.patches.checkpoints import checkpoint_state

#: items and width of the table of embeddings
_SIZES = {"ml-100k": (1_683, 64), "100,000 x 128": (100_000, 128)}


def main() -> None:
    """Save and load a checkpoint of each size several times and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    sys.argv = sys.argv[:1]  # RecBole reads the command line, too
    for name, size in _SIZES.items():
        _measure(name, _trainer(*size), options.rounds)


def _measure(name: str, trainer: Any, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "checkpoint")
        save, save_cpu = _medians(rounds, lambda: write_state(path, checkpoint_state(trainer, 3)))
        load, load_cpu = _medians(rounds, lambda: load_checkpoint(path))
        with memory() as taken:
            load_checkpoint(path)
        size = path.stat().st_size
    print(
        f"{name}: save {save:.4f} s ({save_cpu:.4f} of CPU), load {load:.4f} s ({load_cpu:.4f} of CPU), "
        f"{size:,} bytes, {taken.peak:.1f} MB to load"
    )


def _trainer(items: int, width: int) -> Any:
    """Return the parts of a trainer that are saved, after its first step."""
    model = torch.nn.ModuleDict({"embedding": torch.nn.Embedding(items, width), "tracker": torch.nn.LSTM(width, 128)})
    optimizer = torch.optim.Adam(model.parameters())
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    model.other_parameter = dict  # type: ignore[assignment]
    config = Config("GRU4Rec", "ml-100k")
    return SimpleNamespace(config=config, model=model, optimizer=optimizer, cur_step=0, best_valid_score=0.1)


def _medians(rounds: int, action: Callable[[], object]) -> tuple[float, float]:
    """Return the medians of wall-clock and CPU seconds."""
    walls, cpus = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        action()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


if __name__ == "__main__":
    main()
