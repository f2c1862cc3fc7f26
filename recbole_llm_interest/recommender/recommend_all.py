"""Recommendations for all users of a data set, streamed to one Parquet file."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import pandas as pd
import torch
from tqdm import tqdm

from recbole_llm_interest.conversion.table_files import PARQUET_REMEDY
from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.io.files import make_folder, storage_error, write_atomically
from recbole_llm_interest.recommender.inputs import Ids, read_ids
from recbole_llm_interest.recommender.recommendations import Recommendations, to_frame
from recbole_llm_interest.recommender.recommender import Recommender
from recbole_llm_interest.recommender.retrieval import Request
from recbole_llm_interest.recommender.user_inputs import UserInput

#: users whose recommendations are in memory at a time
_BATCH = 1024


def recommend_all(
    recommender: Recommender,
    path: str | Path,
    k: int = 10,
    *,
    users: Ids | None = None,
    exclude_seen: bool = False,
) -> Path:
    """Write the best items of every user, after the recorded events, to a Parquet file.

    The file has the columns user, rank, item, title and score. It is there when it is complete; until then, a former
    file of that name stays. ``forget`` deletes it.

    Args:
        recommender: of the data set.
        path: of the file.
        k: number of items for each user.
        users: ids; None for all users of the data set.
        exclude_seen: whether items of the history are not recommended. A user with fewer than ``k`` others gets these.

    Returns:
        The path.

    Raises:
        RequestError: a user is unknown, there are none, the catalog has fewer than ``k`` items, or pyarrow is missing.
        StorageError: the file cannot be written, or users or items are being removed from the data set.

    Example:
        >>> import pandas as pd
        >>> frame = pd.read_parquet(recommend_all(recommender, folder / "best.parquet", k=3))
        >>> len(frame), frame.columns.tolist()
        (72, ['user', 'rank', 'item', 'title', 'score'])
    """
    ids, path = _users(recommender, users), Path(path)
    request = Request(k, exclude_seen=exclude_seen, allow_fewer=True)
    making = recommender._trained.making("recommendations", [path])
    with making, tqdm(total=len(ids), unit="user", desc=f"Recommending to {path}") as bar:
        _write(path, _frames(recommender, ids, request, bar))
    return path


def _users(recommender: Recommender, users: Ids | None) -> list[str]:
    ids = list(recommender.users) if users is None else read_ids(users, "users")
    if not ids:
        raise RequestError("there are no users: a model that from_pretrained reads has none, one that load reads has")
    return ids


def _frames(recommender: Recommender, users: Sequence[str], request: Request, bar: tqdm[Any]) -> Iterator[pd.DataFrame]:
    for start in range(0, len(users), _BATCH):
        batch = users[start : start + _BATCH]
        yield to_frame(batch, _recommend(recommender, batch, request))
        bar.update(len(batch))


@torch.no_grad()
def _recommend(recommender: Recommender, users: Sequence[str], request: Request) -> list[Recommendations]:
    """The best items for each user, in the order of the users."""
    found: dict[int, Recommendations] = {}
    given = [UserInput(user, profile=None, history=None, times=None) for user in users]
    for positions, state in recommender._states.start_batches(given):
        found.update(zip(positions, recommender._retrieval.recommend(state, request), strict=True))
    return [found[position] for position in range(len(users))]


def _write(path: Path, frames: Iterable[pd.DataFrame]) -> None:
    """Write the frames to a file without a name in the same folder, then to ``path``, which takes no interrupt."""
    try:
        make_folder(path.parent)
        with TemporaryFile(dir=path.parent) as file:
            _write_parquet(file, frames)
            file.seek(0)
            write_atomically(path, lambda target: shutil.copyfileobj(file, target))
    except OSError as error:
        raise storage_error(path, error) from error


def _write_parquet(file: IO[bytes], frames: Iterable[pd.DataFrame]) -> None:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetWriter
    except ImportError as error:
        raise RequestError(f"Parquet needs pyarrow: {PARQUET_REMEDY}") from error
    text = pyarrow.string()
    columns = {"user": text, "rank": pyarrow.int64(), "item": text, "title": text, "score": pyarrow.float64()}
    schema = pyarrow.schema(columns.items())
    with ParquetWriter(file, schema) as writer:
        for frame in frames:
            writer.write_table(pyarrow.Table.from_pandas(frame, schema, preserve_index=False))
