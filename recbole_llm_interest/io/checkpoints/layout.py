"""The file format of checkpoints: safetensors, with nested plain values as JSON in the metadata.

The process that converts former checkpoints also uses this module, so it imports neither torch nor numpy.

Values that JSON lacks are objects with one key, the tag: ``{"$tuple": [1, 2]}``. ``{"$tensor": name}`` refers to a
tensor of the file; two references to one name are one tensor. The checksum is at a fixed position, and covers every
other byte.
"""

from __future__ import annotations

import itertools
import json
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

#: bytes of a number, by the name of its type
ITEM_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
#: bytes of the first field, the length of the header
LENGTH_BYTES = 8
#: maximum bytes of the header: RippleNet has half a million neighbours as plain numbers
MAX_HEADER_BYTES = 64 * 2**20
FORMAT = "recbole_llm_interest checkpoint 1"
#: the first bytes after the length, before the hexadecimal checksum. The checksum is a CRC-32, as in former files: it
#: detects damage, and SHA-256 would take more time than everything else
HEADER_START = b'{"__metadata__":{"checksum":"'
_NO_CHECKSUM = b"0" * 8
CHECKSUM_PLACE = slice(LENGTH_BYTES + len(HEADER_START), LENGTH_BYTES + len(HEADER_START) + len(_NO_CHECKSUM))
#: tags of sequences; JSON has lists
_SEQUENCES: dict[type[Any], str | None] = {list: None, tuple: "$tuple", set: "$set", frozenset: "$set"}
#: maximum levels of nested containers, including tags
MAX_DEPTH = 60
#: maximum number of plain values in a checkpoint
MAX_VALUES = 4_000_000


class StoredTensor(NamedTuple):
    """A tensor to write.

    Attributes:
        dtype: name of its type, a key of ``ITEM_BYTES``.
        shape: its dimensions.
        read: returns its bytes; called once, when they are written.
    """

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], bytes | memoryview]


class ValueEncoder:
    """Encodes nested values as JSON values.

    Args:
        encode_leaf: encodes a value that is neither plain nor a container, given its path in the nested values.
    """

    def __init__(self, encode_leaf: Callable[[Any, str], Any]) -> None:
        self._encode_leaf = encode_leaf
        self._count = 0

    def encode(self, value: Any, path: str = "", depth: int = 0) -> Any:
        """Return a value as JSON values.

        Args:
            value: of plain values, containers and leaves.
            path: keys that lead to it, for the names of tensors.
            depth: number of containers around it.

        Raises:
            ValueError: it is nested too deeply, is too large, or has an integer of more than 64 bits.
        """
        self._count += 1
        if depth > MAX_DEPTH or self._count > MAX_VALUES:
            raise ValueError("its values are nested too deeply, or there are too many")
        if isinstance(value, bool | str | None):
            return value
        if isinstance(value, int | float):
            return _encode_number(value)
        if isinstance(value, Mapping):
            return self._encode_mapping(value, path, depth + 1)
        for kind, tag in _SEQUENCES.items():
            if isinstance(value, kind):
                parts = [self.encode(part, f"{path}.{number}", depth + 2) for number, part in enumerate(value)]
                return {tag: parts} if tag else parts
        return self._encode_leaf(value, path)

    def _encode_mapping(self, value: Mapping[Any, Any], path: str, depth: int) -> Any:
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: self.encode(part, f"{path}.{key}" if path else key, depth) for key, part in value.items()}
        pairs = [
            [self.encode(key, path, depth + 2), self.encode(part, f"{path}.{key}", depth + 2)]
            for key, part in value.items()
        ]
        return {"$dict": pairs}


def _encode_number(value: float) -> Any:
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValueError("it has an integer of more than 64 bits")
        return int(value)
    return float(value) if math.isfinite(value) else {"$float": str(float(value))}


def write_file(file: BinaryIO, content: Any, tensors: Mapping[str, StoredTensor]) -> None:
    """Write a file. At most one tensor is copied at a time.

    Args:
        file: open for writing, at its start.
        content: JSON values, which refer to ``tensors``.
        tensors: by name.

    Raises:
        ValueError: the header is too large to be read again.
    """
    # the widest types first, so that each tensor is aligned
    ordered = dict(sorted(tensors.items(), key=lambda named: -ITEM_BYTES[named[1].dtype]))
    header = _header(content, ordered)
    if len(header) > MAX_HEADER_BYTES:
        raise ValueError(f"its plain values take {len(header):,} bytes: at most {MAX_HEADER_BYTES:,} can be read again")
    checksum = 0
    start = len(header).to_bytes(LENGTH_BYTES, "little") + header
    for part in itertools.chain([start], (tensor.read() for tensor in ordered.values())):
        checksum = zlib.crc32(part, checksum)
        file.write(part)
    file.seek(CHECKSUM_PLACE.start)
    file.write(b"%08x" % checksum)
    file.seek(0, 2)


def _header(content: Any, tensors: Mapping[str, StoredTensor]) -> bytes:
    """Return the header with a checksum of zeros, padded with spaces to a multiple of eight bytes."""
    described: dict[str, Any] = {
        "__metadata__": {
            "checksum": _NO_CHECKSUM.decode(),
            "format": FORMAT,
            "content": json.dumps(content, separators=(",", ":"), allow_nan=False),
        }
    }
    start = 0
    for name, tensor in tensors.items():
        end = start + ITEM_BYTES[tensor.dtype] * math.prod(tensor.shape)
        described[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(described, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def checksum_of(header: bytes, numbers: bytearray) -> bytes:
    """Return the hexadecimal digits of a file's checksum.

    Args:
        header: bytes of the file before the tensors.
        numbers: bytes of the tensors.
    """
    start = header[: CHECKSUM_PLACE.start] + _NO_CHECKSUM + header[CHECKSUM_PLACE.stop :]
    return b"%08x" % zlib.crc32(numbers, zlib.crc32(start))
