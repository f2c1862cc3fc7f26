"""Mutations of valid files: bytes, JSON values, tensors and headers, archives, and files that are not regular."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import torch

#: raw JSON texts, by placeholder, that ``json.dumps`` cannot write
RAW = {
    "@long@": "9" * 400,
    "@longer@": "-" + "9" * 5000,
    "@deep@": "[" * 5000 + "]" * 5000,
    "@deep mapping@": '{"a":' * 200 + "0" + "}" * 200,
    "@exponent@": "1e999",
    "@NaN@": "NaN",
    "@minus infinity@": "-Infinity",
    "@lone surrogate@": '"\\ud800"',
    "@twice@": '{"a": 1, "a": {"a": []}}',
}
WORDS = [
    *("", ".", "..", "/", "/dev/zero", "../../etc/passwd", "~", "a\nb", "\x1b[31m", "\u202e", "\0", "%s%n", "$(id)"),
    *("None", "nan", "LLMInterest", "Pop", "cycle", "cpu", "cuda:99", "meta", "x" * 300, "é" * 70_000),
]
NUMBERS = [0, 1, -1, 2, 3, 255, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**7, 10**18, 0.5, -0.0, 1e-300, 1e308]
DTYPES = [
    *("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL", "U16", "U32", "U64"),
    *("F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "C64", "X", "", 7, None),
]
SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
LENGTHS = [0, 1, 2, 3, 7, 64, 10_000, 10**9, 2**31, 2**62, 2**63, 2**64, -1, 1.5, None, "3"]


# --- bytes


def mutate_bytes(random: Random, data: bytes) -> bytes:
    """Change, insert, delete or repeat a few bytes, or cut the end."""
    changed = bytearray(data)
    for _ in range(random.choice([1, 1, 1, 2, 5, 20])):
        place = random.randrange(len(changed) + 1)
        length = random.choice([1, 1, 2, 4, 8, 100])
        new = random.choice(
            [random.randbytes(length), bytes(length), b"\xff" * length, changed[place : place + length]]
        )
        kind = random.randrange(5)
        if kind < 3:
            changed[place : place + (length if kind else 1)] = new
        elif kind == 3:
            changed[place:place] = new
        else:
            del changed[place : place + length]
    if random.random() < 0.1:
        del changed[random.randrange(len(changed) + 1) :]
    return bytes(changed)


# --- JSON


def hostile_value(random: Random, value: Any) -> Any:
    """Return another value of the same type, or of another one."""
    others: list[Callable[[], Any]] = [
        lambda: random.choice(NUMBERS),
        lambda: random.choice(WORDS),
        lambda: random.choice(list(RAW)),
        lambda: random.choice([None, True, False, [], {}, [[]], [None], {"": None}]),
        lambda: [value] * random.choice([1, 2, 100]),
        lambda: {"a": value},
    ]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float) and random.random() < 0.6:
        return random.choice([value + 1, value - 1, -value, value * 10, str(value), *NUMBERS])
    if isinstance(value, str) and random.random() < 0.5:
        return random.choice([value.upper(), value[:-1], value + "\n", value * 2, value + "x"])
    return random.choice(others)()


def mutate_value(random: Random, value: Any) -> Any:
    """Return a JSON value with a few of its parts replaced, left out, added or renamed."""
    changed = json.loads(json.dumps(value))
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        places = list(_places(changed))
        if not places:
            return hostile_value(random, changed)
        owner, key = random.choice(places)
        _change_at(random, owner, key)
    return changed


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container inside a value with each of its keys; of a long list, only the first elements."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value[:50]) if isinstance(value, list) else ()
    for key, child in list(pairs):
        yield value, key
        yield from _places(child)


def _change_at(random: Random, owner: Any, key: Any) -> None:
    kind = random.random()
    if kind < 0.7:
        owner[key] = hostile_value(random, owner[key])
    elif kind < 0.8:
        del owner[key]
    elif isinstance(owner, list):
        owner.insert(key, random.choice([owner[key], hostile_value(random, owner[key])]))
    else:
        owner[random.choice(WORDS + list(map(str, owner)))] = owner.pop(key) if kind < 0.9 else owner[key]


def dump_json(value: Any, separators: tuple[str, str] | None = None) -> str:
    """Write JSON, with the placeholders of ``RAW`` replaced by their raw texts."""
    text = json.dumps(value, separators=separators)
    for name, raw in RAW.items():
        text = text.replace(json.dumps(name), raw)
    return text


# --- safetensors


@dataclass
class Part:
    """A tensor of a file.

    Attributes:
        dtype: name of its type.
        shape: its dimensions.
        data: its bytes.
    """

    dtype: Any
    shape: list[Any]
    data: bytes


@dataclass
class Container:
    """The content of a safetensors file.

    Attributes:
        parts: tensors by name.
        metadata: texts by name.
        header_changes: change the header after it is computed, so that it does not match the data.
    """

    parts: dict[str, Part]
    metadata: Any
    header_changes: list[Callable[[dict[str, Any]], None]] = field(default_factory=list)

    @classmethod
    def parse(cls, data: bytes) -> Container:
        length = int.from_bytes(data[:8], "little")
        header, buffer = json.loads(data[8 : 8 + length]), data[8 + length :]
        metadata = header.pop("__metadata__", {})
        parts = {
            name: Part(one["dtype"], one["shape"], buffer[slice(*one["data_offsets"])]) for name, one in header.items()
        }
        return cls(parts, metadata)

    def dump(self) -> bytes:
        header: dict[str, Any] = {"__metadata__": self.metadata}
        start = 0
        for name, part in self.parts.items():
            end = start + len(part.data)
            header[name] = {"dtype": part.dtype, "shape": part.shape, "data_offsets": [start, end]}
            start = end
        for change in self.header_changes:
            change(header)
        text = dump_json(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text + b"".join(part.data for part in self.parts.values())


def mutate_container(random: Random, container: Container) -> Container:
    """Return a container with changed tensors, a changed header or changed metadata."""
    changed = Container({name: replace(part) for name, part in container.parts.items()}, dict(container.metadata))
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        kind = random.random()
        if kind < 0.45 and changed.metadata:
            _mutate_metadata(random, changed.metadata)
        elif kind < 0.85 and changed.parts:
            _mutate_part(random, changed.parts)
        else:
            seed = random.random()
            changed.header_changes.append(lambda header, seed=seed: _mutate_header(Random(seed), header))
    return changed


def _mutate_metadata(random: Random, metadata: dict[str, Any]) -> None:
    """Change a metadata text, which is usually a JSON document."""
    name = random.choice(list(metadata))
    try:
        document = json.loads(metadata[name])
    except (ValueError, TypeError, RecursionError):
        document = None
    if random.random() < 0.05:
        metadata[random.choice(WORDS)] = metadata.pop(name)
    elif isinstance(document, dict | list) and random.random() < 0.9:
        metadata[name] = dump_json(mutate_value(random, document))
    else:
        metadata[name] = random.choice([*WORDS, "{}", "[]", "null", dump_json("@deep@"), 3, None])


def _mutate_part(random: Random, parts: dict[str, Part]) -> None:
    """Change a tensor so that the file stays valid: its numbers, type, shape or name."""
    name = random.choice(list(parts))
    part = parts[name]
    kind = random.randrange(7)
    if kind == 0:
        del parts[name]
    elif kind == 1:
        parts[random.choice([*parts, *WORDS])] = parts.pop(name)
    elif kind == 2:
        parts[f"{name}2"] = replace(part)
    elif kind == 3:
        part.data = _hostile_numbers(random, part)
    else:
        dtype = part.dtype if kind == 4 else random.choice(list(SIZES))
        shape = random.choice([[], [0], [1], [3], [2, 3], [0, 10**9], [10**12, 0], part.shape[::-1]])
        shape = random.choice([shape, [*part.shape, 1]])
        shape = random.choice([part.shape, part.shape[:-1], [*part.shape[:-1], 7]]) if kind == 5 else shape
        count = 1
        for length in shape:
            count *= length
        if count > 10**6:
            return
        data = part.data * (1 + count * SIZES[dtype] // max(len(part.data), 1))
        parts[name] = Part(dtype, shape, data[: count * SIZES[dtype]].ljust(count * SIZES[dtype], b"\1"))


def _hostile_numbers(random: Random, part: Part) -> bytes:
    """Bytes of the same length: some or all numbers are NaN, infinite, huge, negative or zero."""
    size = SIZES.get(part.dtype, 1)
    numbers = {4: [b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f"], 8: [b"\0" * 6 + b"\xf8\x7f"]}.get(size, [])
    number = random.choice(
        [*numbers, b"\xff" * size, b"\xff" * (size - 1) + b"\x7f", bytes(size), b"\1" + bytes(size - 1)]
    )
    if random.random() < 0.5 or not part.data:
        return number * (len(part.data) // size)
    place = random.randrange(len(part.data) // size) * size
    return part.data[:place] + number + part.data[place + size :]


def _mutate_header(random: Random, header: dict[str, Any]) -> None:
    name = random.choice(list(header))
    described = header[name]
    if name == "__metadata__" or not isinstance(described, dict) or random.random() < 0.1:
        header[name] = hostile_value(random, {})
        return
    key = random.choice(["dtype", "shape", "data_offsets"])
    if key == "dtype":
        described[key] = random.choice(DTYPES)
    elif key == "shape":
        described[key] = random.choice([[random.choice(LENGTHS) for _ in range(random.randrange(4))], 3, None])
    else:
        start, end = random.choice([(0, 8), (8, 64)])
        described[key] = random.choice([[end, start], [start, end], [start, 2**63], [-1, end], [start], 0, None])


def mutate_header_bytes(random: Random, data: bytes) -> bytes:
    """Change the length of the header, or bytes of the header alone."""
    length = int.from_bytes(data[:8], "little")
    if random.random() < 0.3:
        other = random.choice([0, 1, length - 1, length + 1, 10**8, 2**40, 2**63, 2**64 - 1])
        return other.to_bytes(8, "little") + data[8:]
    header = mutate_bytes(random, data[8 : 8 + length])
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


# --- archives of pickles


def mutate_archive(random: Random, data: bytes) -> bytes:
    """Change members of a zip archive: their bytes, compression, names and number."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    place = random.randrange(len(members)) if random.random() < 0.3 else 0  # the pickle comes first
    name, content = members[place]
    kind = random.randrange(6)
    if kind < 3:
        members[place] = (name, mutate_bytes(random, content))
    elif kind == 3:
        members.insert(random.randrange(len(members)), (name, mutate_bytes(random, content)))
    elif kind == 4:
        del members[place]
    else:
        members[place] = (random.choice([name.upper(), f"../{name}", f"/{name}", name * 2]), content)
    compression = random.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return changed.getvalue()


def mutate_pickled(random: Random, content: Any) -> bytes:
    """Save a checkpoint's content again with parts of it replaced."""
    changed = _mutate_object(random, content, [])
    file = io.BytesIO()
    torch.save(changed, file)
    return file.getvalue()


def _mutate_object(random: Random, value: Any, parents: list[Any]) -> Any:
    """Follow random keys and replace what is there."""
    if not isinstance(value, dict | list) or not value or (parents and random.random() < 0.1):
        if isinstance(value, torch.Tensor):
            return random.choice([value.double(), value[..., None], value.flatten()[:1].expand(10**7, 100), None, 3])
        return random.choice([None, {}, [], "x", b"x", 10**400, float("nan"), -1, 10**9, torch.empty(0), {1: 2}])
    changed = value.copy()
    key = random.choice(list(value) if isinstance(value, dict) else range(len(value)))
    if isinstance(value, dict) and random.random() < 0.1:
        del changed[key]
    else:
        changed[key] = _mutate_object(random, value[key], [*parents, value])
    return changed


# --- files that are not regular


def replace_file(random: Random, path: Path) -> None:
    """Replace a file by something that is not a regular file, or by a very large or empty one."""
    path.unlink(missing_ok=True)
    kind = random.randrange(14)
    if kind < 3:
        os.mkfifo(path)
    elif kind < 6:
        path.mkdir()
    elif kind == 6:
        with path.open("wb") as file:
            file.write(random.randbytes(16))
            file.truncate(6 * 2**30)
    elif kind < 13:
        path.symlink_to(random.choice(["/dev/zero", "/etc/passwd", path.name]))
    else:
        path.write_bytes(b"")
