"""Converts a table of events, and tables of items and users, into a data set: RecBole's atomic files and ``content/``.

``join_data_sets`` and the command ``llm-interest join`` make one data set of several.

``from_pandas`` and the command ``llm-interest convert`` do the same. Data flow one way: ``tables`` reads, ``columns``
finds what each column is, ``events``, ``described`` and ``content`` make values of it, ``filters`` removes events,
``writing`` writes, and ``summary`` says what happened. Neither torch nor RecBole is needed, and pandas only once a
table is read: the command answers ``--help`` and mistakes at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

from recbole_llm_interest.conversion.options import DEDUPLICATIONS, ID_MODES, QUOTING, Options

if TYPE_CHECKING:
    from recbole_llm_interest.conversion.dataset import from_pandas
    from recbole_llm_interest.conversion.joining import JoinedData, join_data_sets
    from recbole_llm_interest.conversion.summary import Conversion

__all__ = [
    "DEDUPLICATIONS",
    "ID_MODES",
    "QUOTING",
    "Conversion",
    "JoinedData",
    "Options",
    "from_pandas",
    "join_data_sets",
]


#: where each of the names is that import pandas
_LAZY = {"Conversion": "dataset", "from_pandas": "dataset", "JoinedData": "joining", "join_data_sets": "joining"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
