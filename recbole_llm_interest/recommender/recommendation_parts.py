"""The best items of some users, as one part of a table of all users' recommendations."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recbole_llm_interest import __version__
from recbole_llm_interest.io.files import write_atomically
from recbole_llm_interest.io.table_parts import TableParts, part_path, parts_folder, table_parts
from recbole_llm_interest.recommender.recommender import Recommender
from recbole_llm_interest.recommender.state_updates import History
from recbole_llm_interest.recommender.user_inputs import UserInput

#: events that are in memory at a time, padding included
_MAX_EVENTS = 2**17


@dataclass(frozen=True)
class PartsJob:
    """What is the same for every part of a table.

    Attributes:
        folder: of the parts.
        table: how they are written.
        k: number of items for each user.
        exclude_seen: whether items of the history are not recommended.
        key: hash of all that scores and titles come from, other than users and their events.

    Example:
        >>> job = PartsJob.of(recommender, folder / "best.csv", k=3, exclude_seen=False)
        >>> write_part(recommender, job, 0, ["u1", "u2"]).was_there
        False
    """

    folder: Path
    table: TableParts
    k: int
    exclude_seen: bool
    key: str

    @classmethod
    def of(cls, recommender: Recommender, path: Path, k: int, exclude_seen: bool) -> PartsJob:
        """The job of a table.

        Args:
            recommender: whose items are recommended.
            path: of the table.
            k: number of items for each user.
            exclude_seen: whether items of the history are not recommended.

        Raises:
            RequestError: the catalog has fewer than ``k`` items, the ending of the path is unknown, or pyarrow is
                missing.
        """
        recommender._retrieval.check_count(k)
        key = _digest([_fingerprint(recommender), repr((k, exclude_seen, path.suffix.lower()))])
        return cls(parts_folder(path), table_parts(path), k, exclude_seen, key)


class WrittenPart(NamedTuple):
    """A part that is finished.

    Attributes:
        path: of its file.
        was_there: whether it was finished before.

    Example:
        >>> WrittenPart(Path("000000-0"), was_there=False).path.name
        '000000-0'
    """

    path: Path
    was_there: bool


@torch.no_grad()
def write_part(recommender: Recommender, job: PartsJob, number: int, users: Sequence[str]) -> WrittenPart:
    """Write the best items of some users, after the recorded events, unless the file is there from the same inputs.

    Processes with the same model and data, also on several machines, may write parts of one job.

    Args:
        recommender: of the data set.
        job: of the table.
        number: of the part, which is its place in the table.
        users: ids.

    Raises:
        RequestError: a user is unknown.
        StorageError: the file cannot be written.
    """
    given = [UserInput(user, profile=None, history=None, times=None) for user in users]
    histories = recommender._states.histories(given)
    path = part_path(job.folder, number, _key(recommender, job, users, histories))
    if path.is_file():
        return WrittenPart(path, was_there=True)
    frame = _best_items(recommender, job, given, histories)
    write_atomically(path, lambda file: job.table.write(frame, file))
    return WrittenPart(path, was_there=False)


def _fingerprint(recommender: Recommender) -> str:
    """A hash of the model, its content and its catalog as it is now, with the libraries and the kind of device."""
    items, changes = recommender.items, recommender._changes
    hashed = hashlib.sha256(repr((__version__, torch.__version__, recommender.version)).encode())
    hashed.update(_digest([*items.tokens, *items.labels, *items.labels.values()]).encode())
    buffers = dict(recommender._trained.model.named_buffers())
    of_catalog = {"items": items.representations, "removed": items.removed, "pools": changes.pool_only}
    for name, values in sorted({**buffers, **of_catalog}.items()):
        hashed.update(f"{name} {values.device.type} {tuple(values.shape)}".encode())
        hashed.update(values.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def _key(recommender: Recommender, job: PartsJob, users: Sequence[str], histories: Sequence[History]) -> str:
    """A hash of all that a part is made from."""
    lines = [job.key]
    for user, history in zip(users, histories, strict=True):
        lines += [f"{user}\t{recommender.users.get(user)}", *history.items, repr(history.times)]
        if history.content.shape[1]:
            lines.append(hashlib.sha256(history.content.numpy().data).hexdigest())
    return _digest(lines)


def _digest(lines: Sequence[str]) -> str:
    """A hash of lines, which counts their lengths: ids may have line ends."""
    hashed = hashlib.sha256(repr(list(map(len, lines))).encode())
    hashed.update("".join(lines).encode())
    return hashed.hexdigest()


def _best_items(
    recommender: Recommender, job: PartsJob, given: Sequence[UserInput], histories: Sequence[History]
) -> pd.DataFrame:
    """The table of these users, in their order."""
    scores, rows = torch.full((len(given), job.k), -torch.inf), torch.zeros(len(given), job.k, dtype=torch.long)
    for chunk in _chunks([len(history.items) for history in histories]):
        batches = recommender._states.batches_after([given[at] for at in chunk], [histories[at] for at in chunk])
        for positions, state in batches:
            users = torch.tensor(chunk)[positions]
            best = recommender._retrieval.best(state, job.k, job.exclude_seen)
            scores[users], rows[users] = (values.cpu() for values in best)
    return _as_frame(recommender, [str(one.user) for one in given], scores, rows)


def _chunks(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Positions of histories, the shortest first, in lists that are small enough with padding."""
    chunk: list[int] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        if chunk and (len(chunk) + 1) * lengths[position] > _MAX_EVENTS:
            yield chunk
            chunk = []
        chunk.append(position)
    if chunk:
        yield chunk


def _as_frame(recommender: Recommender, users: Sequence[str], scores: Tensor, rows: Tensor) -> pd.DataFrame:
    """The table of the best items, ``[B, k]`` both, without those whose score is -inf."""
    is_left = scores > -torch.inf
    items = [recommender.items.tokens[row] for row in rows[is_left].tolist()]
    user, rank = (index.numpy() for index in is_left.nonzero(as_tuple=True))
    return pd.DataFrame(
        {
            "user": np.array(users, dtype=object)[user],
            "rank": rank + 1,
            "item": np.array(items, dtype=object),
            "title": np.array([recommender.items.labels.get(item, item) for item in items], dtype=object),
            "score": scores[is_left].numpy(),
        }
    )
