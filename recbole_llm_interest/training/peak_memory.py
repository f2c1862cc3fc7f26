"""The highest memory of this process."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path


def reset_peak_memory() -> None:
    """Begin to measure the highest memory anew, so that one run of several in a process does not have that of another.

    Only Linux can. Elsewhere the highest memory is that since the process started.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """Return the highest resident memory of this process since ``reset_peak_memory``, in MiB.

    It covers data, model and libraries, all threads, and what earlier runs of the process have left; not the memory of
    GPUs and other processes.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux KiB
