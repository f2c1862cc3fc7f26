"""What made a result: the package, as it was when the process began, the libraries below it and the machine."""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch

import recbole_llm_interest
from recbole_llm_interest.distributed import world_size
from recbole_llm_interest.registration import PROPERTIES


def made_by(device: torch.device) -> dict[str, Any]:
    """Versions of the package, torch and Python, the package's commit, the device, the CPU cores, the processes."""
    return {
        "version": recbole_llm_interest.__version__,
        "commit": _running_commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu(),
        "cores": cores(),
        "processes": world_size(),
    }


def cores() -> int | None:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@functools.cache  # what runs is what was there at first, whatever is committed during a long comparison
def _running_commit() -> str | None:
    return commit_of(Path(recbole_llm_interest.__file__).parent, PROPERTIES)


def commit_of(package: Path, *others: Path) -> str | None:
    """The commit of a package that lies in a git checkout, short; with ``+changes`` where it is not all committed.

    Args:
        package: its folder. One that git does not track, as in an environment within some checkout, has no commit.
        others: folders of the same checkout that belong to it.
    """
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(package, "rev-parse", "--short", "HEAD")
    changes = _git(package, "status", "--porcelain", "--", *map(str, (package, *others)))
    return f"{commit}+changes" if commit and changes else commit


def _git(folder: Path, *words: str) -> str | None:
    """What git says; None where it fails or is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cpu() -> str:
    """The processor's model, which Python itself does not know on Linux."""
    try:
        models = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        models = []
    return models[0] if models else platform.processor() or platform.machine()
