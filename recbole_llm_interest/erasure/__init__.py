"""Deletes users or items from everything that is stored about a data set, and reports files that still contain them.

- ``request``: the ids to erase, patterns that match them in each format, and the record of what was done.
- ``data_files``: the data set's own files.
- ``inventory``: which other files were made from the data set, according to the manifests.
- ``artifacts``, ``features``, ``states``: these other files.
- ``id_search``: the final search of all files for the ids.
- ``job``: the order of these steps.
"""

from recbole_llm_interest.erasure.job import erase
from recbole_llm_interest.erasure.request import Erasure

__all__ = ["Erasure", "erase"]
