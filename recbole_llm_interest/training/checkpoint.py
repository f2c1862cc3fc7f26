"""Checkpoints: paths, and checks that a checkpoint fits the model."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import torch
from recbole.config import Config

from recbole_llm_interest.errors import CheckpointError
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint
from recbole_llm_interest.io.checkpoints.schema import Checkpoint
from recbole_llm_interest.io.files import remove_abandoned, try_lock
from recbole_llm_interest.patches.checkpoints import CHECKPOINT_SUFFIX
from recbole_llm_interest.settings import WarmStartSettings, baseline_keys, settings_keys
from recbole_llm_interest.training.run_metadata import RESULT_NEUTRAL_SETTINGS, json_values

RESUME_SUFFIX = ".resume.safetensors"
#: that of former versions, whose files keep their names while they are continued
FORMER_RESUME_SUFFIX = ".resume.pth"


def resume_path(checkpoint: Path) -> Path:
    """Return the path of the resume state beside ``checkpoint``; the path of a resume state itself is unchanged."""
    if checkpoint.name.endswith((RESUME_SUFFIX, FORMER_RESUME_SUFFIX)):
        return checkpoint
    path, former = (checkpoint.with_suffix(suffix) for suffix in (RESUME_SUFFIX, FORMER_RESUME_SUFFIX))
    return former if former.exists() and not path.exists() else path


@contextlib.contextmanager
def reserve_checkpoint_path(file: str) -> Iterator[str]:
    """Reserve a checkpoint path for one run: ``file``, or ``file-2`` and so on if it is taken.

    RecBole names checkpoints by the second in which a run begins, so that two runs may get the same name.
    """
    path = free = Path(file)
    remove_abandoned(
        path.parent.glob(f".*{CHECKPOINT_SUFFIX}.*")
    )  # of runs that were killed before they wrote a resume state
    for number in itertools.count(2):
        with try_lock(free) as is_locked:
            if is_locked and not free.exists() and not resume_path(free).exists():
                yield str(free)
                return
        free = path.with_stem(f"{path.stem}-{number}")


def load_matching_checkpoint(path: Path, config: Config) -> Checkpoint:
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
    saved = load_matching_checkpoint(path, config)["config"]["settings"]
    of_training = {field.name for field in dataclasses.fields(WarmStartSettings)}
    keys = ["MAX_ITEM_LIST_LENGTH", *settings_keys(), *baseline_keys(config["model"])]
    keys = [key for key in keys if key not in of_training]
    if any(saved.get(control, "none") != "none" for control in ("content_control", "transition_control")):
        keys.append("seed")  # the seed decides which content, or which neighbours, each item gets
    for key in keys:
        if key in saved and saved[key] != config[key] and key not in RESULT_NEUTRAL_SETTINGS:
            raise CheckpointError(
                f"checkpoint {path} was trained with other settings: {key}={saved[key]!r}, now {config[key]!r}; "
                f"give --{key}={saved[key]}"
            )


def restore_model(model: torch.nn.Module, checkpoint: Checkpoint) -> None:
    """Load the weights of a checkpoint into ``model``.

    Raises:
        CheckpointError: the model was built with other settings or for other items than the checkpoint's.
    """
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        mismatch = str(error).splitlines()[-1].strip()[:500]  # names of weights come from the file
        raise CheckpointError(f"the checkpoint was trained with other settings or other data: {mismatch}") from error
    _check_event_codes(model, checkpoint)
    model.load_other_parameter(checkpoint.get("other_parameter"))  # type: ignore[operator]


def _check_event_codes(model: torch.nn.Module, checkpoint: Checkpoint) -> None:
    saved = (checkpoint.get("other_parameter") or {}).get("event_codes")
    if saved and json_values(saved) != json_values(getattr(model, "event_codes", {})):
        raise CheckpointError(
            "the checkpoint was trained with other values in the columns of event_fields: the data have changed since; "
            "train again"
        )
