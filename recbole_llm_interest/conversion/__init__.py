"""Converts a table of events, and tables of items and users, into a data set: RecBole's atomic files and ``content/``.

``from_pandas`` and the command ``llm-interest convert`` do the same. Data flow one way: ``tables`` reads, ``columns``
finds what each column is, ``events``, ``described`` and ``content`` make values of it, ``filters`` removes events,
``writing`` writes, and ``summary`` says what happened. Neither torch nor RecBole is needed, and pandas only once a
table is read: the command answers ``--help`` and mistakes at once.
"""

from typing import TYPE_CHECKING, Any

from recbole_llm_interest.conversion.options import DEDUPLICATIONS, QUOTING, Options

if TYPE_CHECKING:
    from recbole_llm_interest.conversion.dataset import from_pandas
    from recbole_llm_interest.conversion.summary import Conversion

__all__ = ["DEDUPLICATIONS", "QUOTING", "Conversion", "Options", "from_pandas"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from recbole_llm_interest.conversion import dataset

    return getattr(dataset, name)
