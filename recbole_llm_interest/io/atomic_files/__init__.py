"""Reads RecBole's atomic files: tables whose first line names each column with its type, as in ``user_id:token``.

RecBole's own reader treats a leading quote as the start of a quoted field, which can swallow the following rows. It
reads the ids ``NA`` and ``null`` as missing and drops their rows, and it fails on byte order marks. Here a field is
exactly what is between two separators, and every row that is skipped is counted and logged.

An interaction file may have hundreds of millions of rows, so all code works on columns or blocks of lines, never on
single lines.
"""

from recbole_llm_interest.io.atomic_files.file_format import (
    ATOMIC_FILE,
    MAX_TOKEN_CHARACTERS,
    AtomicFormat,
    format_columns,
    read_header,
)
from recbole_llm_interest.io.atomic_files.reading import drop_rows, find_tokens, read_atomic_file, read_rows

__all__ = [
    "ATOMIC_FILE",
    "MAX_TOKEN_CHARACTERS",
    "AtomicFormat",
    "drop_rows",
    "find_tokens",
    "format_columns",
    "read_atomic_file",
    "read_header",
    "read_rows",
]
