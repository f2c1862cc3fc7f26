"""States on disk: safetensors, with a description as JSON in the file's metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from recbole_llm_interest.errors import RequestError, StateError
from recbole_llm_interest.io.files import write_atomically
from recbole_llm_interest.model.interest_tracker import InterestState
from recbole_llm_interest.recommender.event_log import EventLog
from recbole_llm_interest.recommender.user_state import UserState

#: version of the file format; another one is not read
_FORMAT = 1


def save_state(state: UserState, path: Path, tokens: Sequence[str], users: Sequence[str | int] | None = None) -> None:
    """Write a state to a file.

    Args:
        state: of one user or a batch.
        path: of the file.
        tokens: ids of the items by row of the catalog.
        users: ids of the users that are written; None for their positions, ``0`` to ``B - 1``.

    Raises:
        RequestError: there is not one id for each user.
        StorageError: the file cannot be written; a former file of that name is intact.
    """
    names = [str(name) for name in (range(len(state)) if users is None else users)]
    if len(names) != len(state):
        raise RequestError(f"the state is of {len(state)} users, and users has {len(names)} ids: give one for each")
    rows, items = torch.unique(state.items, return_inverse=True)
    described = {
        "format": _FORMAT,
        "model": state.model,
        "users": names,
        "items": [tokens[row] if row else None for row in rows.tolist()],
        "is_single": state.is_single,
    }
    tensors = {
        "carried": state.tracker.carried,
        "past": state.tracker.past,
        "interest": state.interest,
        "length": state.length,
        "latest": state.latest,
        "items": items.view(len(state), -1).int(),
        "times": state.times,
    }
    if state.tracker.user is not None:
        tensors["user"] = state.tracker.user
    tensors = {name: values.cpu().contiguous() for name, values in tensors.items()}
    description = json.dumps(described)
    data = save(tensors, {"state": description, "sha256": _digest(description, tensors)})
    write_atomically(path, lambda file: file.write(data), "name another file for the state")


def load_state(path: Path, model: str, rows: Mapping[str, int], device: torch.device) -> UserState:
    """Read a state that ``save_state`` wrote.

    Args:
        path: of the file.
        model: hash of the model that is to use the state.
        rows: rows of the items in the catalog, by id.
        device: of the model.

    Raises:
        StateError: the file is missing, damaged or of another model, or it has items that the catalog lacks.
    """
    described, tensors = _read(path)
    if described["format"] != _FORMAT:
        raise StateError(f"state {path} has format {described['format']}, and this version reads {_FORMAT}")
    if described["model"] != model:
        raise StateError(
            f"state {path} is of another model ({str(described['model'])[:12]}, not {model[:12]}): load the checkpoint "
            "that made it, or start from the user's history"
        )
    row_of = _rows_of(described["items"], rows, path)
    length, profile = tensors["length"], tensors.get("user")
    return UserState(
        InterestState(
            tensors["carried"].to(device),
            tensors["past"].to(device),
            None if profile is None else profile.to(device),
        ),
        tensors["interest"].to(device),
        EventLog.of(row_of[tensors["items"].long()], tensors["times"], length),
        length,
        tensors["latest"],
        model,
        tuple(described["users"]),
        described.get("is_single", len(length) == 1),  # files of version 0.1.0 don't say
    )


def _rows_of(tokens: Sequence[str | None], rows: Mapping[str, int], path: Path) -> Tensor:
    """Rows of items in the catalog, ``[n]``; 0 for None, the padding."""
    unknown = [token for token in tokens if token is not None and token not in rows]
    if unknown:
        raise StateError(
            f"state {path} has item {unknown[0]!r}, which the catalog lacks: add the item, then load again"
        )
    return torch.tensor([0 if token is None else rows[token] for token in tokens], dtype=torch.long)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise StateError(f"state {path} does not exist")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        is_intact = metadata.get("sha256") == _digest(metadata["state"], tensors)
        described: dict[str, Any] = json.loads(metadata["state"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise StateError(f"state {path} is damaged, or this package did not write it") from error
    if not is_intact:
        raise StateError(f"state {path} is damaged: its checksum does not match")
    return described, tensors


def _digest(description: str, tensors: Mapping[str, Tensor]) -> str:
    hashed = hashlib.sha256(description.encode())
    for _, values in sorted(tensors.items()):
        hashed.update(values.numpy().tobytes())
    return hashed.hexdigest()
