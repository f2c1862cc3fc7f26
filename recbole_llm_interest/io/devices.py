"""The devices of this machine, as the operating system lists them: torch takes seconds to import."""

from __future__ import annotations

import os
import re
from pathlib import Path

from recbole_llm_interest.errors import SettingsError

_DEVICES = Path("/dev")
#: what drivers of AMD, and of Windows' subsystem for Linux, create; they do not say how many GPUs there are
_UNNUMBERED = ("kfd", "dxg")


def gpu_count() -> int | None:
    """Return the number of NVIDIA GPUs; None where there are others, whose number is unknown."""
    count = sum(re.fullmatch(r"nvidia\d+", path.name) is not None for path in _DEVICES.glob("nvidia*"))
    return None if not count and any((_DEVICES / name).exists() for name in _UNNUMBERED) else count


def cpu_cores() -> int | None:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def check_device(setting: str, name: str | None) -> None:
    """Check that a device has a name that torch knows, and that this machine has it.

    Args:
        setting: that names it, for the message.
        name: such as ``cuda:1``; None passes.

    Raises:
        SettingsError: it has not, or the machine does not have it.

    Example:
        >>> check_device("encoder_device", "cpu")
        >>> check_device("encoder_device", "gpu")
        Traceback (most recent call last):
        ...
        recbole_llm_interest.errors.SettingsError: encoder_device=gpu is no device: give cpu, cuda, or cuda:1 and so on
    """
    if name is None:
        return
    match = re.fullmatch(r"(cpu|mps|xpu|cuda(?::(\d+))?)", name)
    if match is None:
        raise SettingsError(f"{setting}={name} is no device: give cpu, cuda, or cuda:1 and so on")
    if not name.startswith("cuda") or (count := gpu_count()) is None:
        return
    if count <= int(match[2] or 0):
        has = f"{count} GPU{'s' * (count > 1)}, counted from 0" if count else "no GPU"
        raise SettingsError(f"{setting}={name}: this machine has {has}: leave {setting} out, or set {setting}=cpu")
