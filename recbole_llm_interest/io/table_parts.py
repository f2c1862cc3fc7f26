"""Tables that are written in parts: each part is a file in a folder, and the table is joined from them one by one.

A name has the number of the part and a hash of all that the part is made from. A killed process leaves whole parts, and
the next one uses those that have the names of its own.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from recbole_llm_interest.errors import RequestError, StorageError
from recbole_llm_interest.io.opening import FileKind, open_regular

if TYPE_CHECKING:
    import pandas as pd

#: how to install what reads and writes Parquet and tables of Arrow
PARQUET_REMEDY = "pip install 'recbole_llm_interest[parquet]'"
_PART = FileKind("part", StorageError, None, "delete it, and run the same command again")
_NAME = re.compile(r"\.?(\d{6})-[0-9a-f]{32}(\..*)?")  # with a dot, it is unfinished


class TableParts(Protocol):
    """How parts are written, and joined to a table."""

    def write(self, frame: pd.DataFrame, file: BinaryIO) -> None:
        """Write a part, whose text, integer and float columns are those of every part."""

    def join(self, parts: Sequence[Path], file: BinaryIO) -> None:
        """Write the table of some parts, one or more, in their order.

        Raises:
            StorageError: a part cannot be read.
        """


class ParquetParts:
    """Parts that are Parquet files, and row groups of the table."""

    def write(self, frame: pd.DataFrame, file: BinaryIO) -> None:
        """Write a part: text as strings, other columns as numbers of 64 bits."""
        import pyarrow
        from pyarrow import parquet

        types = {"O": pyarrow.string(), "i": pyarrow.int64(), "f": pyarrow.float64()}
        schema = pyarrow.schema([(name, types[values.dtype.kind]) for name, values in frame.items()])
        parquet.write_table(pyarrow.Table.from_pandas(frame, schema, preserve_index=False), file)

    def join(self, parts: Sequence[Path], file: BinaryIO) -> None:
        """Write the parts as row groups.

        Raises:
            StorageError: a part cannot be read.
        """
        from pyarrow import ArrowException, parquet

        writer = None
        try:
            for path in parts:
                with open_regular(path, _PART) as part:
                    table = parquet.read_table(part)
                writer = parquet.ParquetWriter(file, table.schema) if writer is None else writer
                writer.write_table(table)
        except ArrowException as error:
            raise _PART.refusal(path, f"cannot be read: {error}") from error
        finally:
            if writer is not None:
                writer.close()


class CsvParts:
    """Parts that are lines of a CSV file; only the first one has the names of the columns."""

    def write(self, frame: pd.DataFrame, file: BinaryIO) -> None:
        """Write a part, with the names of the columns, which ``join`` removes from all but the first."""
        file.write(frame.to_csv(index=False, lineterminator="\n").encode())

    def join(self, parts: Sequence[Path], file: BinaryIO) -> None:
        """Write the lines of the parts.

        Raises:
            StorageError: a part cannot be read.
        """
        for number, path in enumerate(parts):
            with open_regular(path, _PART) as part:
                names = part.readline()
                if number == 0:
                    file.write(names)
                shutil.copyfileobj(part, file)


class JsonLinesParts:
    """Parts that are lines of JSON."""

    def write(self, frame: pd.DataFrame, file: BinaryIO) -> None:
        """Write a part, one object a row."""
        if len(frame):
            file.write(frame.to_json(orient="records", lines=True, force_ascii=False, double_precision=15).encode())

    def join(self, parts: Sequence[Path], file: BinaryIO) -> None:
        """Write the lines of the parts.

        Raises:
            StorageError: a part cannot be read.
        """
        for path in parts:
            with open_regular(path, _PART) as part:
                shutil.copyfileobj(part, file)


_FORMATS: dict[str, TableParts] = {".parquet": ParquetParts(), ".csv": CsvParts(), ".jsonl": JsonLinesParts()}


def table_parts(path: Path) -> TableParts:
    """Return how the parts of a table are written, by the ending of its name.

    Raises:
        RequestError: the ending is unknown, or pyarrow is missing.

    Example:
        >>> type(table_parts(Path("best.csv"))).__name__
        'CsvParts'
    """
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        raise RequestError(f"{path} ends in {path.suffix or 'nothing'!r}: known are {', '.join(_FORMATS)}")
    if suffix == ".parquet" and find_spec("pyarrow") is None:
        raise RequestError(f"{path}: Parquet needs pyarrow: {PARQUET_REMEDY}, or name a .csv or .jsonl file")
    return _FORMATS[suffix]


def parts_folder(path: Path) -> Path:
    """Return the folder of a table's parts, beside it."""
    return path.with_name(f".{path.name}.parts")


def part_path(folder: Path, number: int, key: str) -> Path:
    """Return the path of a part.

    Args:
        folder: of the parts.
        number: of the part, from 0.
        key: a SHA-256 hash of all that it is made from, as hexadecimal digits.
    """
    return folder / f"{number:06}-{key[:32]}"


def find_parts(folder: Path) -> dict[Path, int]:
    """Return the parts in a folder with their numbers, unfinished ones too; none if it does not exist or is a link."""
    found = sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
    return {path: int(name[1]) for path in found if (name := _NAME.fullmatch(path.name)) is not None}


def remove_parts(folder: Path) -> None:
    """Remove the parts in a folder, and the folder unless it has other files."""
    for path in find_parts(folder):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
