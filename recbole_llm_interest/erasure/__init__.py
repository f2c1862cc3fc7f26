"""Deletes users or items from everything that is stored about a data set, and says what still has them.

``request`` says who is to be erased and how files write their ids; ``data_files`` is about the data set's own files,
``artifacts`` about what was made from it, which manifests list, ``traces`` about the check at the end, and ``job`` is
the order of all.
"""

from recbole_llm_interest.erasure.job import erase
from recbole_llm_interest.erasure.request import Erasure

__all__ = ["Erasure", "erase"]
