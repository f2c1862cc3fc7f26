"""Erases users from saved user states, each of one or several users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recbole_llm_interest.erasure.request import ANY_FILE, Erasure, ErasureRequest
from recbole_llm_interest.errors import StorageError
from recbole_llm_interest.io.opening import read_bytes
from recbole_llm_interest.recommender.state_file import USER_DIMENSIONS, pack_state, parse_state

#: tensors with a column for each event
_EVENTS = ("items", "times", "content")


def erase_from_state(path: Path, request: ErasureRequest, erasure: Erasure) -> None:
    """Delete a state of only erased users, rewrite one that has others, or record why it is left.

    Args:
        path: of the state.
        request: the users or items.
        erasure: records what is done.
    """
    state = _read(path)
    if state is None:
        erasure.leave(path, "is not a readable user state: delete it if it is theirs")
        return
    described, tensors = state
    users = described["users"]
    if request.kind == "item":
        if request.tokens.intersection(described["items"]):
            erasure.leave(path, "its history has the item: delete it, and start again from the user's history")
    elif users == [str(row) for row in range(len(users))]:
        erasure.leave(path, "does not say whose state it is: delete it if it is theirs")
    elif kept := [row for row, user in enumerate(users) if user not in request.tokens]:
        if len(kept) < len(users):
            erasure.rewrite(path, [pack_state(*_without(described, tensors, kept))])
    else:
        erasure.delete(path)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Return the description and the tensors of a state; None if it cannot be read."""
    try:
        return parse_state(read_bytes(path, ANY_FILE))
    except (StorageError, ValueError):
        return None


def _without(
    described: dict[str, Any], tensors: dict[str, Tensor], kept: list[int]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the state of the users in the rows ``kept``, with only the items of their events."""
    rows = torch.tensor(kept)
    tensors = {name: values.index_select(USER_DIMENSIONS[name], rows) for name, values in tensors.items()}
    longest = int(tensors["length"].max())
    tensors |= {name: tensors[name][:, :longest] for name in _EVENTS if name in tensors}
    named, renumbered = torch.unique(tensors["items"], return_inverse=True)
    tensors["items"] = renumbered.view(len(kept), -1).int()
    description = {
        **described,
        "users": [described["users"][row] for row in kept],
        "items": [described["items"][row] for row in named.tolist()],
    }
    return description, {name: values.contiguous() for name, values in tensors.items()}
