"""What kind of file the JSON table of a comparison is. Checks of a command line need it before anything heavy loads."""

from __future__ import annotations

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.opening import FileKind

#: a run of a million tested events takes 20 MB
RESULTS_FILE = FileKind("table", DataError, 500_000_000, "name the JSON file of a comparison")
