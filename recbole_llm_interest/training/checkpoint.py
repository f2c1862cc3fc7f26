"""Reads checkpoints, running no code that they may hold."""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config

from recbole_llm_interest.errors import CheckpointError

#: what reading an archive may raise that is none, or no longer
_OF_DAMAGED_ARCHIVES = (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, zlib.error)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of whatever model and data set, running no code that it may hold.

    Raises:
        CheckpointError: it is not there, or is damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    damaged = f"checkpoint {path} is damaged, or not one that this package wrote"
    try:
        with zipfile.ZipFile(path) as file:  # torch reads past a flipped bit; each part has a checksum, though
            if file.testzip() is not None:
                raise CheckpointError(damaged)
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (
        *_OF_DAMAGED_ARCHIVES,
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        KeyError,
        TypeError,
        OSError,
    ) as error:
        raise CheckpointError(damaged) from error
    if not isinstance(checkpoint, dict) or "config" not in checkpoint:
        raise CheckpointError(damaged)
    return checkpoint


def load_matching_checkpoint(path: Path, config: Config) -> dict[str, Any]:
    """Read a checkpoint of the model and data set that ``config`` names, running no code that it may hold.

    ``item_digest`` in ``config`` is a hash of the items in RecBole's order, where the data set has been read.

    Raises:
        CheckpointError: it is not there, is damaged, or belongs to something else.
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


def restore_model(model: torch.nn.Module, checkpoint: Mapping[str, Any]) -> None:
    """Give ``model`` the weights of a checkpoint.

    Raises:
        CheckpointError: the model was built with other settings, or for other items, than the checkpoint's.
    """
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        mismatch = str(error).splitlines()[1].strip()
        raise CheckpointError(f"the checkpoint was trained with other settings or other data: {mismatch}") from error
    model.load_other_parameter(checkpoint["other_parameter"])  # type: ignore[operator]
