"""The state of an interrupted adaptation, as one safetensors file: tensors by name, plain values as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from recbole_llm_interest.errors import CheckpointError
from recbole_llm_interest.io.files import write_atomically
from recbole_llm_interest.io.opening import FileKind, parse_json, read_bytes
from recbole_llm_interest.io.tensor_files import parse_tensors

_STATE = FileKind("state of an adaptation", CheckpointError, 2**34, "delete it to start anew")


def write_resume_file(path: Path, tensors: Mapping[str, Mapping[str, Tensor]], values: Mapping[str, Any]) -> None:
    """Write a state.

    Args:
        path: of the file. A previous one is replaced when the new one is complete.
        tensors: by group and name, ``[...]``.
        values: plain ones.

    Raises:
        StorageError: the file cannot be written.
    """
    flat = {
        f"{group}|{name}": tensor.contiguous() for group, named in tensors.items() for name, tensor in named.items()
    }
    data = save(flat, metadata={"values": json.dumps(dict(values))})
    write_atomically(path, lambda file: file.write(data), "name another file by --output")


def read_resume_file(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read a state: tensors by group and name, ``[...]``, and the plain values.

    Raises:
        CheckpointError: the file is damaged, or is no state of an adaptation.
    """
    try:
        flat, metadata = parse_tensors(read_bytes(path, _STATE))
        values = parse_json(metadata["values"])
    except (ValueError, KeyError) as error:
        raise _STATE.refusal(path, error) from error
    tensors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in flat.items():
        group, _, name = key.partition("|")
        tensors.setdefault(group, {})[name] = tensor
    return tensors, values
