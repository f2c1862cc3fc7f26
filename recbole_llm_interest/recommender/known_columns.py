"""The columns that texts of training had: of new content, others are mistakes."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.settings import MODALITIES
from recbole_llm_interest.settings.registry import known_names

#: what may be the name of a column before its value, as ``text_writer`` writes it
_COLUMN = re.compile(r"(?:^|, )([^\s,:][^,:]*): ")
#: texts whose columns a message lists
_EXAMPLES = 1000
#: columns that are remembered
_MOST_FOUND = 1000


@dataclass(frozen=True)
class KnownColumns:
    """The columns of the texts of items or users.

    Attributes:
        id_field: the column of the ids, which is no part of a text.
        named: columns that the settings name; empty if the text is made of all columns.
        texts: of training, which name their columns; empty if they are not known: then every column is accepted.

    Example:
        >>> KnownColumns("item_id", [], ["title: Heat, year: 1995"]).check("item", ["titel"])
        Traceback (most recent call last):
        ...
        recbole_llm_interest.errors.RequestError: texts of items have no column 'titel': did you mean 'title'? known ...
    """

    id_field: str
    named: Sequence[str] = ()
    texts: Collection[str] = ()

    def check(self, kind: str, columns: Iterable[str]) -> None:
        """Check that each column is one of a text in training.

        Args:
            kind: item or user.
            columns: of new content.

        Raises:
            RequestError: one is not. The message suggests the nearest one.
        """
        for column in columns:
            if not self.has(column):
                known = dict.fromkeys([*self._names(), *MODALITIES])
                raise RequestError(f"texts of {kind}s have no column {column!r}: {known_names(column, known)}")

    @cached_property
    def has_text(self) -> bool:
        """Whether a column is called text, so that a text of that name is no whole one."""
        return "text" in self._names()

    def in_order(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Columns in the order in which texts of training have them.

        Example:
            >>> KnownColumns("item_id", [], ["title: Heat, year: 1995"]).in_order({"year": 1999, "title": "Fargo"})
            {'title': 'Fargo', 'year': 1999}
        """
        return {name: columns[name] for name in sorted(columns, key=lambda name: self._places.get(name, math.inf))}

    @cached_property
    def _places(self) -> dict[str, float]:
        """The mean place of each column in texts of training; empty if settings name the columns, in their order."""
        places: dict[str, list[int]] = {}
        for columns in () if self.named else self._examples:
            for place, name in enumerate(columns):
                places.setdefault(name, []).append(place)
        return {name: sum(found) / len(found) for name, found in places.items()}

    def has(self, column: str) -> bool:
        """Whether a text of training has a column, as far as that is known."""
        if self.named:
            return column in self.named
        if column not in self._found:
            start, inside = f"{column}: ", f", {column}: "
            has = not self.texts or any(text.startswith(start) or inside in text for text in self.texts)
            if len(self._found) == _MOST_FOUND:  # who sends events chooses their columns
                self._found.clear()
            self._found[column] = has
        return self._found[column]

    @cached_property
    def _found(self) -> dict[str, bool]:
        """Columns that were searched for in the texts, which may be many."""
        return {}

    def _names(self) -> list[str]:
        """The known names, the most frequent first."""
        if self.named:
            return list(self.named)
        counts = Counter(name for columns in self._examples for name in columns)
        return [name for name, count in counts.most_common() if count > len(self._examples) / 100]

    @cached_property
    def _examples(self) -> list[list[str]]:
        """The columns of some texts of training."""
        return [_COLUMN.findall(text) for text in islice(self.texts, _EXAMPLES)]
