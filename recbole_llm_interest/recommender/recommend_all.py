"""Recommendations for all users of a data set, written to one file in parts: a killed process loses at most one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from recbole_llm_interest.cluster import Executor
from recbole_llm_interest.cluster.local import LocalExecutor
from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.io.files import exclusive_lock, write_atomically
from recbole_llm_interest.io.table_parts import find_parts, remove_parts
from recbole_llm_interest.recommender.inputs import Ids, read_ids
from recbole_llm_interest.recommender.recommendation_parts import PartsJob, WrittenPart, write_part
from recbole_llm_interest.recommender.recommender import Recommender

_logger = logging.getLogger(__name__)
#: users of a part
_PART_USERS = 8192


@dataclass(frozen=True)
class AllRecommended:
    """What ``write_all`` has written.

    Attributes:
        path: of the file.
        users: number of the users.
        users_done_before: number of those whose parts a process before had written.

    Example:
        >>> write_all(recommender, folder / "best.jsonl", k=3).users
        24
    """

    path: Path
    users: int
    users_done_before: int


def recommend_all(
    recommender: Recommender,
    path: str | Path,
    k: int = 10,
    *,
    users: Ids | None = None,
    exclude_seen: bool = False,
) -> Path:
    """Write the best items of every user, after the recorded events, to a Parquet, CSV or JSON lines file.

    The file has the columns user, rank, item, title and score. It is there when it is complete; until then, a former
    file of that name stays. After an interrupt, the same call goes on behind the last finished part of the users, and
    the file is the same. ``forget`` deletes the file and the parts.

    Args:
        recommender: of the data set.
        path: of the file, which ends in ``.parquet``, ``.csv`` or ``.jsonl``.
        k: number of items for each user.
        users: ids; None for all users of the data set.
        exclude_seen: whether items of the history are not recommended. A user with fewer than ``k`` others gets these.

    Returns:
        The path.

    Raises:
        RequestError: a user is unknown, there are none, the catalog has fewer than ``k`` items, the path has another
            ending, or pyarrow is missing.
        StorageError: the file cannot be written, another process is writing it, or users or items are being removed
            from the data set.

    Example:
        >>> import pandas as pd
        >>> frame = pd.read_parquet(recommend_all(recommender, folder / "best.parquet", k=3))
        >>> len(frame), frame.columns.tolist()
        (72, ['user', 'rank', 'item', 'title', 'score'])
    """
    return write_all(recommender, Path(path), k, users=users, exclude_seen=exclude_seen).path


def write_all(
    recommender: Recommender,
    path: Path,
    k: int = 10,
    *,
    users: Ids | None = None,
    exclude_seen: bool = False,
    executor: Executor | None = None,
    load: Callable[[], Recommender] | None = None,
) -> AllRecommended:
    """Do as ``recommend_all``, and say how much was done before.

    Args:
        recommender: as for ``recommend_all``, and so on.
        path: of the file; where other machines write parts, on a file system that all of them share.
        k: number of items for each user.
        users: ids; None for all users of the data set.
        exclude_seen: whether items of the history are not recommended.
        executor: writes the parts; None for this process.
        load: gives the same recommender in another process, where the executor has some.

    Raises:
        RequestError: as ``recommend_all``.
        StorageError: as ``recommend_all``.
        ProcessError: processes of the executor were killed again and again.
    """
    ids = _users(recommender, users)
    job = PartsJob.of(recommender, path, k, exclude_seen)
    with recommender._trained.making("recommendations", [path]):
        recommender._trained.record("recommendation parts", [job.folder])
        with exclusive_lock(path, "name another file"), _removed_if_empty(job.folder):
            executor = executor or LocalExecutor()
            make_writer = partial(_PartWriter, load if load and executor.is_remote else lambda: recommender, job)
            parts, done = _write_parts(executor, make_writer, job, path, ids)
            write_atomically(path, lambda file: job.table.join(parts, file))
            remove_parts(job.folder)
    return AllRecommended(path, len(ids), done)


def _users(recommender: Recommender, users: Ids | None) -> list[str]:
    ids = list(recommender.users) if users is None else read_ids(users, "users")
    if not ids:
        raise RequestError("there are no users: a model that from_pretrained reads has none, one that load reads has")
    for user in ids:
        if user not in recommender.users:
            raise RequestError(f"unknown user {user!r}: it is not among the {len(recommender.users)} of the data set")
    return ids


class _PartWriter:
    """Writes numbered parts in whichever process has it.

    Args:
        load: gives the recommender.
        job: of the table.
    """

    def __init__(self, load: Callable[[], Recommender], job: PartsJob) -> None:
        self._recommender = load()
        self._job = job

    def __call__(self, task: tuple[int, list[str]]) -> tuple[int, int, WrittenPart]:
        """Write a part of a number; returns the number, how many users it has, and the part."""
        number, users = task
        return number, len(users), write_part(self._recommender, self._job, number, users)


def _write_parts(
    executor: Executor, make_writer: Callable[[], _PartWriter], job: PartsJob, path: Path, users: Sequence[str]
) -> tuple[list[Path], int]:
    """Write the parts of all users that are not there; returns all parts, and how many users were done."""
    former, is_said, done = find_parts(job.folder), False, 0
    parts: dict[int, Path] = {}
    tasks = ((n, list(users[start : start + _PART_USERS])) for n, start in enumerate(range(0, len(users), _PART_USERS)))
    with tqdm(total=len(users), unit="user", desc=f"Recommending to {path}") as bar:
        for number, count, part in executor.map(make_writer, tasks, uses_gpu=True):
            if _remove_stale(former, number, part.path) and not is_said:
                _logger.warning("%s: finished parts of another model, other data or options are made anew", path)
                is_said = True
            parts[number] = part.path
            done += count if part.was_there else 0
            bar.update(count)
    return [parts[number] for number in sorted(parts)], done


def _remove_stale(former: Mapping[Path, int], number: int, path: Path) -> bool:
    """Remove parts of a number other than the present one; returns whether there were any."""
    stale = [one for one, its_number in former.items() if its_number == number and one != path]
    for one in stale:
        one.unlink(missing_ok=True)
    return bool(stale)


@contextmanager
def _removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove a folder after an error if it has no files."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            folder.rmdir()
        raise
