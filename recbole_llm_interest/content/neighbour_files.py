"""Files of neighbours, so that a search among many rows is done once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.files import write_atomically
from recbole_llm_interest.io.opening import FileKind, is_there, read_bytes
from recbole_llm_interest.io.tensor_files import parse_tensors

_logger = logging.getLogger(__name__)
#: minimum number of rows for a file of neighbours; a search for fewer takes seconds
_CACHED_ROWS = 10_000
#: the header of a file of neighbours is shorter
_HEADER_BYTES = 10_000
_NAME = "neighbours"


class NeighbourSearch(NamedTuple):
    """A search for neighbours among many rows.

    Attributes:
        setting: how many neighbours are wanted; 0 for none.
        rows: whose neighbours are wanted.
        inputs: all that the neighbours depend on.
        shape: of the neighbours.
        limit: all of them are below it, and 0 or above.
        run: finds them, int32.
    """

    setting: str
    rows: int
    inputs: Sequence[Tensor | int]
    shape: tuple[int, ...]
    limit: int
    run: Callable[[], Tensor]

    def find(self, folder: Path | None) -> Tensor:
        """The neighbours, ``[...]``, on the CPU: from a file in a folder, which is written if it is missing or damaged.

        The file's name is the hash of everything that they depend on. A search for few rows has none.

        Args:
            folder: of files of neighbours; None to run the search.

        Raises:
            StorageError: the file cannot be written.
        """
        if folder is None or self.rows < _CACHED_ROWS:
            return self.run().cpu()
        path = folder / f"{_NAME}-{self._digest()}.safetensors"
        neighbours = self._read(path)
        if neighbours is None:
            neighbours = self.run().cpu()
            data = save({_NAME: neighbours})
            remedy = f"set feature_cache to another folder, or {self.setting}=0"
            write_atomically(path, lambda file: file.write(data), remedy)
        return neighbours

    def _digest(self) -> str:
        digest = hashlib.sha256(f"{self.setting} {self.shape} {self.limit}".encode())
        for given in self.inputs:
            if isinstance(given, Tensor):
                digest.update(f" {tuple(given.shape)} {given.dtype} ".encode())
                digest.update(given.cpu().contiguous().numpy().data)
            else:
                digest.update(f" {given} ".encode())
        return digest.hexdigest()[:32]

    def _read(self, path: Path) -> Tensor | None:
        """The neighbours in the file, ``[...]``; None if it is missing or damaged."""
        if not is_there(path):
            return None
        size = 4 * torch.Size(self.shape).numel()
        kind = FileKind("file of neighbours", DataError, size + _HEADER_BYTES, "delete it")
        try:
            neighbours = parse_tensors(read_bytes(path, kind), {"I32"}).tensors[_NAME]
        except (DataError, ValueError, KeyError):
            neighbours = torch.empty(0)
        has_format = neighbours.shape == self.shape and neighbours.dtype == torch.int32
        if has_format and 0 <= int(neighbours.min()) <= int(neighbours.max()) < self.limit:
            return neighbours
        _logger.warning("%s is damaged: neighbors are computed again", path)
        return None
