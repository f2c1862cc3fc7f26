"""A data set with more events, written beside the one that it grew from; its other files are links."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from recbole.config import Config

from recbole_llm_interest.content.event_catalogue import event_lines
from recbole_llm_interest.content.interaction_files import check_interaction_file, interaction_files
from recbole_llm_interest.content.text_template import as_text
from recbole_llm_interest.errors import DataError, RequestError
from recbole_llm_interest.io.atomic_files import MAX_TOKEN_CHARACTERS, AtomicFormat, read_header
from recbole_llm_interest.io.atomic_files.file_format import read_line_blocks
from recbole_llm_interest.io.files import make_folder, storage_error, write_atomically
from recbole_llm_interest.io.manifest import record_run
from recbole_llm_interest.training.config import comes_with_recbole


def check_can_grow(config: Config) -> None:
    """Check that events can be added to a copy of a data set.

    Raises:
        DataError: it is split already, comes with RecBole, has contents of events in a file of their own, or has no
            interaction file.
    """
    if config["benchmark_filename"] is not None:
        raise DataError(
            f"data set {config['dataset']!r} is split already, by benchmark_filename: more events need one "
            f"{config['dataset']}.inter"
        )
    if comes_with_recbole(config):
        raise DataError(
            f"{config['dataset']} is part of the RecBole installation, which reads it from there alone: copy it under "
            "another name, and train on that"
        )
    if event_lines(Path(config["data_path"])).exists():
        raise DataError(
            f"data set {config['dataset']!r} has contents of events in a file of their own, which does not grow: have "
            f"them as columns of {config['dataset']}.inter"
        )
    check_interaction_file(config)


def write_grown_data(config: Config, events: Iterable[Mapping[str, Any]], data_path: Path) -> int:
    """Write a data set of the same name with more events.

    Args:
        config: of the data set that it grows from. Its other files are linked, so that new items may come with content.
        events: by the columns of its interaction file; others are left out, and missing values are empty.
        data_path: gets the folder of the data set.

    Returns:
        The number of all events.

    Raises:
        DataError: as ``check_can_grow``.
        RequestError: an event has no id of a user or item, or no time.
        StorageError: a file cannot be written.
    """
    check_can_grow(config)
    (source,) = interaction_files(config)
    target = data_path / config["dataset"] / source.name
    layout = AtomicFormat.from_config(config)
    header = read_header(source, layout)
    required = {config[f"{name}_FIELD"] for name in ("USER_ID", "ITEM_ID", "TIME")}
    rows = [_row(event, header, layout, required) for event in events]
    _link_others(source, target)
    record_run(config, "grown data set", [target])
    counts: list[int] = []
    write_atomically(target, lambda file: counts.append(_write(file, source, layout, rows)))
    return counts[0] - 1  # without the header


def _link_others(source: Path, target: Path) -> None:
    """Link the files and folders beside an interaction file into another folder."""
    make_folder(target.parent)
    for path in sorted(source.parent.resolve().iterdir()):
        link = target.parent / path.name
        if path.name != source.name and not path.name.startswith(".") and not link.is_symlink():
            try:
                link.symlink_to(path.resolve())  # of a grown data set, they are links themselves
            except OSError as error:
                raise storage_error(link, error) from error


def _write(file: BinaryIO, source: Path, layout: AtomicFormat, rows: Sequence[str]) -> int:
    """Write the lines of a file, and then rows; returns how many lines there are."""
    text, lines = io.TextIOWrapper(file, encoding=layout.encoding, newline="", errors="replace"), len(rows)
    for block in read_line_blocks(source, layout):
        lines += block.count(b"\n")
        text.write(block.decode())
    text.writelines(f"{row}\n" for row in rows)
    text.detach()  # flushes it, and leaves the file open
    return lines


def _row(event: Mapping[str, Any], header: Mapping[str, str], layout: AtomicFormat, required: set[str]) -> str:
    """The line of one event.

    Raises:
        RequestError: a required column is missing, or an id cannot be one of a file.
    """
    cells = []
    for name, kind in header.items():
        value = _cell(event.get(name), kind, layout)
        if kind == "token" and name not in required:
            value = value[:MAX_TOKEN_CHARACTERS]
        if name in required and (not value or len(value) > MAX_TOKEN_CHARACTERS):
            raise RequestError(f"an event has no {name!r} that a file can hold: {dict(event)!r:.200}")
        cells.append(value)
    return layout.separator.join(cells)


def _cell(value: Any, kind: str, layout: AtomicFormat) -> str:
    """A value as the text of a column, empty where it is none. What separates columns and lines becomes a space."""
    if kind.endswith("_seq") and isinstance(value, list | tuple | np.ndarray):
        return layout.sequence_separator.join(_cell(one, "token", layout) for one in value)
    text = " ".join(as_text(value).replace(layout.separator, " ").split())
    if kind == "float":
        return text if _is_finite(text) else ""
    return text


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
