"""Reads the IDs of the rows of precomputed features, from a file beside them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.opening import FileKind, is_there, parse_json, read_lines, read_text

#: suffixes of files of IDs, which otherwise have the features' name
IDS_SUFFIXES = (".ids.tsv", ".ids.csv", ".ids.txt", ".ids.json")
#: a file with the ID of each row
IDS = FileKind("file of ids", DataError, 2 * 2**30, "put one id in each line, in the order of the rows, as UTF-8")


def read_ids_file(path: Path, id_fields: Sequence[str]) -> list[str] | None:
    """Return IDs in the order of the rows, from a file with the features' name; None if there is none.

    Args:
        path: of the features.
        id_fields: possible names of the ID column.

    Raises:
        DataError: the file of IDs cannot be read.
    """
    paths = (path.with_suffix(suffix) for suffix in IDS_SUFFIXES)
    found = next((beside for beside in paths if is_there(beside)), None)
    if found is None:
        return None
    if found.suffix == ".json":
        return parse_json_ids(found, read_text(found, IDS))
    ids = _first_cells(found)
    has_header = bool(ids) and ids[0].split(":")[0] in id_fields
    return ids[1:] if has_header else ids


def _first_cells(path: Path) -> list[str]:
    """Return the first column of a file of comma-separated or tab-separated values."""
    if path.suffix != ".csv":
        return [line.split("\t")[0] for line in read_full_lines(path, IDS)]
    return [row[0] for row in csv.reader(read_lines(path, IDS)) if row]


def read_full_lines(path: Path, kind: FileKind) -> list[str]:
    """Return the lines that are not empty. A line ends with a line feed, or a carriage return and a line feed.

    Raises:
        DataError: as ``read_lines``.
    """
    lines = read_lines(path, kind)
    return [line.removesuffix("\n").removesuffix("\r") for line in lines if line.strip("\r\n")]


def parse_json_ids(path: Path, text: str) -> list[str]:
    """Return IDs from a JSON list of them.

    Args:
        path: of the file that has the text, for messages.
        text: JSON.

    Raises:
        DataError: it is not a list.
    """
    ids = parse_json(text, long_integers=True)
    if not isinstance(ids, list):
        raise DataError(f"{path}: ids have to be a JSON list in the order of the rows, not a {type(ids).__name__}")
    return [str(token) for token in ids]


def read_mmrec_mapping(path: Path, tokens: Sequence[str], count: int) -> list[str]:
    """Return IDs in the order of the rows: raw IDs or MMRec's numbers, whichever the interactions use.

    Args:
        path: of MMRec's mapping.
        tokens: the data set's items or users.
        count: of the rows.

    Raises:
        DataError: the mapping does not number the rows, or both kinds of IDs match the interactions equally.
    """
    lines = list(csv.reader(read_lines(path, IDS), delimiter="\t"))[1:]  # raw ID, number
    raw = {int(number): token for token, number in (line[:2] for line in lines)}
    if sorted(raw) != list(range(count)):
        raise DataError(f"{path} does not number its {len(raw)} ids from 0 to {count - 1}, the rows of the features")
    raw_ids = [raw[number] for number in range(count)]
    numbers = [str(number) for number in range(count)]
    known = set(tokens)
    known_raw_ids, known_numbers = len(known.intersection(raw_ids)), len(known.intersection(numbers))
    if known_raw_ids == known_numbers > 0 and raw_ids != numbers:
        raise DataError(
            f"{path}: {known_raw_ids} of the data set's ids are raw ids of MMRec, and as many are its row numbers, so "
            "it is ambiguous which are meant; save the features with an .ids.tsv file"
        )
    return raw_ids if known_raw_ids > known_numbers else numbers
