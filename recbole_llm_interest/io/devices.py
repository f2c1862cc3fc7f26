"""The devices of this machine, as the operating system lists them: torch takes seconds to import."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from recbole_llm_interest.errors import SettingsError

_DEVICES = Path("/dev")
#: what drivers of AMD, of Windows' subsystem for Linux, and of NVIDIA's Jetson boards create; they do not say how many
#: GPUs there are
_UNNUMBERED = ("kfd", "dxg", "nvgpu", "nvhost-gpu")


def gpu_count() -> int | None:
    """Return the number of NVIDIA GPUs; None where there are only others, whose number is unknown."""
    count = sum(re.fullmatch(r"nvidia\d+", path.name) is not None for path in _DEVICES.glob("nvidia*"))
    return None if not count and any((_DEVICES / name).exists() for name in _UNNUMBERED) else count


def cpu_cores() -> int | None:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def show_gpus(gpu_id: Any) -> None:
    """Let torch, which is not imported yet, see the GPUs of RecBole's setting ``gpu_id`` alone, as RecBole does.

    Args:
        gpu_id: a number, several as a tuple or separated by commas, or an empty text for none.
    """
    several = isinstance(gpu_id, list | tuple)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpu_id)) if several else str(gpu_id)


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
    match = re.fullmatch(r"(cpu|mps|xpu|cuda)(?::(\d+))?", name)
    if match is None:
        raise SettingsError(f"{setting}={name} is no device: give cpu, cuda, or cuda:1 and so on")
    if match[1] != "cuda" or (count := gpu_count()) is None:
        return
    if count <= int(match[2] or 0):
        has = f"{count} GPU{'s' * (count > 1)}, counted from 0" if count else "no GPU"
        raise SettingsError(f"{setting}={name}: this machine has {has}: leave {setting} out, or set {setting}=cpu")
