"""What benchmarks share: their last line, one JSON object, and how much memory something takes."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from recbole_llm_interest.training.environment_info import environment_info


def device() -> torch.device:
    """Where RecBole computes by default: on a GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def print_figure(
    name: str,
    unit: str,
    baseline: Sequence[float],
    ours: Sequence[float],
    *,
    on: torch.device | None = None,
    **more: Any,
) -> None:
    """Print the medians of both sides, their ratio and its spread over the repeats, and what made them.

    Args:
        name: what was measured.
        unit: of the values.
        baseline: one value a repeat.
        ours: the same, measured in turn with the baseline's.
        on: where it ran; None for ``device()``.
        more: further keys and values of the figure.
    """
    ratios = [theirs / own for theirs, own in zip(baseline, ours, strict=True)]
    figure = {
        "figure": name,
        "unit": unit,
        "baseline": _short(statistics.median(baseline)),
        "ours": _short(statistics.median(ours)),
        "ratio": _short(statistics.median(ratios)),
        "repeats": len(ratios),
        "spread": [_short(min(ratios)), _short(max(ratios))],
        **more,
        **environment_info(on or device()),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(figure))


def _short(value: float) -> float:
    return float(f"{value:.4g}")


class Memory:
    """The memory of this process, in MB, while it is watched.

    Attributes:
        peak: the most that it had beyond what it had at the beginning.
        kept: what it has beyond that at the end.
    """

    peak = kept = 0.0


@contextmanager
def memory() -> Iterator[Memory]:
    """Watch the process' resident memory, a hundred times a second."""
    result, start, is_over = Memory(), _resident(), threading.Event()

    def watch() -> None:
        while not is_over.wait(0.01):
            result.peak = max(result.peak, _resident() - start)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield result
    finally:
        is_over.set()
        thread.join()
        result.kept = _resident() - start
        result.peak = max(result.peak, result.kept)


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


@contextmanager
def seconds() -> Iterator[list[float]]:
    """Wall-clock and CPU seconds of what is done inside, as the two items of the list."""
    taken: list[float] = []
    wall, processor = time.perf_counter(), time.process_time()
    yield taken
    taken += [time.perf_counter() - wall, time.process_time() - processor]
