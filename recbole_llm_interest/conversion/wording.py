"""Words that several messages share: a count with its noun, and the columns that were meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from recbole_llm_interest.io.atomic_files import format_columns


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    Example:
        >>> counted(1, "user"), counted(2_000, "event")
        ('1 user', '2,000 events')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def known_columns(name: str, columns: Sequence[str]) -> str:
    """Return the end of a message about a column that does not exist: the nearest name, and all of them.

    Example:
        >>> known_columns("usr", ["user", "item"])
        "did you mean 'user'? known are user, item"
    """
    nearest = difflib.get_close_matches(name, columns, n=1)
    return f"{f'did you mean {nearest[0]!r}? ' if nearest else ''}known are {format_columns(columns)}"
