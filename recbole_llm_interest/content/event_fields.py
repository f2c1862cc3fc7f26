"""Fields of batches with what is known of events, and codes of their numbers and categories, such as a rating."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self, get_args

import numpy as np
from pydantic import TypeAdapter

from recbole_llm_interest.content.text_template import as_text, without_point

#: more distinct numbers than this are put into buckets of equal frequency
_MOST_VALUES = 32
_BUCKETS = 16


#: all content of events, or what is known of it before the item is chosen
EventKind = Literal["event", "context"]
EVENT_KINDS: tuple[EventKind, ...] = get_args(EventKind)


def content_field(kind: EventKind) -> str:
    """Return the field of batches with the row of each event's content; 0 for none."""
    return f"{kind}_content"


def code_field(kind: EventKind, column: str) -> str:
    """Return the field of batches with the code of each event's value in a column; see ``EventField``."""
    return f"{kind}_field_{column}"


#: the field of training batches with the items that were shown beside each next item, ``[B, L, S]``
NEXT_SHOWN = "next_shown"


@dataclass(frozen=True)
class EventField:
    """The codes of one column: 0 for a missing value, or one that no training event has.

    Attributes:
        name: of the column.
        edges: of the buckets of numbers, each but the last; None if every value has a code of its own.
        values: those of a column that is in no buckets, as text, in the order of their codes from 1 on.

    Example:
        >>> field = EventField.fitted("rating", [5.0, 4.0, 5.0, None])
        >>> field.values, [field.code(value) for value in (5, 4.0, 1, None)]
        (('5', '4'), [1, 2, 0, 0])
        >>> price = EventField.fitted("price", range(100))
        >>> price.code(0.5), price.code(1e9), price.size
        (1, 16, 17)
    """

    name: str
    edges: tuple[float, ...] | None
    values: tuple[str, ...] = ()

    @classmethod
    def fitted(cls, name: str, values: Iterable[Any]) -> Self:
        """Return the codes for the values of training events; the most frequent value has the first code."""
        known = [value for value in values if as_text(value)]
        counts = Counter(map(_as_category, known))
        if len(counts) > _MOST_VALUES and all(map(_is_number, known)):
            numbers = np.array([_as_float(value) for value in known])
            edges = np.unique(np.quantile(numbers, np.arange(1, _BUCKETS) / _BUCKETS))
            return cls(name, tuple(map(float, edges)))
        return cls(name, None, tuple(value for value, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))))

    @classmethod
    def restored(cls, saved: Any) -> tuple[Self, ...]:
        """Return the fields that ``dataclasses.asdict`` and JSON made of several.

        Raises:
            ValueError: they are none.

        Example:
            >>> EventField.restored([{"name": "stars", "edges": None, "values": ["5", "4"]}])[0].code(4)
            2
        """
        return tuple(TypeAdapter(list[cls]).validate_python(saved))  # type: ignore[valid-type]

    @property
    def size(self) -> int:
        """Number of codes with 0."""
        return len(self.values) + 1 if self.edges is None else len(self.edges) + 2

    def code(self, value: Any) -> int:
        """Return the code of a value."""
        if not as_text(value):
            return 0
        if self.edges is not None:
            number = _as_float(value)
            return 0 if math.isnan(number) else 1 + int(np.searchsorted(self.edges, number, side="right"))
        return self._codes.get(_as_category(value), 0)

    @cached_property
    def _codes(self) -> dict[str, int]:
        return {value: code for code, value in enumerate(self.values, start=1)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _as_float(value: Any) -> float:
    """A number, also one in text; the largest one for a longer integer, and NaN for what is none."""
    try:
        return float(value)
    except OverflowError:
        return math.copysign(np.finfo(np.float64).max, value)
    except (TypeError, ValueError):
        return math.nan


def _as_category(value: Any) -> str:
    """The text of a value: of a whole float, also one in text, without the point."""
    text = as_text(without_point(value))
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)
