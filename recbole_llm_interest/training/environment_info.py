"""The environment that a result was computed in: package version and commit, libraries, device."""

from __future__ import annotations

import functools
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch

import recbole_llm_interest
from recbole_llm_interest.distributed import world_size
from recbole_llm_interest.io.devices import cpu_cores
from recbole_llm_interest.settings import PROPERTIES


def environment_info(device: torch.device) -> dict[str, Any]:
    """Return versions of the package, torch and Python, the package's commit, device, CPU cores and processes."""
    return {
        "version": recbole_llm_interest.__version__,
        "commit": _running_commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_model(),
        "cores": cpu_cores(),
        "processes": world_size(),
    }


def commit_of(package: Path, *others: Path) -> str | None:
    """Return the short hash of a package's git commit, with ``+changes`` if files are uncommitted.

    Args:
        package: the package's folder. A folder that git does not track has no commit: a virtual environment inside
            another checkout is an example.
        others: other folders of the same checkout that belong to the package.

    Returns:
        The hash; None without a commit.
    """
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(package, "rev-parse", "--short", "HEAD")
    changes = _git(package, "status", "--porcelain", "--", *map(str, (package, *others)))
    return f"{commit}+changes" if commit and changes else commit


@functools.cache  # the code that runs was loaded at the start; commits during a long comparison do not change it
def _running_commit() -> str | None:
    return commit_of(Path(recbole_llm_interest.__file__).parent, PROPERTIES)


def _git(folder: Path, *arguments: str) -> str | None:
    """Return git's output; None if git fails or is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cpu_model() -> str:
    """Return the processor's model name, which ``platform`` does not report on Linux."""
    try:
        models = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        models = []
    return models[0] if models else platform.processor() or platform.machine()
