"""Forms an item's or user's text from columns: by a list of columns, or by a template."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recbole_llm_interest.errors import SettingsError

#: columns of one item or user
Columns = Mapping[str, Any]


def text_writer(
    kind: str, id_field: str, fields: Sequence[str] | None, template: str | None
) -> tuple[Callable[[Columns], str], Sequence[str]]:
    """Return a function that forms the text from columns.

    Args:
        kind: item or user.
        id_field: the column of the ID, which is not part of the text.
        fields: the columns of the text, in order; None for all. The text names each column that is not empty:
            ``title: Toy Story, year: 1995``.
        template: a sentence with columns, used instead of ``fields``. An empty column is left out with the words that
            belong to it: those before it, back to the column before, and the characters that touch it.

    Returns:
        The function, and the columns that the settings name.

    Raises:
        SettingsError: the template is invalid.

    Example:
        >>> write_text, columns = text_writer("item", "item_id", None, "{title} ({year}) with {actors}")
        >>> columns
        ['title', 'year', 'actors']
        >>> write_text({"title": "Heat", "year": 1995, "actors": ["Al Pacino", "Robert De Niro"]})
        'Heat (1995) with Al Pacino, Robert De Niro'
        >>> write_text({"title": "Heat"})
        'Heat'
    """
    if template is not None:
        parts = _parse(template, f"{kind}_text_template")
        return lambda columns: _fill(parts, columns), [part.column for part in parts if part.column is not None]

    def write(columns: Columns) -> str:
        names: Iterable[str] = fields if fields is not None else text_columns(columns, id_field)
        return ", ".join(f"{name}: {value}" for name in names if (value := as_text(columns.get(name))))

    return write, fields or ()


def text_columns(columns: Iterable[str], id_field: str) -> list[str]:
    """Return the columns that form the text if no setting names them: all except the ID and file names."""
    return [column for column in columns if column != id_field and not column.endswith("_file_name")]


def as_text(value: Any) -> str:
    """Return a column's value as one line of text; an empty string for a missing value.

    Example:
        >>> as_text(["Sci-Fi", None, "War "]), as_text(float("nan"))
        ('Sci-Fi, War', '')
    """
    if is_missing(value):
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(filter(None, map(as_text, value)))
    return " ".join(str(value).split())


def without_point(value: Any) -> Any:
    """Return a whole float as an integer, so that 5 is the same text from all files and live; others as they are.

    Example:
        >>> without_point(5.0), without_point(2.5), without_point("5.0")
        (5, 2.5, '5.0')
    """
    return int(value) if isinstance(value, float | np.floating) and float(value).is_integer() else value


def is_missing(value: Any) -> bool:
    """Return whether a value is None or NaN, which pandas writes into JSON for a missing value."""
    return value is None or bool(value != value)


@dataclass(frozen=True)
class _Part:
    """A column of a template and the words that are left out with it; words only if there is no column."""

    prefix: str
    column: str | None
    suffix: str = ""


def _parse(template: str, setting: str) -> list[_Part]:
    """Return the parts of a template.

    Raises:
        SettingsError: the template has no columns, or more than ``{column}`` in its braces.
    """
    try:
        fields = list(string.Formatter().parse(template))
    except ValueError as error:
        raise SettingsError(f"{setting}={template!r} cannot be read: {error}") from error
    columns = [field for field in fields if field[1] is not None]
    if not columns or any(not name or style or conversion for _, name, style, conversion in columns):
        raise SettingsError(f"{setting}={template!r} needs columns, each written {{column}}, without a format")
    return _split(fields)


def _split(fields: Iterable[tuple[str, str | None, str | None, str | None]]) -> list[_Part]:
    """Assign the words of a parsed template to the columns before and after them."""
    parts: list[_Part] = []
    for words, column, _, _ in fields:
        if parts:
            suffix = re.split(r"\s", words, maxsplit=1)[0]
            parts[-1] = _Part(parts[-1].prefix, parts[-1].column, suffix)
            words = words.removeprefix(suffix)
        parts.append(_Part(words, column))
    return parts


def _fill(parts: Sequence[_Part], columns: Columns) -> str:
    """Return the template with values; an empty string if all of its columns are empty."""
    values = [as_text(columns.get(part.column)) if part.column else "" for part in parts]
    if not any(values):
        return ""
    filled = zip(parts, values, strict=True)
    return "".join(part.prefix + value + part.suffix for part, value in filled if value or not part.column).strip()
