"""Checkpoints: paths, reading without executing code, and checks that a checkpoint fits the model."""

from __future__ import annotations

import contextlib
import itertools
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config

from recbole_llm_interest.errors import CheckpointError
from recbole_llm_interest.io.files import remove_abandoned, try_lock
from recbole_llm_interest.settings import settings_keys
from recbole_llm_interest.training.run_metadata import RESULT_NEUTRAL_SETTINGS

RESUME_SUFFIX = ".resume.pth"

#: exceptions of ``zipfile`` and ``torch.load`` for a file that is damaged or is no checkpoint
_READ_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, struct.error, pickle.UnpicklingError),
    *(NotImplementedError, ValueError, RuntimeError, EOFError, KeyError, TypeError, OSError),
)


def resume_path(checkpoint: Path) -> Path:
    """Return the path of the resume state beside ``checkpoint``; the path of a resume state itself is unchanged."""
    return checkpoint if checkpoint.name.endswith(RESUME_SUFFIX) else checkpoint.with_suffix(RESUME_SUFFIX)


@contextlib.contextmanager
def reserve_checkpoint_path(file: str) -> Iterator[str]:
    """Reserve a checkpoint path for one run: ``file``, or ``file-2`` and so on if it is taken.

    RecBole names checkpoints by the second in which a run begins, so that two runs may get the same name.
    """
    path = free = Path(file)
    remove_abandoned(path.parent.glob(".*.pth.*"))  # of runs that were killed before they wrote a resume state
    for number in itertools.count(2):
        with try_lock(free) as is_locked:
            if is_locked and not free.exists() and not resume_path(free).exists():
                yield str(free)
                return
        free = path.with_stem(f"{path.stem}-{number}")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of any model and data set without executing code from it.

    Raises:
        CheckpointError: the file does not exist or is damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    damaged = f"checkpoint {path} is damaged, or not one that this package wrote"
    try:
        with zipfile.ZipFile(path) as file:  # torch does not verify the checksums of the archive's members
            if file.testzip() is not None:
                raise CheckpointError(damaged)
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except _READ_ERRORS as error:
        raise CheckpointError(damaged) from error
    if not isinstance(checkpoint, dict) or "config" not in checkpoint:
        raise CheckpointError(damaged)
    return checkpoint


def load_matching_checkpoint(path: Path, config: Config) -> dict[str, Any]:
    """Read a checkpoint of the model and data set of ``config`` without executing code from it.

    Args:
        path: the checkpoint.
        config: RecBole's configuration. Once the data set is read, its ``item_digest`` is a hash of the items in
            RecBole's order, which is compared as well.

    Raises:
        CheckpointError: the file does not exist, is damaged, or is of another model, data set or item order.
    """
    checkpoint = load_checkpoint(path)
    saved = checkpoint["config"]
    for key in ("model", "dataset"):
        if saved[key] != config[key]:
            raise CheckpointError(
                f"checkpoint {path} is of {key} {saved[key]!r}, not {config[key]!r}: name it by --{key}={saved[key]}"
            )
    if saved["item_digest"] != config["item_digest"] and config["item_digest"] is not None:
        raise CheckpointError(
            f"checkpoint {path} was trained on other items, or on the same in another order: {config['dataset']} has "
            "changed since; train again"
        )
    return checkpoint


def check_checkpoint_settings(path: Path, config: Config) -> None:
    """Check that a checkpoint was trained with the settings of ``config``.

    Raises:
        CheckpointError: it was not, or it cannot be read.
    """
    saved = load_matching_checkpoint(path, config)["config"]
    keys = ["MAX_ITEM_LIST_LENGTH", *settings_keys()]
    if "content_control" in saved and saved["content_control"] != "none":
        keys.append("seed")  # the seed decides which content each item gets
    for key in keys:
        if key in saved and saved[key] != config[key] and key not in RESULT_NEUTRAL_SETTINGS:
            raise CheckpointError(
                f"checkpoint {path} was trained with other settings: {key}={saved[key]!r}, now {config[key]!r}; "
                f"give --{key}={saved[key]}"
            )


def restore_model(model: torch.nn.Module, checkpoint: Mapping[str, Any]) -> None:
    """Load the weights of a checkpoint into ``model``.

    Raises:
        CheckpointError: the model was built with other settings or for other items than the checkpoint's.
    """
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        mismatch = str(error).splitlines()[1].strip()
        raise CheckpointError(f"the checkpoint was trained with other settings or other data: {mismatch}") from error
    model.load_other_parameter(checkpoint["other_parameter"])  # type: ignore[operator]
