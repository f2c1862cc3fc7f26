"""User states on disk: safetensors, with a JSON description in the metadata.

A file is validated against the model: each tensor must have the type and shape of the model's own states, each number
must be finite, and each item must be listed in the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from safetensors.numpy import save
from torch import Tensor

from recbole_llm_interest.errors import RequestError, StateError
from recbole_llm_interest.io.files import write_atomically
from recbole_llm_interest.io.opening import FileKind, parse_json, read_bytes, shown_path
from recbole_llm_interest.io.tensor_files import parse_tensors
from recbole_llm_interest.model.interest_tracker import InterestState, InterestTracker
from recbole_llm_interest.recommender.event_log import EventLog, LoggedEvents
from recbole_llm_interest.recommender.inputs import Id, read_ids
from recbole_llm_interest.recommender.user_state import UserState

#: version of the file format; another one is not read
_FORMAT = 1
#: a million users of a small model take 2 GB
_FILE = FileKind("state", StateError, 4 * 2**30, "start from the user's history")
_REAL = torch.float32
#: types of a state's tensors
_DTYPES = {
    **{"carried": _REAL, "past": _REAL, "interest": _REAL, "user": _REAL},
    **{"content": _REAL, "recent": _REAL},
    **{"length": torch.int64, "latest": torch.float64, "items": torch.int32, "times": torch.float64},
}
#: dimension of the users in each tensor
USER_DIMENSIONS = {"carried": 1, **dict.fromkeys(_DTYPES.keys() - {"carried"}, 0)}


class _Description(BaseModel):
    """The JSON description of a state."""

    model_config = ConfigDict(strict=True)

    format: int
    model: str
    users: list[str] = Field(min_length=1)
    items: list[str | None]
    is_single: bool | None = None  # missing in files of version 0.1.0
    data: dict[str, str] = {}  # likewise

    @field_validator("is_single")
    @classmethod
    def _check_single(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        if value and len(info.data.get("users", ())) != 1:
            raise ValueError("it does not have exactly one user")
        return value


def state_bytes(
    state: UserState,
    tokens: Sequence[str],
    users: Sequence[Id] | None = None,
    data: Mapping[str, str] | None = None,
) -> bytes:
    """The bytes of a state's file.

    Args:
        state: of one user or a batch.
        tokens: ids of the items by row of the catalog.
        users: ids of the users that are written; None for their positions, ``0`` to ``B - 1``.
        data: hashes of the data that the model was trained on.

    Raises:
        RequestError: there is not one id for each user, or no list of them.
    """
    names = read_ids(range(len(state)) if users is None else users, "users")
    if len(names) != len(state):
        raise RequestError(f"the state is of {len(state)} users, and users has {len(names)} ids: give one for each")
    events = state.events
    rows, items = torch.unique(events.items, return_inverse=True)
    described = {
        "format": _FORMAT,
        "model": state.model,
        "users": names,
        "items": [tokens[row] if row else None for row in rows.tolist()],
        "is_single": state.is_single,
        "data": dict(data or {}),
    }
    return pack_state(described, _tensors_of(state, events, items))


def save_state(state: UserState, path: Path, *described: Any) -> None:
    """Write what ``state_bytes`` returns to a file; ``described`` are its other arguments.

    Raises:
        RequestError: as ``state_bytes``.
        StorageError: the file cannot be written; a former file of that name is intact.
    """
    packed = state_bytes(state, *described)
    write_atomically(path, lambda file: file.write(packed), "name another file for the state")


def _tensors_of(state: UserState, events: LoggedEvents, items: Tensor) -> dict[str, Tensor]:
    """Return the tensors of a state of ``B`` users; ``items``, ``[B * L]``, index the described items."""
    tensors = {
        "carried": state.tracker.carried,
        "past": state.tracker.past,
        "interest": state.interest,
        "length": state.length,
        "latest": state.latest,
        "items": items.view(len(state), -1).int(),
        "times": events.times,
    }
    if events.content.shape[2]:
        tensors["content"] = events.content
    tensors |= {name: values for name in ("user", "recent") if (values := getattr(state.tracker, name)) is not None}
    return {name: values.cpu().contiguous() for name, values in tensors.items()}


def pack_state(described: Mapping[str, Any], tensors: dict[str, Tensor]) -> bytes:
    """Return the bytes of a state's file.

    Args:
        described: the JSON description.
        tensors: of any shape, ``[...]``, by name.
    """
    description = json.dumps(described)
    arrays = {name: values.numpy() for name, values in tensors.items()}
    return save(arrays, {"state": description, "sha256": _digest(description, tensors)})


def load_state(path: Path, *fits: Any) -> UserState:
    """Read a state that ``save_state`` wrote; ``fits`` are the arguments of ``read_state`` from ``model`` on.

    Raises:
        StateError: the file is missing, damaged or of another model, or it has items that the catalog lacks.
    """
    return read_state(read_bytes(path, _FILE), path, *fits)


def read_state(
    data: bytes, path: Path, model: str, rows: Mapping[str, int], tracker: InterestTracker, content_size: int = 0
) -> UserState:
    """Read what ``state_bytes`` returned.

    Args:
        data: the bytes.
        path: of the file that has them, for messages.
        model: hash of the model that is to use the state.
        rows: rows of the items in the catalog, by id.
        tracker: of the model.
        content_size: width of what the content of events adds; 0 if the model reads none.

    Raises:
        StateError: they are damaged or of another model, or have items that the catalog lacks.
    """
    try:
        described, tensors = _parse(data, model)
        _check_tensors(tensors, described, tracker, content_size)
    except ValueError as error:
        raise _FILE.refusal(path, error) from error
    row_of = _rows_of(described.items, rows, path)
    items, length = row_of[tensors["items"].long()], tensors["length"]
    is_padding = torch.arange(items.shape[1]) >= length[:, None]
    if not torch.equal(items == 0, is_padding):
        raise _FILE.refusal(path, "is damaged: the number of events is wrong")
    content = tensors.get("content", torch.zeros(*items.shape, 0))
    device = tracker.output.weight.device
    of_tracker = {name: tensors[name].to(device) for name in InterestState._fields if name in tensors}
    return UserState(
        InterestState(of_tracker["carried"], of_tracker["past"], of_tracker.get("user"), of_tracker.get("recent")),
        tensors["interest"].to(device),
        EventLog.of(LoggedEvents(items, tensors["times"], content), length),
        length,
        tensors["latest"],
        model,
        tuple(described.users),
        len(length) == 1 if described.is_single is None else described.is_single,
    )


def parse_state(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Parse the bytes of a state file of any model into the arguments of ``pack_state``.

    Args:
        data: the file's bytes.

    Returns:
        Its description, and its tensors, ``[..., B, ...]`` with the users at ``USER_DIMENSIONS``.

    Raises:
        ValueError: it is damaged, or of another version.
    """
    described, tensors = _parse(data)
    if {*tensors, "user", "content", "recent"} != _DTYPES.keys():
        raise ValueError(f"is damaged: it has the tensors {', '.join(sorted(tensors))[:200]}")
    for name, values in tensors.items():
        rows = dict(enumerate(values.shape)).get(USER_DIMENSIONS[name])
        if values.dtype != _DTYPES[name] or rows != len(described.users):
            raise ValueError(f"is damaged: {name} is {values.dtype} {list(values.shape)}")
    if tensors["items"].ndim != 2 or tensors["items"].shape != tensors["times"].shape or tensors["length"].ndim != 1:
        raise ValueError("is damaged: its events are not as many as it says")
    _check_events(tensors, described)
    return described.model_dump(exclude_unset=True), tensors


def _parse(data: bytes, model: str | None = None) -> tuple[_Description, dict[str, Tensor]]:
    """Parse a file, and verify its checksum.

    Args:
        data: the file's bytes.
        model: hash of the model that is to use the state; None for any.

    Raises:
        ValueError: it is damaged, or of another version or model.
    """
    tensors, metadata = parse_tensors(data)
    if "state" not in metadata or "sha256" not in metadata:
        raise ValueError("is damaged, or was not written by this package")
    if metadata["sha256"] != _digest(metadata["state"], tensors):
        raise ValueError("is damaged: its checksum does not match")
    try:
        described = parse_json(metadata["state"])
    except ValueError as error:
        raise ValueError(f"is damaged: its description is not JSON: {error}") from error
    if not isinstance(described, dict):
        raise ValueError("is damaged: it does not describe a state")  # noqa: TRY004  (damage, whatever its type)
    if described.get("format") != _FORMAT:
        raise ValueError(f"has format {str(described.get('format'))[:20]}, and this version reads {_FORMAT}")
    if model is not None and described.get("model") != model:
        raise ValueError(f"is of another model ({str(described.get('model'))[:12]}, not {model[:12]})")
    try:
        return _Description.model_validate(described), tensors
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise ValueError(f"is damaged: {place[:80]}: {fault['msg']}") from error


def _shapes(
    users: int, events: tuple[int, ...], tracker: InterestTracker, content_size: int
) -> dict[str, tuple[int | None, ...]]:
    """Sizes of the tensors of a model's states; None for any size."""
    width = tracker.hidden_size
    shapes: dict[str, tuple[int | None, ...]] = {
        **{"carried": (None, users, width), "past": (users, None, width), "items": (users, None), "times": events},
        **{"interest": (users, tracker.output.out_features), "length": (users,), "latest": (users,)},
    }
    if content_size:
        shapes["content"] = (*events, content_size)
    if tracker.window is not None:
        shapes["recent"] = (users, tracker.window.k, tracker.window.size)
    if tracker.user_to_state is not None:
        shapes["user"] = (users, tracker.user_to_state.in_features)
    return shapes


def _check_tensors(
    tensors: Mapping[str, Tensor], described: _Description, tracker: InterestTracker, content_size: int
) -> None:
    """Check that tensors have the names, types and shapes of a model's states.

    Raises:
        ValueError: they are not.
    """
    events = tuple(tensors["items"].shape) if "items" in tensors else ()
    shapes = _shapes(len(described.users), events, tracker, content_size)
    if tensors.keys() != shapes.keys():
        raise ValueError(f"is damaged: it has the tensors {', '.join(sorted(tensors))[:200]}")
    for name, shape in shapes.items():
        found = tensors[name]
        is_shape = found.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, found.shape, strict=True))
        if found.dtype != _DTYPES[name] or not is_shape:
            raise ValueError(f"does not fit the model: {name} is {found.dtype} {list(found.shape)}")
    _check_growth(tensors, tracker)
    _check_events(tensors, described)


def _check_growth(tensors: Mapping[str, Tensor], tracker: InterestTracker) -> None:
    """Check that the tracker can continue from the tensors.

    Raises:
        ValueError: it cannot.
    """
    grown, attended = len(tensors["carried"]) - tracker.encoder.initial_size, tensors["past"].shape[1]
    may_grow = tracker.max_length if tracker.encoder.has_attention else 0
    may_attend = tracker.max_length if tracker.readout is not None else 0
    if not 0 <= grown <= may_grow or attended > may_attend:
        raise ValueError("does not fit the model: it has another number of remembered events")
    for name, values in tensors.items():
        if _DTYPES[name] == _REAL and not values.isfinite().all():
            raise ValueError(f"is damaged: {name} has NaN or Inf")


def _check_events(tensors: Mapping[str, Tensor], described: _Description) -> None:
    """Check the items, times and number of events.

    Raises:
        ValueError: they are inconsistent or invalid.
    """
    items, length, times, latest = (tensors[name] for name in ("items", "length", "times", "latest"))
    if int(length.min()) < 0 or int(length.max()) != items.shape[1]:
        raise ValueError("is damaged: the number of events is wrong")
    if items.numel() and not 0 <= int(items.min()) <= int(items.max()) < len(described.items):
        raise ValueError("is damaged: an event has an item that is not listed")
    if len(set(described.items)) < len(described.items):
        raise ValueError("is damaged: it lists an item twice")
    if times.isinf().any() or latest.isnan().any() or latest.isposinf().any():
        raise ValueError("is damaged: it has times that are not numbers")


def _rows_of(tokens: Sequence[str | None], rows: Mapping[str, int], path: Path) -> Tensor:
    """Return the rows of items in the catalog, ``[n]``; 0 for None, the padding."""
    unknown = [token for token in tokens if token is not None and token not in rows]
    if unknown:
        raise StateError(
            f"state {shown_path(path)} has item {unknown[0][:80]!r}, which the catalog lacks: add the item, then load "
            "again"
        )
    return torch.tensor([0 if token is None else rows[token] for token in tokens], dtype=torch.long)


def _digest(description: str, tensors: Mapping[str, Tensor]) -> str:
    hashed = hashlib.sha256(description.encode("utf-8", "surrogatepass"))
    for _, values in sorted(tensors.items()):
        in_order = values.reshape(-1).clone(memory_format=torch.contiguous_format)  # a view needs a stride of 1
        hashed.update(in_order.view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()
