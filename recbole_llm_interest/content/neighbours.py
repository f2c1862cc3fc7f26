"""Which items are like an item, by their features alone."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.files import write_atomically

_logger = logging.getLogger(__name__)
#: similarities that are held at once
_BLOCK = 2**24
#: rows of which each pair is compared: so many take some ten minutes on two cores, and twice as many four times that
EXACT_ROWS = 200_000
#: rows from which on the neighbours are worth a file: fewer are found in a second or two
_KEPT_ROWS = 10_000
#: cells that faiss looks for a row's neighbours in, of about 4 * sqrt(N)
_CELLS = 64
#: steps of similarity that are told apart between 0 and 1: each is some dozen rounding errors wide
_STEPS = 1e5
#: rows whose neighbours are also found exactly, to say how many of them are missed
_SAMPLE = 500


def cached_neighbours(values: Tensor, present: Tensor, count: int, folder: Path | None) -> Tensor:
    """``nearest_neighbours``, found once for the same features, and kept in ``folder`` from then on.

    The file's name is the hash of all that they depend on. One that cannot be read is made anew.

    Raises:
        DataError: there are too many rows to compare each pair, and faiss is not installed.
        StorageError: the file cannot be written.
    """
    if folder is None or not count or int(present.sum()) < _KEPT_ROWS:
        return nearest_neighbours(values, present, count)
    digest = hashlib.sha256(f"{tuple(values.shape)} {values.dtype} {count} {EXACT_ROWS} {_CELLS}".encode())
    for tensor in (values, present):
        digest.update(tensor.cpu().contiguous().numpy().data)
    path = folder / f"neighbours-{digest.hexdigest()[:32]}.safetensors"
    found = _read(path, len(values), count)
    if found is None:
        found = nearest_neighbours(values, present, count)
        data = save({"neighbours": found.cpu()})
        otherwise = "set feature_cache to another folder, or content_neighbours=0"
        write_atomically(path, lambda file: file.write(data), otherwise)
    return found.to(values.device)


def _read(path: Path, rows: int, count: int) -> Tensor | None:
    try:
        found = load(path.read_bytes())["neighbours"]
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError):
        found = torch.empty(0)
    if found.shape == (rows, count) and found.dtype == torch.int32 and 0 <= int(found.min()) <= int(found.max()) < rows:
        return found
    _logger.warning("%s is damaged: neighbours are looked for again", path)
    return None


def nearest_neighbours(values: Tensor, present: Tensor, count: int) -> Tensor:
    """The rows of greatest cosine to each row, the nearest first, ``[N, count]``, int32.

    Found exactly, by blocks, among up to ``EXACT_ROWS`` rows. Among more, faiss finds most of them, and what share that
    is gets logged. Row 0, the padding, and rows that are not present have no neighbours and are none, nor is a row its
    own; 0 stands where there are fewer than ``count``.

    Args:
        values: features, ``[N, D]``.
        present: ``[N]``, bool; which rows have some.
        count: neighbours of each row.

    Raises:
        DataError: there are too many rows to compare each pair, and faiss is not installed.
    """
    found = torch.zeros(len(values), count, dtype=torch.int32, device=values.device)
    rows = present.nonzero().squeeze(1)
    rows = rows[rows > 0]
    count = min(count, len(rows) - 1)
    if count <= 0:
        return found
    unit = F.normalize(values[rows], dim=-1)
    place = torch.arange(len(rows), device=values.device)
    if len(rows) > EXACT_ROWS:
        nearest = _by_faiss(unit, count)
        found[rows, :count] = rows[nearest.clamp(min=0)].where(nearest >= 0, 0).int()
        return found
    for block in torch.split(place, max(_BLOCK // len(rows), 1)):
        found[rows[block], :count] = rows[_exactly(unit, block, count)].int()
    return found


def _exactly(unit: Tensor, block: Tensor, count: int) -> Tensor:
    """Of the rows in ``block``, ``[B]``, the places of the nearest, ``[B, count]``."""
    # rounded, so that the number of threads does not decide between those that are equally near
    similarity = (unit[block] @ unit.T).mul_(_STEPS).round_()
    similarity[torch.arange(len(block), device=unit.device), block] = -torch.inf
    return similarity.topk(count, dim=1).indices


def _by_faiss(unit: Tensor, count: int) -> Tensor:
    """Most of the nearest of each row, ``[N, count]``, -1 where it finds fewer: an inverted file of exact vectors."""
    try:
        import faiss
    except ImportError as error:
        raise DataError(
            f"content_neighbours={count}: {len(unit)} items are too many to compare each pair of them. Install faiss "
            "(pip install faiss-cpu), which finds most of the neighbours in minutes, or set content_neighbours=0"
        ) from error
    vectors: NDArray[np.float32] = unit.cpu().numpy()
    index = faiss.index_factory(unit.shape[1], f"IVF{int(4 * len(unit) ** 0.5)},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    faiss.ParameterSpace().set_index_parameter(index, "nprobe", _CELLS)
    nearest = torch.from_numpy(index.search(vectors, count + 1)[1]).to(unit.device)
    is_own = nearest == torch.arange(len(unit), device=unit.device)[:, None]
    nearest = nearest.gather(1, is_own.int().argsort(dim=1, stable=True))[:, :count]  # without itself, or the last one
    generator = torch.Generator().manual_seed(0)
    sample = torch.randperm(len(unit), generator=generator)[:_SAMPLE].to(unit.device)
    exact = _exactly(unit, sample, count)
    recall = float((nearest[sample][:, :, None] == exact[:, None]).any(dim=1).float().mean())
    _logger.warning(
        "the nearest %d of %d items by content are approximate: faiss found %.1f %% of them (by %d items)",
        *(count, len(unit), 100 * recall, len(sample)),
    )
    return nearest
