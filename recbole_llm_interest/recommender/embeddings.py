"""Representations of items and users as files that RecBole's other models load."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor
from tqdm import tqdm

from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.io.atomic_files import ATOMIC_FILE
from recbole_llm_interest.io.files import write_atomically
from recbole_llm_interest.io.opening import open_regular
from recbole_llm_interest.recommender.forecast import forecast
from recbole_llm_interest.recommender.recommender import Recommender
from recbole_llm_interest.recommender.user_inputs import SPLITS, Split, UserInput
from recbole_llm_interest.training.run_metadata import EMBEDDING_SUFFIXES

#: RecBole's settings that load the files, for ``dataset.get_preload_weight("item_emb_id")``
LOADING = """\
additional_feat_suffix: [itememb, useremb]
load_col: ~
alias_of_item_id: [item_emb_id]
alias_of_user_id: [user_emb_id]
preload_weight: {item_emb_id: item_emb, user_emb_id: user_emb}
"""
_ITEMS, _USERS = (("item_emb_id:token", "item_emb:float_seq"), ("user_emb_id:token", "user_emb:float_seq"))
#: users whose interests are in memory at a time
_BATCH = 1024


def write_embeddings(
    recommender: Recommender, folder: str | Path, *, history: Split = "recorded", steps: int = 0
) -> list[Path]:
    """Write the representations of all items, and the interests of all users, as files of RecBole's feature format.

    ``NAME.itememb`` has the columns ``item_emb_id`` and ``item_emb``, ``NAME.useremb`` the same of users; ``LOADING``
    are the settings that make RecBole load them. ``forget`` deletes them.

    Args:
        recommender: of the data set.
        folder: of the files; that of the data set for RecBole to find them.
        history: of each user: ``training`` for the events that training saw, so that others can be tested on.
        steps: events ahead for the column ``user_emb_next``, the interest after the likeliest of them; 0 for no
            such column.

    Raises:
        RequestError: the model has no users, as that of a folder, an argument is none of its values, or a file is there
            that was not written here.
        StorageError: a file cannot be written, or users or items are being removed from the data set.

    Example:
        >>> [path.name for path in write_embeddings(recommender, folder, history="training")]
        ['tiny.itememb', 'tiny.useremb']
    """
    origin = recommender._trained.origin
    if origin is None or not recommender.users:
        raise RequestError("the model has no users: give a checkpoint, not an exported folder")
    if history not in SPLITS or steps < 0:
        raise RequestError(f"history={history!r}, steps={steps}: give recorded or training, and 0 or more steps")
    paths = [Path(folder) / f"{origin.dataset}.{suffix}" for suffix in EMBEDDING_SUFFIXES]
    _refuse_others(paths)
    with recommender._trained.making("embeddings", paths):
        _write(paths[0], _ITEMS, _items(recommender))
        columns = [*_USERS, *(["user_emb_next:float_seq"] if steps else [])]
        _write(paths[1], columns, _users(recommender, history, steps))
    return paths


def _refuse_others(paths: Iterable[Path]) -> None:
    """Refuse to overwrite files that were not written here.

    Raises:
        RequestError: one was not.
    """
    for path in filter(Path.exists, paths):
        with open_regular(path, ATOMIC_FILE) as file:
            if not file.readline().startswith((_ITEMS[0].encode(), _USERS[0].encode())):
                raise RequestError(f"{path} was not written by this command: move it, or name another folder")


def _items(recommender: Recommender) -> Iterator[list[str]]:
    items = recommender.items
    vectors = zip(items.tokens[1:], items.representations[1 : len(items.tokens)], strict=True)
    return ([token, _as_sequence(vector)] for token, vector in vectors)


@torch.no_grad()
def _users(recommender: Recommender, history: Split, steps: int) -> Iterator[list[str]]:
    names = list(recommender.users)
    for start in tqdm(range(0, len(names), _BATCH), desc="Interests of users", unit="batch"):
        batch = names[start : start + _BATCH]
        given = [UserInput(name, None, None, None, split=history) for name in batch]
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
