"""Representations of items and users as files that RecBole's other models load."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor
from tqdm import tqdm

from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.io.files import write_atomically
from recbole_llm_interest.recommender.forecast import forecast
from recbole_llm_interest.recommender.recommender import Recommender
from recbole_llm_interest.recommender.user_inputs import UserInput

#: RecBole's settings that load the files, for ``dataset.get_preload_weight("item_emb_id")``
LOADING = """\
additional_feat_suffix: [itememb, useremb]
load_col: ~
alias_of_item_id: [item_emb_id]
alias_of_user_id: [user_emb_id]
preload_weight: {item_emb_id: item_emb, user_emb_id: user_emb}
"""
#: users whose interests are in memory at a time
_BATCH = 1024


def write_embeddings(recommender: Recommender, folder: str | Path, *, held_out: int = 0, steps: int = 0) -> list[Path]:
    """Write the representations of all items, and the interests of all users, as files of RecBole's feature format.

    ``NAME.itememb`` has the columns ``item_emb_id`` and ``item_emb``, ``NAME.useremb`` the same of users; ``LOADING``
    are the settings that make RecBole load them. ``forget`` deletes them.

    Args:
        recommender: of the data set.
        folder: of the files; that of the data set for RecBole to find them.
        held_out: recorded events at the end of each history that are left out: 2 for those that leave-one-out
            validates and tests on.
        steps: events ahead for the column ``user_emb_next``, the interest after the likeliest of them; 0 for no
            such column.

    Raises:
        RequestError: the model has no users, as that of a folder, or a number is negative.
        StorageError: a file cannot be written, or users or items are being removed from the data set.

    Example:
        >>> [path.name for path in write_embeddings(recommender, folder, held_out=2)]
        ['tiny.itememb', 'tiny.useremb']
    """
    origin = recommender._trained.origin
    if origin is None or not recommender.users:
        raise RequestError("the model has no users: give a checkpoint, not an exported folder")
    if held_out < 0 or steps < 0:
        raise RequestError(f"held_out={held_out}, steps={steps}: give 0 or more")
    paths = [Path(folder) / f"{origin.dataset}.{suffix}" for suffix in ("itememb", "useremb")]
    with recommender._trained.making("embeddings", paths):
        _write(paths[0], ["item_emb_id:token", "item_emb:float_seq"], _items(recommender))
        columns = ["user_emb_id:token", "user_emb:float_seq", *(["user_emb_next:float_seq"] if steps else [])]
        _write(paths[1], columns, _users(recommender, held_out, steps))
    return paths


def _items(recommender: Recommender) -> Iterator[list[str]]:
    items = recommender.items
    vectors = zip(items.tokens[1:], items.representations[1 : len(items.tokens)], strict=True)
    return ([token, _as_sequence(vector)] for token, vector in vectors)


@torch.no_grad()
def _users(recommender: Recommender, held_out: int, steps: int) -> Iterator[list[str]]:
    names = list(recommender.users)
    for start in tqdm(range(0, len(names), _BATCH), desc="Interests of users", unit="batch"):
        batch = names[start : start + _BATCH]
        given = [UserInput(name, None, None, None, held_out=held_out) for name in batch]
        found: dict[int, list[str]] = {}
        for positions, state in recommender._states.start_batches(given):
            columns = [state.interest]
            if steps:
                ahead = forecast(recommender._retrieval, recommender._states, state, steps, None)
                columns.append(torch.cat([of_user[-1].state.interest for of_user in ahead]))
            for position, *vectors in zip(positions, *columns, strict=True):
                found[position] = [batch[position], *map(_as_sequence, vectors)]
        yield from (found[position] for position in range(len(batch)))


def _as_sequence(vector: Tensor) -> str:
    return " ".join(f"{value:.6g}" for value in vector.tolist())


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    def write(file: BinaryIO) -> None:
        for row in (columns, *rows):
            file.write(("\t".join(row) + "\n").encode())

    write_atomically(path, write)
