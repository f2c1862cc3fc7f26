"""Recommendations for all users of a data set, streamed to one Parquet file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.io.folders import replace_files
from recbole_llm_interest.recommender.inputs import Id
from recbole_llm_interest.recommender.recommender import Recommender

#: users whose recommendations are in memory at a time
_BATCH = 1024


def recommend_all(
    recommender: Recommender,
    path: str | Path,
    k: int = 10,
    *,
    users: Sequence[Id] | None = None,
    exclude_seen: bool = False,
) -> Path:
    """Write the best items of every user, after the recorded events, to a Parquet file.

    The file has the columns user, rank, item, title and score. It is there when it is complete.

    Args:
        recommender: of the data set.
        path: of the file.
        k: number of items for each user.
        users: ids; None for all users of the data set.
        exclude_seen: whether items of the history are not recommended.

    Returns:
        The path.

    Raises:
        RequestError: a user is unknown, there are no users, there are fewer than ``k`` items, or pyarrow is missing.
        StorageError: the file cannot be written.

    Example:
        >>> import pandas as pd
        >>> frame = pd.read_parquet(recommend_all(recommender, folder / "best.parquet", k=3))
        >>> len(frame), frame.columns.tolist()
        (72, ['user', 'rank', 'item', 'title', 'score'])
    """
    ids = [str(user) for user in (recommender.users if users is None else users)]
    if not ids:
        raise RequestError("there are no users: a model that from_pretrained reads has none, give their ids by users=")
    path = Path(path)
    with replace_files(path.parent) as new, tqdm(total=len(ids), unit="user", desc=f"Recommending to {path}") as bar:
        _write(new / path.name, _frames(recommender, ids, k, exclude_seen, bar))
    return path


def _frames(
    recommender: Recommender, users: Sequence[str], k: int, exclude_seen: bool, bar: tqdm[Any]
) -> Iterator[pd.DataFrame]:
    for start in range(0, len(users), _BATCH):
        state = recommender.start(users[start : start + _BATCH])
        yield recommender.recommend(state, k, exclude_seen=exclude_seen, as_frame=True)
        bar.update(len(state))


def _write(path: Path, frames: Iterable[pd.DataFrame]) -> None:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetWriter
    except ImportError as error:
        raise RequestError("Parquet needs pyarrow: pip install 'recbole_llm_interest[parquet]'") from error
    with ExitStack() as stack:
        writer = None
        for frame in frames:
            table = pyarrow.Table.from_pandas(frame, preserve_index=False)
            writer = writer or stack.enter_context(ParquetWriter(path, table.schema))
            writer.write_table(table)
