"""Writes nested values with tensors, numpy arrays and scipy matrices as a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from recbole_llm_interest.errors import CheckpointError
from recbole_llm_interest.io.checkpoints.layout import StoredTensor, ValueEncoder, write_file
from recbole_llm_interest.io.files import write_atomically
from recbole_llm_interest.io.tensor_files import DTYPES

#: arrays of a sparse matrix, by its format; a ``lil`` matrix, whose rows are lists, is saved as ``csr``
SPARSE_PARTS = {
    **dict.fromkeys(("csr", "csc", "lil"), ("data", "indices", "indptr")),
    "coo": ("data", "row", "col"),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint or a resume state.

    Args:
        path: of the file.
        state: nested plain values, tensors, numpy arrays and scipy matrices.

    Raises:
        StorageError: the file cannot be written. A previous file is unchanged.
        CheckpointError: the state has a value that a checkpoint cannot contain.
    """
    tensors = _Tensors()
    try:
        content = ValueEncoder(tensors.encode).encode(state)
        write_atomically(
            path, lambda file: write_file(file, content, tensors.stored), "set checkpoint_dir to another folder"
        )
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be saved: {error}") from error


class _Tensors:
    """Collects the tensors of nested values under names.

    Attributes:
        stored: by name.
    """

    def __init__(self) -> None:
        self.stored: dict[str, StoredTensor] = {}
        self._names: dict[Any, str] = {}
        self._kept: list[Tensor] = []  # keeps storages alive, so that addresses stay unique

    def encode(self, value: Any, path: str) -> Any:
        """Return a reference to a tensor, array or matrix.

        Raises:
            ValueError: it has another class.
        """
        if isinstance(value, Tensor):
            return self._encode_tensor(value.detach(), path)
        if isinstance(value, np.generic):
            return ValueEncoder(self.encode).encode(value.item(), path)
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            return {"$matrix" if isinstance(value, np.matrix) else "$array": self._encode_array(value, path)}
        if scipy.sparse.issparse(value) and value.format in SPARSE_PARTS:
            return self._encode_sparse_matrix(value, path)
        raise ValueError(f"{path} is of {type(value).__name__}, which a checkpoint cannot contain")

    def _encode_sparse_matrix(self, value: Any, path: str) -> Any:
        matrix = value.tocsr() if value.format == "lil" else value
        parts = {name: self._encode_array(getattr(matrix, name), path) for name in SPARSE_PARTS[value.format]}
        return {"$sparse": {"format": value.format, "shape": [int(size) for size in value.shape], **parts}}

    def _encode_array(self, array: Any, path: str) -> Any:
        try:
            return self._encode_tensor(torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape)), path)
        except TypeError as error:  # a type that torch lacks
            raise ValueError(f"{path} has numbers of type {array.dtype}, which a checkpoint cannot contain") from error

    def _encode_tensor(self, tensor: Tensor, path: str) -> Any:
        if tensor.layout == torch.sparse_coo:
            coalesced = tensor.coalesce()
            parts = {"indices": coalesced.indices(), "values": coalesced.values()}
            encoded = {name: self._encode_tensor(part, f"{path}.{name}") for name, part in parts.items()}
            return {"$sparse_tensor": {"size": list(tensor.shape), **encoded}}
        if tensor.layout != torch.strided or tensor.dtype not in _NAMES:
            raise ValueError(f"{path} is of {tensor.dtype}, which a checkpoint cannot contain")
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() == 0 or place not in self._names:
            self._names[place] = self._add(tensor, path)
        return {"$tensor": self._names[place]}

    def _add(self, tensor: Tensor, path: str) -> str:
        name, number = path or "value", 2
        while name in self.stored or name == "__metadata__":
            name, number = f"{path}~{number}", number + 1
        self._kept.append(tensor)
        self.stored[name] = StoredTensor(_NAMES[tensor.dtype], tuple(tensor.shape), lambda: _bytes_of(tensor))
        return name


def _bytes_of(tensor: Tensor) -> memoryview:
    numbers = tensor.cpu().contiguous().resolve_neg()
    data: Any = numbers.reshape(-1).view(torch.uint8).numpy()
    return memoryview(data)
