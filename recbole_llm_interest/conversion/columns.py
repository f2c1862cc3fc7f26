"""Finds the columns of users, items and times by their names and values."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from recbole_llm_interest.conversion.tables import Table
from recbole_llm_interest.conversion.times import Times, parse_times
from recbole_llm_interest.conversion.values import as_tokens, has_containers
from recbole_llm_interest.conversion.wording import known_columns
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.io.atomic_files import format_columns

if TYPE_CHECKING:
    import pandas as pd

#: words for users and items, in English and Chinese. Those of the second line count only if there is none of the first.
_NOUNS = {
    "user": (
        "user uid customer visitor client member reviewer buyer shopper subscriber listener viewer reader player "
        "patron account username cust consumer borrower 用户 客户 顾客 会员 买家 读者 观众 听众 玩家",
        "session author person profile cookie device household ip 账号 会话 设备 作者",
    ),
    "item": (
        "item iid product movie film book isbn article news song track video game sku asin business recipe listing "
        "hotel course app show anime podcast episode paper ean gtin upc stock merchandise poi offer job ad "
        "商品 物品 产品 电影 影片 图书 书籍 文章 新闻 歌曲 视频 游戏 课程 菜品",
        "artist album post page url document doc content venue place restaurant story photo question title store "
        "店铺 帖子 歌手 专辑",
    ),
}
_ALL_NOUNS = frozenset(" ".join(line for lines in _NOUNS.values() for line in lines).split())
#: words that say that a column has ids
_ID_WORDS = (
    *("id", "ids", "key", "no", "nr", "num", "number", "code", "token", "idx", "index", "hash", "uuid", "unique"),
    *("编号", "编码", "代码", "序号", "标识", "号"),
)
_TIME_NOUNS = frozenset(
    {"timestamp", "ts", "time", "datetime", "date", "dat", "unixtime", "epoch", "when", "at", "stamp"}
    | {"时间", "日期", "时间戳"}
)
_TIME_UNITS = frozenset(
    {"s", "sec", "seconds", "ms", "msec", "millis", "us", "micros", "ns", "nanos", "utc", "gmt", "local", "unix"}
)
#: other times than that of the event
_OTHER_TIMES = {
    *("birth", "release", "published", "publish", "signup", "registration", "expiry", "expires", "delivery"),
    *("watch", "play", "dwell", "listening", "reading", "duration", "updated", "update", "modified", "end"),
    *("出生", "注册", "发布", "上架", "更新", "结束"),
}
#: ranks of names of times: time, date and the like alone; no time at all
_PLAIN_NAME, _NO_TIME = 1, 4
#: words that are written without spaces between them, the longest first
_UNSPACED = "|".join(
    sorted((word for word in _ALL_NOUNS | {*_ID_WORDS} | _TIME_NOUNS | _OTHER_TIMES if not word.isascii()), key=len)[
        ::-1
    ]
)
_WORD = re.compile(rf"{_UNSPACED}|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|(?:(?!{_UNSPACED})[^\W\d_A-Za-z])+")
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")
#: rows that are looked at before a column is read completely
_SAMPLE = 2_000
#: more than this share of a column's cells has to be what the column is taken for
_MOST = 0.5

#: finds the ids of another table; None if that is not known
KnownIds = Callable[[], "pd.Index | None"]


@dataclass(frozen=True)
class TimeColumn:
    """A column of times.

    Attributes:
        name: of the column.
        times: of all rows.
    """

    name: str
    times: Times


def check_named(table: Table, column: str, option: str) -> str:
    """Return the name of a column that an option gives.

    Raises:
        SettingsError: the table has no such column.
    """
    columns = list(table.frame.columns)
    if column in columns:
        return column
    raise SettingsError(f"{option}={column!r}: {table.name} has no such column: {known_columns(column, columns)}")


def find_ids(table: Table, kind: str, option: str, taken: Collection[str] = (), known: KnownIds | None = None) -> str:
    """Return the column of users or items.

    Args:
        table: to look at.
        kind: user or item.
        option: which gives the column, for messages.
        taken: columns that are something else.
        known: finds ids of another table. A column with them is the one, if no name says which.

    Raises:
        DataError: no column is one, or several may be.
    """
    columns = [column for column in table.frame.columns if column not in taken]
    best = _best_named(columns, kind)
    if len(best) != 1 and known is not None and (ids := known()) is not None:
        best = _sharing(table, best or columns, ids) or best
    if len(best) == 1:
        return best[0]
    what = (
        f"several columns may be the {kind}s', {', '.join(map(repr, best))}" if best else f"no column is the {kind}s'"
    )
    raise DataError(f"{table.name}: {what}: name it by {option}='column'; it has {format_columns(table.frame.columns)}")


def _best_named(columns: Sequence[str], kind: str) -> list[str]:
    """Return the columns whose names fit the ids of users or items best."""
    ranks = [_rank(column, kind) for column in columns]
    best = min(filter(None, ranks), default=None)
    return [column for column, rank in zip(columns, ranks, strict=True) if rank is not None and rank == best]


def find_times(table: Table, taken: Collection[str], time_format: str | None) -> TimeColumn | None:
    """Return the column of the events' times; None if there is none.

    Raises:
        DataError: several may be, its days cannot be distinguished from its months, or a column that is named time,
            date or the like has none.
    """
    columns = [column for column in table.frame.columns if column not in taken]
    found = _times_by_name(table, columns, time_format) or [
        times_of(table, column, time_format)  # which says what is wrong with those of a plain name
        for column in _dated(table, columns) or filter(_is_plain, columns)
    ]
    return _only_one(table, found) if found else None


def _dated(table: Table, columns: Sequence[str]) -> list[str]:
    return [column for column in columns if _time_rank(column) == _NO_TIME and _are_dates(table, column)]


def _is_plain(column: str) -> bool:
    return _time_rank(column) <= _PLAIN_NAME


def _times_by_name(table: Table, columns: Sequence[str], time_format: str | None) -> list[TimeColumn]:
    """Return those columns with times whose names fit best."""
    for rank, named in groupby(sorted(columns, key=_time_rank), key=_time_rank):
        if rank == _NO_TIME:
            break
        parsed = [TimeColumn(column, parse_times(table.frame[column], time_format)) for column in named]
        # only a column with a plain name may have numbers that are no times since 1970
        usable = [column for column in parsed if column.times.is_calendar or rank <= _PLAIN_NAME]
        if usable := [column for column in usable if column.times.share > _MOST]:
            return usable
    return []


def times_of(table: Table, column: str, time_format: str | None) -> TimeColumn:
    """Return the times of a column.

    Raises:
        DataError: most of its cells are no times.
    """
    times = parse_times(table.frame[column], time_format)
    if times.share <= _MOST:
        row = int(np.flatnonzero(~np.isfinite(times.seconds))[0])
        cell = str(table.frame[column].iloc[row])
        raise DataError(
            f"{table.name}: {column!r} has times in {times.share:.0%} of its rows, and none in row {row + 1}, "
            f"{cell!r}: give another column by time='column', or say how times are written, as in "
            f"time_format='%d.%m.%Y', or leave it out by drop={column!r}"
        )
    return TimeColumn(column, times)


def _only_one(table: Table, found: Sequence[TimeColumn]) -> TimeColumn:
    if len(found) > 1:
        names = ", ".join(repr(column.name) for column in found)
        raise DataError(
            f"{table.name}: several columns may be the times', {names}: name it by time='column'; "
            f"it has {format_columns(table.frame.columns)}"
        )
    return found[0]


def _words(name: str) -> list[str]:
    """Return the words of a column's name in lower case: ``customerID`` and ``customerid`` are customer and id."""
    words = [word.lower() for word in _WORD.findall(name.partition(":")[0])]
    parted = []
    for word in words:
        ending = next((end for end in _ID_WORDS if word.endswith(end) and word.removesuffix(end) in _ALL_NOUNS), "")
        parted += [word.removesuffix(ending), ending] if ending and word not in _ALL_NOUNS else [word]
    return parted


def _rank(name: str, kind: str) -> tuple[int, int] | None:
    """Return how well a name fits the ids of users or items, the best first; None if it does not."""
    if name == f"{kind}_id":
        return (0, 0)
    words = _words(name)
    kept = len(words)
    while kept and words[kept - 1] in _ID_WORDS:
        kept -= 1
    for rank, nouns in enumerate(_NOUNS[kind]):
        if kept and words[kept - 1] in nouns.split():
            is_id = kept < len(words)
            return (rank, (1 if is_id else 2) if kept == 1 else 3)
    return None


def _time_rank(name: str) -> int:
    """Return how well a name fits times, the best first; ``_NO_TIME`` if it does not."""
    words = _words(name)
    while len(words) > 1 and words[-1] in _TIME_UNITS:
        words.pop()
    if not words or words[-1] not in _TIME_NOUNS:
        return _NO_TIME
    if words == ["timestamp"]:
        return 0
    if all(word in _TIME_NOUNS for word in words):
        return _PLAIN_NAME
    return 3 if _OTHER_TIMES & set(words) else 2


def _are_dates(table: Table, column: str) -> bool:
    """Whether a column with any other name has dates: by its type, or all text of ISO 8601."""
    values = _sample(table, column)
    if values.dtype.kind == "M":
        return True
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    return bool(texts) and all(map(_ISO_DATE.match, texts))


def _sample(table: Table, column: str) -> pd.Series:
    values = table.frame[column]
    return values.iloc[:: max(1, len(values) // _SAMPLE)]


def _sharing(table: Table, columns: Sequence[str], known: pd.Index) -> list[str]:
    """Return the columns whose values are ids of another table."""
    found = []
    for column in columns:
        values = _sample(table, column)
        if has_containers(values):
            continue
        tokens = as_tokens(values).categories
        if len(tokens) and tokens.isin(known).mean() > _MOST:
            found.append(column)
    return found


def is_id_name(name: str) -> bool:
    """Return whether a column's name says that it has ids.

    Example:
        >>> is_id_name("sessionId"), is_id_name("rating")
        (True, False)
    """
    words = _words(name)
    return bool(words) and words[-1] in _ID_WORDS
