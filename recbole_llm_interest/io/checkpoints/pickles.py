"""Converts the pickle of a former checkpoint, in the process that ``former_files`` starts.

No class or function that the pickle names is imported; each becomes a record of its name and arguments. Records of
tensors, arrays and matrices are then converted, and all others are refused.
"""

from __future__ import annotations

import codecs
import ctypes
import math
import os
import pickle
import resource
import sys
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import BytesIO
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from recbole_llm_interest.io.checkpoints.layout import StoredTensor, ValueEncoder, write_file

#: types of torch's storages and of numpy's arrays, by their names in a pickle
_STORAGES = {
    **{"DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16"},
    **{"LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8"},
    **{"ByteStorage": "U8", "BoolStorage": "BOOL"},
}
_NUMPY = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2"},
    **{"I8": "i1", "U8": "u1", "BOOL": "?"},
}
_ARRAYS = {
    **{"f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16"},
    **{"i1": "I8", "u1": "U8", "b1": "BOOL"},
}
_MULTIARRAY = ("numpy.core.multiarray.", "numpy._core.multiarray.")
#: current names of keys in resume states of former versions
_FORMER_NAMES = {"record": "progress", "draws": "random_states", "numbers": "counters"}
#: bytes of memory beyond the imports and three times the file's size
_SPARE_BYTES = 256 * 2**20
_MAX_MEMBERS = 100_000
_CPU_SECONDS = 20


class _Record:
    """An object in a pickle: the name of its constructor, the arguments, and the state."""

    origin = ""
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any) -> _Record:
        record = super().__new__(cls)
        record.arguments, record.state = arguments, None
        return record

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dict(dict[Any, Any]):
    """Replaces ``OrderedDict``, and ignores its state."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Storage(NamedTuple):
    key: str
    dtype: str
    numel: int


class _Unpickler(pickle.Unpickler):
    """Unpickles plain values; everything else becomes a record."""

    def find_class(self, module: str, name: str) -> type:
        """Return a record class for a name. Nothing is imported."""
        if (module, name) == ("collections", "OrderedDict"):
            return _Dict
        if name == "set" and module in ("builtins", "__builtin__"):
            return set
        return type("_NamedRecord", (_Record,), {"origin": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the description of a storage."""
        kind, storage, key, _, numel = pid
        name = getattr(storage, "origin", "").rpartition(".")[2]
        if kind != "storage" or not isinstance(key, str) or type(numel) is not int:
            raise ValueError("it has a storage of another kind")
        return _Storage(key, _STORAGES[name], numel)


class _Archive:
    """The members of a checkpoint's ZIP archive.

    Args:
        file: the archive.

    Raises:
        ValueError: a member is compressed, so its size is not bounded, or members overlap.
    """

    def __init__(self, file: BinaryIO) -> None:
        size = file.seek(0, 2)
        self._zip = zipfile.ZipFile(file)
        members = self._zip.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it has compressed members, which no training writes")
        if len(members) > _MAX_MEMBERS or sum(member.file_size for member in members) > size:
            raise ValueError("its members are larger than the file")
        (pickled,) = (member.filename for member in members if member.filename.endswith("/data.pkl"))
        self._folder = pickled.removesuffix("data.pkl")
        self._names = {member.filename for member in members}
        self._last: tuple[str, bytes] = ("", b"")
        if self.read("byteorder", b"little") != b"little":
            raise ValueError("its numbers are not in this machine's byte order")

    def read(self, name: str, default: bytes | None = None) -> bytes:
        """Return the bytes of a member, whose checksum is verified; ``default`` if there is none."""
        path = self._folder + name
        if default is not None and path not in self._names:
            return default
        if self._last[0] != path:
            self._last = (path, self._zip.read(path))
        return self._last[1]


class _Converter:
    """Converts records to references to tensors.

    Args:
        archive: contains the storages.
    """

    def __init__(self, archive: _Archive) -> None:
        self.stored: dict[str, StoredTensor] = {}
        self._archive = archive
        self._names: dict[Any, str] = {}
        self._encoder = ValueEncoder(self.encode)

    def convert(self, state: Any) -> Any:
        """Return the JSON values of a checkpoint or resume state.

        Raises:
            ValueError: it is not one.
        """
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise ValueError("it is not a mapping of parts")
        state = {_FORMER_NAMES.get(key, key): value for key, value in state.items()}
        if isinstance(run := state.get("run"), dict) and "in_effect" in run:
            run["effective_settings"] = run.pop("in_effect")
        return self._encoder.encode({**state, "config": _config(state.get("config"))})

    def encode(self, value: Any, path: str) -> Any:
        """Return references for a record of a tensor, an array or a matrix.

        Raises:
            ValueError: it is a record of another object.
            TypeError: it is not a record.
        """
        if not isinstance(value, _Record):
            raise TypeError(f"{path[:80]} is of {type(value).__name__}")
        module, _, name = value.origin.rpartition(".")
        if module == "torch._utils" and name in _TORCH:
            return _TORCH[name](self, value.arguments, path)
        if value.origin == "torch.Size":
            return {"$tuple": [int(size) for size in value.arguments[0]]}
        if value.origin.startswith(_MULTIARRAY):
            return self._encode_numpy(value, name, path)
        if module.startswith("scipy.sparse") and name.removesuffix("_matrix") in ("csr", "csc", "coo", "lil"):
            return self._encode_sparse_matrix(value.state, name.removesuffix("_matrix"), path)
        raise ValueError(f"it names {value.origin[:80]}, which a checkpoint cannot contain")

    def _encode_tensor(self, arguments: Any, path: str) -> Any:
        storage, offset, size, stride = arguments[:4]
        size, stride = _sizes(size), _sizes(stride)
        last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
        if not isinstance(storage, _Storage) or offset < 0 or (math.prod(size) and last >= storage.numel):
            raise ValueError(f"tensor {path[:80]} is not inside its storage")
        if math.prod(size) > storage.numel:
            raise ValueError(f"tensor {path[:80]} is larger than its storage")
        place = (storage, offset, size, stride)
        return self._reference(place, path, storage.dtype, size, lambda: self._numbers(storage, offset, size, stride))

    def _numbers(self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
        dtype = np.dtype(_NUMPY[storage.dtype])
        data = self._archive.read(f"data/{storage.key}") if math.prod(size) else b""
        if math.prod(size) and len(data) != storage.numel * dtype.itemsize:
            raise ValueError("a storage has the wrong size")
        numbers = np.frombuffer(data, dtype)[offset:] if data else np.empty(0, dtype)
        view = np.lib.stride_tricks.as_strided(numbers, size, [step * dtype.itemsize for step in stride])
        return view.tobytes()

    def _encode_parameter(self, arguments: Any, path: str) -> Any:
        return self._encoder.encode(arguments[0], path)

    def _encode_sparse_tensor(self, arguments: Any, path: str) -> Any:
        indices, values, size = arguments[1][:3]
        parts = {"indices": indices, "values": values}
        encoded = {name: self._encoder.encode(part, f"{path}.{name}") for name, part in parts.items()}
        size = size.arguments[0] if isinstance(size, _Record) else size
        return {"$sparse_tensor": {"size": list(_sizes(size)), **encoded}}

    def _encode_numpy(self, value: _Record, name: str, path: str) -> Any:
        if name == "scalar":
            dtype, data = value.arguments
            return self._encoder.encode(np.frombuffer(_bytes(data), _dtype(dtype))[0].item(), path)
        if name != "_reconstruct":
            raise ValueError(f"it names {value.origin[:80]}, which a checkpoint cannot contain")
        tag = "$matrix" if getattr(value.arguments[0], "origin", "").endswith(".matrix") else "$array"
        return {tag: self._encode_array(_array(value), path)}

    def _encode_array(self, array: np.ndarray[Any, Any], path: str) -> Any:
        return self._reference(id(array), path, _ARRAYS[array.dtype.str[1:]], array.shape, array.tobytes)

    def _encode_sparse_matrix(self, state: Any, name: str, path: str) -> Any:
        parts = _rows_as_csr(state) if name == "lil" else _compressed(state, name)
        encoded = {part: self._encode_array(array, f"{path}.{part}") for part, array in parts.items()}
        return {"$sparse": {"format": name, "shape": list(_sizes(state["_shape"])), **encoded}}

    def _reference(
        self, place: Any, path: str, dtype: str, shape: tuple[int, ...], read: Callable[[], bytes]
    ) -> dict[str, str]:
        if place not in self._names:
            name, number = path, 2
            while name in self.stored or name == "__metadata__":
                name, number = f"{path}~{number}", number + 1
            self._names[place], self.stored[name] = name, StoredTensor(dtype, shape, read)
        return {"$tensor": self._names[place]}


#: encoders of records, by the name of the function in ``torch._utils``
_TORCH: Mapping[str, Callable[[_Converter, Any, str], Any]] = {
    "_rebuild_tensor": _Converter._encode_tensor,
    "_rebuild_tensor_v2": _Converter._encode_tensor,
    "_rebuild_parameter": _Converter._encode_parameter,
    "_rebuild_sparse_tensor": _Converter._encode_sparse_tensor,
}


def _config(record: Any) -> dict[str, Any]:
    """Return the plain values of a pickled ``Config``."""
    state = record.state if isinstance(record, _Record) else None
    if not isinstance(state, dict):
        raise TypeError("its config is not a RecBole configuration")
    effective, given = (
        {key: value for key, value in state[part].items() if isinstance(key, str) and _is_plain(value)}
        for part in ("final_config_dict", "external_config_dict")
    )
    names = {key: effective.get(key) for key in ("model", "dataset", "item_digest")}
    return {**names, "settings": effective, "given": given}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, (*value, *value.values())))
    return value is None or isinstance(value, bool | int | float | str)


def _sizes(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or any(type(value) is not int or value < 0 for value in values):
        raise ValueError("a size is not a non-negative integer")
    return tuple(values)


def _dtype(record: Any) -> np.dtype[Any]:
    """Return the type of a pickled array's numbers. Other types, such as objects, are refused."""
    is_dtype = isinstance(record, _Record) and record.origin == "numpy.dtype"
    if not is_dtype or record.arguments[0] not in _ARRAYS or (record.state and record.state[1] not in "<|="):
        raise ValueError("an array is not of numbers of a known type")
    return np.dtype(record.arguments[0])


def _bytes(value: Any) -> bytes:
    """Return bytes, which pickle protocol 2 writes as a string to encode."""
    if isinstance(value, _Record) and value.origin == "_codecs.encode" and value.arguments[1] == "latin1":
        return str(value.arguments[0]).encode("latin1")
    if not isinstance(value, bytes):
        raise TypeError("an array has no bytes")
    return value


def _array(record: Any) -> np.ndarray[Any, Any]:
    """Return a pickled array."""
    _, shape, described, is_fortran, data = record.state
    dtype = _dtype(described)
    return np.frombuffer(_bytes(data), dtype).reshape(_sizes(shape), order="F" if is_fortran else "C")


def _compressed(state: Any, name: str) -> dict[str, np.ndarray[Any, Any]]:
    if name != "coo":
        return {part: _array(state[part]) for part in ("data", "indices", "indptr")}
    row, col = state["coords"] if "coords" in state else (state["row"], state["col"])
    return {"data": _array(state["data"]), "row": _array(row), "col": _array(col)}


def _rows_as_csr(state: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Return the CSR arrays of a ``lil`` matrix, each row of which is a list of columns and a list of values."""
    columns, values = (state[part].state[4] for part in ("rows", "data"))
    counts = [len(row) for row in columns]
    return {
        "data": np.array([value for row in values for value in row], _dtype(state["dtype"])),
        "indices": np.array([column for row in columns for column in row], np.int64),
        "indptr": np.cumsum([0, *counts], dtype=np.int64),
    }


def _limit(size: int) -> None:
    """Limit this process's memory and time, and prevent it from opening files and connections."""
    for encoding in ("cp437", "latin1", "ascii"):  # import their modules while files can be opened
        codecs.lookup(encoding)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).unshare(0x10000000 | 0x40000000)  # new user and network namespaces, if allowed
    with suppress(OSError), open("/proc/self/statm") as statm:
        memory = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE") + 3 * size + _SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    seconds = _CPU_SECONDS + size // 2**24
    for kind, limit in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 2 * size + 2**26),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 3),
    ):
        resource.setrlimit(kind, (limit, limit))


def convert_standard_input() -> None:
    """Convert the checkpoint at the standard input to a file at the standard output."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    _limit(os.fstat(source.fileno()).st_size)
    try:
        archive = _Archive(source)
        converter = _Converter(archive)
        content = converter.convert(_Unpickler(BytesIO(archive.read("data.pkl"))).load())
        write_file(target, content, converter.stored)
        target.flush()
    except Exception as error:  # any error means a damaged file, which the parent reports
        sys.stderr.write(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}\n")
        os._exit(1)
