"""A trained model to start from: a checkpoint, or a folder in the Hub's conventions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError
from torch import Tensor

from recbole_llm_interest.content.event_fields import EventField
from recbole_llm_interest.errors import CheckpointError
from recbole_llm_interest.io.checkpoints.first_bytes import names_a_checkpoint
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint
from recbole_llm_interest.io.checkpoints.schema import Checkpoint
from recbole_llm_interest.model.former_names import current_name
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.training.model_folder.format import WEIGHTS
from recbole_llm_interest.training.model_folder.reading import ModelFolder


@dataclass(frozen=True)
class Source:
    """A trained model to start from.

    Attributes:
        name: as the user gave it.
        weights: tensors of any shape, ``[...]``, by their current names.
        items: ids of the items in the order of their rows; empty if they are unknown.
        settings: of the training.
        item_digest: hash of the items; None if it is unknown.
        event_fields: codes of columns of events, by kind.
        optimizer: state of the optimizer; None if it is unknown.
        trained_until: time of the newest training event; None if it is unknown.

    Example:
        >>> Source("shop.safetensors", {}, ["[PAD]", "i1"], {"hidden_size": 64}).trained_until is None
        True
    """

    name: str
    weights: Mapping[str, Tensor]
    items: Sequence[str]
    settings: Mapping[str, Any]
    item_digest: str | None = None
    event_fields: Mapping[str, Sequence[EventField]] = field(default_factory=dict)
    optimizer: Mapping[str, Any] | None = None
    trained_until: float | None = None

    @classmethod
    def read(cls, name: str, *, download: bool = False) -> Self:
        """Read a checkpoint, or a folder of an exported model.

        Args:
            name: of a checkpoint, of a folder, or of a model on the Hub.
            download: whether the Hub may be asked; its cache is searched anyway.

        Raises:
            CheckpointError: there is none, or it cannot be read or is of another model.
        """
        if names_a_checkpoint(name):
            return cls._of_checkpoint(name, load_checkpoint(Path(name)))
        return cls._of_folder(name, ModelFolder.find(name, revision=None, download=download))

    @classmethod
    def _of_checkpoint(cls, name: str, checkpoint: Checkpoint) -> Self:
        recorded = checkpoint["config"]
        if recorded["model"] != LLMInterest.__name__:
            raise CheckpointError(
                f"init_from={name} is of {recorded['model']}: only {LLMInterest.__name__} starts from a checkpoint"
            )
        if not all(values.isfinite().all() for values in checkpoint["state_dict"].values()):
            raise CheckpointError(f"init_from={name} has weights that are NaN or infinite: its training diverged")
        codes = (checkpoint.get("other_parameter") or {}).get("event_codes") or {}
        try:
            items = checkpoint.get("items")
            lines = [] if items is None else bytes(items.tolist()).decode("utf-8", "surrogatepass").split("\n")
            event_fields = {kind: EventField.restored(fields) for kind, fields in codes.items()}
        except (AttributeError, TypeError, ValueError, ValidationError) as error:
            raise CheckpointError(f"init_from={name} is damaged: its items or event columns are no lists") from error
        return cls(
            name,
            _renamed(checkpoint["state_dict"]),
            lines,
            recorded["settings"],
            recorded["item_digest"],
            event_fields,
            checkpoint.get("optimizer"),
            checkpoint.get("trained_until"),
        )

    @classmethod
    def _of_folder(cls, name: str, folder: ModelFolder) -> Self:
        config = folder.config
        settings = {**config.settings, "MAX_ITEM_LIST_LENGTH": config.max_length}
        return cls(
            name,
            _renamed(folder.tensors(WEIGHTS)),
            folder.vocabulary(),
            settings,
            event_fields=config.event_fields,
            trained_until=config.trained_until,
        )


def _renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {current_name(name): values for name, values in weights.items()}
