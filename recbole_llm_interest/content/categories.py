"""Finds the categories of items, such as genres, among the columns of their content."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from recbole_llm_interest.content.text_template import as_text

#: a column with a longer value has prose
_MAX_CHARACTERS = 100
#: of a column's different values, those of one item alone; half of the words of prose occur once (Zipf's law)
_MAX_UNIQUE_SHARE = 1 / 3
_SEPARATOR = re.compile(r"[,;|\uff0c\uff1b\u3001]")
#: values that stand for a missing one, or answer a question that the column asks
_NO_NAMES = {"unknown", "other", "none", "null", "n/a", "nan", "(no genres listed)", "true", "false", "yes", "no"}


@dataclass
class CategoryColumns:
    """The columns of a catalogue that may have categories, as they are read.

    Attributes:
        sequences: columns whose values are lists of tokens, each with the separator of its list.
        values: by column and by item's token, texts of at most 100 characters, and lists.

    Example:
        >>> columns = CategoryColumns()
        >>> for token, genres in {"1": "Sci-Fi, War", "2": "Sci-Fi", "3": "War"}.items():
        ...     columns.add(token, {"genres": genres, "title": f"Film {token}"}, ["genres", "title"])
        >>> columns.categories()
        {'1': ('Sci-Fi', 'War'), '2': ('Sci-Fi',), '3': ('War',)}
    """

    sequences: Mapping[str, str] = field(default_factory=dict)
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    _prose: set[str] = field(default_factory=set)

    def add(self, token: str, row: Mapping[str, Any], columns: Iterable[str]) -> None:
        """Take the values of one item's row in these columns."""
        for name in columns:
            value = row.get(name)
            if not value or not isinstance(value, str | list) or name in self._prose:
                continue
            if isinstance(value, str) and len(value) > _MAX_CHARACTERS:
                self._prose.add(name)
                self.values.pop(name, None)
            else:
                self.values.setdefault(name, {})[token] = value

    def categories(self) -> dict[str, tuple[str, ...]]:
        """The categories of each item that has any, by its token.

        The elements of a list, or of a text with commas, semicolons or bars, are categories if most of those in the
        column are of several items. Each stays whole; numbers and stand-ins such as ``unknown`` are left out.
        """
        found: dict[str, dict[str, None]] = {}
        for name, values in self.values.items():
            split = {token: self._elements(name, value) for token, value in values.items()}
            counts = Counter(element for elements in split.values() for element in set(elements))
            if sum(count == 1 for count in counts.values()) > _MAX_UNIQUE_SHARE * len(counts):
                continue
            for token, elements in split.items():
                found.setdefault(token, {}).update(dict.fromkeys(filter(_is_name, elements)))
        return {token: tuple(elements) for token, elements in found.items() if elements}

    def _elements(self, name: str, value: str | list[Any]) -> list[str]:
        if isinstance(value, list):
            parts: list[Any] = value
        elif separator := self.sequences.get(name):
            parts = value.split(separator)
        else:
            parts = _SEPARATOR.split(value)
        return list(filter(None, map(as_text, parts)))


def _is_name(element: str) -> bool:
    """Whether it has two letters at least, and so is no number, year or decade, and says something."""
    return sum(map(str.isalpha, element)) >= 2 and element.lower() not in _NO_NAMES
