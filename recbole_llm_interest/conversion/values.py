"""Makes tokens, numbers and JSON values of a table's cells, each distinct value once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_CONTAINERS = (list, tuple, set, frozenset, dict, np.ndarray)
#: how databases and programs write a missing value as text. ``NA`` may be an id.
MISSING_WORDS = ("NULL", "null", "None", "NaN", "nan", "<NA>", "NaT", r"\N")
#: characters that end a cell or a line of an atomic file, or its text
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")
#: how pandas writes integers of a column with missing values
_WHOLE = re.compile(r"(-?\d+)\.0+")


def distinct(values: pd.Series) -> tuple[NDArray[np.int64], list[Any]]:
    """Return the number of each row's value among the distinct values, and these values.

    Returns:
        Numbers, ``[R]``, -1 where a value is missing, and the values.

    Raises:
        DataError: values are lists or dictionaries.

    Example:
        >>> import pandas as pd
        >>> codes, values = distinct(pd.Series(["b", None, "a", "b"]))
        >>> codes.tolist(), values
        ([0, -1, 1, 0], ['b', 'a'])
    """
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.codes.to_numpy(dtype=np.int64), values.cat.categories.tolist()
    refusal = DataError(f"column {values.name!r} holds lists or dictionaries: give a column of single values")
    try:
        codes, found = pd.factorize(values)
    except (TypeError, NotImplementedError) as error:  # those of Python, and those of Arrow
        raise refusal from error
    if any(isinstance(value, _CONTAINERS) for value in found):  # a tuple has a hash
        raise refusal
    return codes.astype(np.int64), list(found)


def has_containers(values: pd.Series) -> bool:
    """Return whether a cell is a list, a set, an array or a dictionary."""
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.cat.categories
    return values.dtype.kind == "O" and any(isinstance(cell, _CONTAINERS) for cell in values)


def is_blank(value: Any) -> bool:
    """Return whether a cell is empty: None, NaN, NaT, ``pandas.NA``, or text of spaces."""
    if isinstance(value, str):
        return not value.strip()
    if value is None or isinstance(value, Iterable):
        return value is None
    import pandas as pd

    return bool(pd.isna(value))


def as_tokens(values: pd.Series) -> pd.Categorical:
    r"""Return ids as tokens.

    A number that is whole is written without a point, since pandas makes floats of integers with missing values.
    Characters that would end a cell or a line become spaces. Spaces around an id are removed. ``MISSING_WORDS`` are
    tokens as any others.

    Returns:
        The tokens as categories; missing where a cell is empty.

    Raises:
        DataError: values are lists or dictionaries.

    Example:
        >>> import pandas as pd
        >>> list(as_tokens(pd.Series([17862.0, 5, "a\tb", "007"], dtype=object)))
        ['17862', '5', 'a b', '007']
    """
    import pandas as pd

    codes, found = distinct(values)
    texts = [_token(value) for value in found]
    if all(_WHOLE.fullmatch(text) for text in texts if text and text not in MISSING_WORDS):
        texts = [text.partition(".")[0] for text in texts]
    renumbered, tokens = pd.factorize(np.array([text or None for text in texts], dtype=object))
    numbers_of_rows = np.where(codes < 0, -1, np.append(renumbered, -1)[codes])
    return pd.Categorical.from_codes(numbers_of_rows, categories=pd.Index(tokens, dtype=object))


def _token(value: Any) -> str:
    if is_blank(value):
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, int | float | np.number | Decimal) and not isinstance(value, bool | np.bool_):
        return str(int(value)) if math.isfinite(value) and value == int(value) else str(value)
    return clean_text(str(value))


def clean_text(text: str) -> str:
    r"""Return text for a cell of an atomic file.

    Example:
        >>> clean_text("two\tcells \n")
        'two cells'
    """
    return _CONTROL.sub(" ", text).strip().encode("utf-8", "replace").decode()


def as_numbers(values: pd.Series) -> NDArray[np.float64] | None:
    """Return a column as numbers, ``[R]``, with NaN for empty cells; None if a cell is something else."""
    import pandas as pd

    codes, found = distinct(values)
    texts = pd.Series([None if is_blank(value) else value for value in found], dtype=object)
    parsed = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64)
    if np.isinf(parsed).any() or (np.isnan(parsed) & texts.notna().to_numpy()).any():
        return None
    return np.append(parsed, np.nan)[codes]


def as_json(values: Iterable[Any]) -> list[Any]:
    """Return a column's values as JSON has them: None if empty, ISO for dates, integers if all are whole."""
    plain = [_plain(value) for value in values]
    fractions = [value for value in plain if isinstance(value, float)]
    if fractions and all(value.is_integer() for value in fractions):
        plain = [int(value) if isinstance(value, float) else value for value in plain]
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | list | tuple | set | frozenset):
        elements = [_plain(element) for element in value]
        return [element for element in elements if element is not None] or None
    return None if is_blank(value) else _plain_scalar(value.item() if isinstance(value, np.generic) else value)


def _plain_scalar(value: Any) -> bool | int | float | str | None:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ").removesuffix(" 00:00:00")
    if isinstance(value, Decimal | float):
        return float(value) if math.isfinite(value) else None
    return value if isinstance(value, bool | int) else str(value)  # a date is written as ISO has it
