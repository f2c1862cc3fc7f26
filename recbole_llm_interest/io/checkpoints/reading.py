"""Reads checkpoints and resume states. A file may be hostile: time and memory are proportional to its size."""

from __future__ import annotations

import math
import os
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from recbole_llm_interest.io.checkpoints.decoding import Decoder
from recbole_llm_interest.io.checkpoints.first_bytes import CHECKPOINT_FILE, FORMER_START, has_header
from recbole_llm_interest.io.checkpoints.former_files import converted
from recbole_llm_interest.io.checkpoints.layout import (
    CHECKSUM_PLACE,
    FORMAT,
    HEADER_START,
    LENGTH_BYTES,
    MAX_VALUES,
    checksum_of,
)
from recbole_llm_interest.io.checkpoints.schema import CHECKPOINT, RESUME_STATE, Checkpoint, ResumeState
from recbole_llm_interest.io.opening import open_regular, parse_json
from recbole_llm_interest.io.tensor_files import DTYPES

#: exceptions that a damaged or hostile file causes
_DAMAGES = (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RuntimeError)

_Kind = TypeVar("_Kind", Checkpoint, ResumeState)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of any model and data set, including former ones.

    Args:
        path: of the file. Its content, not its name, determines the format.

    Raises:
        CheckpointError: it does not exist, is damaged, or is not a checkpoint.
    """
    return _read(path, CHECKPOINT, "checkpoint")


def read_resume_state(path: Path) -> ResumeState:
    """Read the resume state of an interrupted training, including former ones.

    Raises:
        CheckpointError: it does not exist, is damaged, or is not a resume state.
    """
    return _read(path, RESUME_STATE, "resume state")


def _read(path: Path, schema: TypeAdapter[_Kind], what: str) -> _Kind:
    with open_regular(path, CHECKPOINT_FILE) as file:
        try:
            if file.peek(4)[:4] != FORMER_START:
                return schema.validate_python(_read_values(file))
            with converted(file) as new:
                return schema.validate_python(_read_values(new))
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))[:80]
            raise CHECKPOINT_FILE.refusal(path, f"is not a {what}: {where}: {error.errors()[0]['msg']}") from error
        except _DAMAGES as error:
            reason = str(error)[:200]
            raise CHECKPOINT_FILE.refusal(path, f"is damaged, or not one that this package wrote ({reason})") from error
        except (MemoryError, OSError) as error:
            raise CHECKPOINT_FILE.refusal(path, f"cannot be read: {error}") from error


def _read_values(file: BufferedReader | BufferedRandom) -> Any:
    """Return the nested values of a file in this format.

    Raises:
        ValueError: it is damaged; other exceptions in ``_DAMAGES`` mean the same.
    """
    status = os.fstat(file.fileno())
    start = file.read(LENGTH_BYTES + len(HEADER_START))
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    if not has_header(start, status.st_size):
        raise ValueError("its first bytes are wrong")
    header = start + file.read(length - len(HEADER_START))
    described = _parse(header[LENGTH_BYTES:].decode())
    metadata = described.pop("__metadata__")
    if metadata["format"] != FORMAT:
        raise ValueError(f"its format is {metadata['format']!r:.40}")
    size = _bytes_described(described)
    if len(header) + size != status.st_size:
        raise ValueError("its size does not match its header")
    numbers = bytearray(size)
    if file.readinto(numbers) != size:
        raise ValueError("it became shorter while it was read")
    if checksum_of(header, numbers) != header[CHECKSUM_PLACE]:
        raise ValueError("its checksum does not match")
    tensors = {name: _tensor(one, numbers) for name, one in described.items()}
    return Decoder(tensors).decode(_parse(metadata["content"]))


def _parse(text: str) -> Any:
    """Parse JSON with a bounded number of values: an empty list takes two bytes here and 56 in memory."""
    if sum(map(text.count, ",:[{")) > 2 * MAX_VALUES:
        raise ValueError("it has too many values")
    return parse_json(text)


def _bytes_described(described: dict[str, Any]) -> int:
    """Check that tensors are contiguous, and return their total bytes."""
    end = 0
    for name, tensor in described.items():
        shape, offsets = tensor["shape"], tensor["data_offsets"]
        if not all(type(number) is int and 0 <= number < 2**48 for number in (*shape, *offsets)) or len(shape) > 16:
            raise ValueError(f"tensor {name[:80]!r} has the shape {str(shape)[:80]}")
        size = DTYPES[tensor["dtype"]].itemsize * math.prod(shape)
        if offsets != [end, end + size] or end % DTYPES[tensor["dtype"]].itemsize:
            raise ValueError(f"tensor {name[:80]!r} has wrong offsets")
        end += size
    return end


def _tensor(described: dict[str, Any], numbers: bytearray) -> Tensor:
    """Return a tensor that shares the memory of ``numbers``."""
    dtype, shape, (start, end) = DTYPES[described["dtype"]], described["shape"], described["data_offsets"]
    if start == end:
        if max(shape) > len(numbers):
            raise ValueError(f"a tensor without elements has the shape {shape}")
        return torch.empty(shape, dtype=dtype)
    if dtype == torch.bool and numbers[start:end].translate(None, b"\0\1"):
        raise ValueError("a boolean is neither 0 nor 1")
    return torch.frombuffer(numbers, dtype=dtype, count=(end - start) // dtype.itemsize, offset=start).reshape(shape)
