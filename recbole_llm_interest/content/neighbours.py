"""Nearest neighbors of items by the cosine similarity of their features."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from recbole_llm_interest.content.neighbour_files import NeighbourSearch
from recbole_llm_interest.errors import DataError

_logger = logging.getLogger(__name__)
#: similarities in memory at once
BLOCK = 2**24
#: maximum number of rows for exact search, which takes about ten minutes for them on two cores, and grows quadratically
EXACT_ROWS = 200_000
#: cells in which faiss searches for a row's neighbors, of about 4 * sqrt(N)
_SEARCHED_CELLS = 64
#: steps between the similarities 0 and 1; each is about a dozen rounding errors wide
SIMILARITY_STEPS = 1e5
#: rows whose exact neighbors are computed to measure the recall of faiss
_RECALL_ROWS = 500


def cached_neighbours(values: Tensor, present: Tensor, count: int, folder: Path | None) -> Tensor:
    """Return ``nearest_neighbours``, from a file in ``folder`` if they were computed before.

    Args:
        values: features, ``[N, D]``.
        present: bool, ``[N]``; rows with features.
        count: neighbors of each row.
        folder: None to compute them without a file.

    Returns:
        Row numbers, ``[N, count]``, int32.

    Raises:
        DataError: there are too many rows for exact search, and faiss is not installed.
        StorageError: the file cannot be written.
    """
    search = NeighbourSearch(
        setting="content_neighbours",
        rows=int(present.sum()),
        inputs=(values, present, EXACT_ROWS, _SEARCHED_CELLS, int(SIMILARITY_STEPS)),
        shape=(len(values), count),
        limit=len(values),
        run=lambda: nearest_neighbours(values, present, count),
    )
    return search.find(folder if count else None).to(values.device)


def nearest_neighbours(values: Tensor, present: Tensor, count: int) -> Tensor:
    """Return the rows with the highest cosine similarity to each row, the nearest first.

    The search is exact for up to ``EXACT_ROWS`` rows. For more, faiss finds most neighbors, and the log states its
    recall. Row 0, the padding, and rows without features have no neighbors and are none; a row is not its own.

    Args:
        values: features, ``[N, D]``.
        present: bool, ``[N]``; rows with features.
        count: neighbors of each row.

    Returns:
        Row numbers, ``[N, count]``, int32; 0 where there are fewer than ``count``.

    Raises:
        DataError: there are too many rows for exact search, and faiss is not installed.

    Example:
        >>> values = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> nearest_neighbours(values, torch.tensor([False, True, True, True]), count=1).tolist()
        [[0], [2], [1], [2]]
    """
    neighbours = torch.zeros(len(values), count, dtype=torch.int32, device=values.device)
    rows = present.nonzero().squeeze(1)
    rows = rows[rows > 0]
    count = min(count, len(rows) - 1)
    if count <= 0:
        return neighbours
    unit = F.normalize(values[rows], dim=-1)
    if len(rows) > EXACT_ROWS:
        nearest = _search_by_faiss(unit, count)
        neighbours[rows, :count] = rows[nearest.clamp(min=0)].where(nearest >= 0, 0).int()
        return neighbours
    indices = torch.arange(len(rows), device=values.device)
    for block in torch.split(indices, max(BLOCK // len(rows), 1)):
        neighbours[rows[block], :count] = rows[_search_exactly(unit, block, count)].int()
    return neighbours


def _search_exactly(unit: Tensor, block: Tensor, count: int) -> Tensor:
    """Return the indices, ``[B, count]``, of the nearest of ``unit``, ``[N, D]``, to the indices ``block``, ``[B]``."""
    # Rounded, so that the order of nearly equal similarities does not depend on the number of threads.
    similarity = (unit[block] @ unit.T).mul_(SIMILARITY_STEPS).round_()
    similarity[torch.arange(len(block), device=unit.device), block] = -torch.inf
    return similarity.topk(count, dim=1).indices


def _search_by_faiss(unit: Tensor, count: int) -> Tensor:
    """Return the indices of most of the nearest of ``unit``, ``[N, D]``, by an inverted file of exact vectors.

    Returns:
        Indices, ``[N, count]``; -1 where faiss finds fewer.

    Raises:
        DataError: faiss is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise DataError(
            f"content_neighbours={count}: {len(unit)} items are too many for exact search. Install faiss "
            "(pip install faiss-cpu), which finds most of the neighbors in minutes, or set content_neighbours=0"
        ) from error
    vectors: NDArray[np.float32] = unit.cpu().numpy()
    index = faiss.index_factory(unit.shape[1], f"IVF{int(4 * len(unit) ** 0.5)},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    faiss.ParameterSpace().set_index_parameter(index, "nprobe", _SEARCHED_CELLS)
    nearest = torch.from_numpy(index.search(vectors, count + 1)[1]).to(unit.device)
    is_own = nearest == torch.arange(len(unit), device=unit.device)[:, None]
    nearest = nearest.gather(1, is_own.int().argsort(dim=1, stable=True))[:, :count]  # without the row itself
    _log_recall(unit, nearest)
    return nearest


def _log_recall(unit: Tensor, nearest: Tensor) -> None:
    """Log the recall of ``nearest``, ``[N, count]``, on a sample of ``unit``, ``[N, D]``."""
    count = nearest.shape[1]
    generator = torch.Generator().manual_seed(0)
    sample = torch.randperm(len(unit), generator=generator)[:_RECALL_ROWS].to(unit.device)
    exact = _search_exactly(unit, sample, count)
    recall = float((nearest[sample][:, :, None] == exact[:, None]).any(dim=1).float().mean())
    _logger.warning(
        "the nearest %d of %d items by content are approximate: faiss found %.1f %% of them (by %d items)",
        *(count, len(unit), 100 * recall, len(sample)),
    )
