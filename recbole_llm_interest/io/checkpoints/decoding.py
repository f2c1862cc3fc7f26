"""Decodes the JSON and the tensors of a checkpoint into nested values. The file may be hostile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from recbole_llm_interest.io.checkpoints.writing import SPARSE_PARTS

_FLOATS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


class Decoder:
    """Decodes JSON values.

    Args:
        tensors: the tensors of the file, by name.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._tags = {
            "$tensor": self._tensor,
            "$tuple": lambda value: tuple(self._list(value)),
            "$set": lambda value: set(self._list(value)),
            "$dict": lambda value: dict(map(self._pair, _checked(value, list))),
            "$float": lambda value: _FLOATS[_checked(value, str)],
            "$array": lambda value: self._tensor_of(value).numpy(),
            "$matrix": self._matrix,
            "$sparse": self._sparse_matrix,
            "$sparse_tensor": self._sparse_tensor,
        }

    def decode(self, value: Any) -> Any:
        """Return the value that a JSON value encodes.

        Raises:
            ValueError: it is not an output of ``ValueEncoder``, or its tensors are invalid. KeyError, TypeError and
                RuntimeError mean the same.
        """
        if isinstance(value, list):
            return self._list(value)
        if not isinstance(value, dict):
            return value
        tag = next(iter(value), "")
        if not tag.startswith("$"):
            return {key: self.decode(part) for key, part in value.items()}
        if len(value) > 1:
            raise ValueError(f"a value has more than the tag {tag[:20]!r}")
        return self._tags[tag](value[tag])

    def _list(self, value: Any) -> list[Any]:
        return [self.decode(part) for part in _checked(value, list)]

    def _pair(self, value: Any) -> tuple[Any, Any]:
        key, part = self._list(value)
        return key, part

    def _tensor(self, name: Any) -> Tensor:
        return self._tensors[_checked(name, str)]

    def _tensor_of(self, value: Any) -> Tensor:
        decoded: Tensor = _checked(self.decode(value), Tensor)
        return decoded

    def _matrix(self, value: Any) -> Any:
        array = self._tensor_of(value).numpy()
        if array.ndim != 2:
            raise ValueError("a matrix does not have two dimensions")
        return np.asmatrix(array)

    def _sparse_matrix(self, value: Any) -> Any:
        names = SPARSE_PARTS[_checked(value, dict)["format"]]
        data, *places = (self._tensor_of(value[name]).numpy() for name in names)
        rows, columns = (_checked(size, int) for size in value["shape"])
        if any(array.dtype.kind != "i" or array.ndim != 1 for array in places) or data.ndim != 1:
            raise ValueError("a sparse matrix does not have lists of numbers")
        if value["format"] == "coo":
            return scipy.sparse.coo_matrix((data, tuple(places)), shape=(rows, columns))
        make = scipy.sparse.csc_matrix if value["format"] == "csc" else scipy.sparse.csr_matrix
        matrix = make((data, *places), shape=(rows, columns))
        matrix.check_format(full_check=True)
        return matrix.asformat(value["format"])

    def _sparse_tensor(self, value: Any) -> Tensor:
        indices, values = (self._tensor_of(_checked(value, dict)[name]) for name in ("indices", "values"))
        size = [_checked(part, int) for part in _checked(value["size"], list)]
        return torch.sparse_coo_tensor(indices, values, size, check_invariants=True)


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"a value is of {type(value).__name__}, not {kind.__name__}")
    return value
