"""Reads the content of events, what a user wrote, saw or heard: from ``content/events.jsonl``, or from ``.inter``.

A row belongs to the event of its user, item and time. Equal content is kept once, however many events have it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recbole_llm_interest.content.blobs import Blob, MediaFile, Text
from recbole_llm_interest.content.catalogue import MEDIA_COLUMNS, Catalogue, check_named_columns
from recbole_llm_interest.content.content_files import as_token
from recbole_llm_interest.content.event_fields import EventKind
from recbole_llm_interest.content.interaction_files import interaction_files
from recbole_llm_interest.content.text_template import as_text, text_writer
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.atomic_files import AtomicFormat, read_atomic_file, read_header
from recbole_llm_interest.io.opening import FileKind, is_there, parse_json, read_lines
from recbole_llm_interest.io.row_report import RowReport
from recbole_llm_interest.settings import ContentSettings, Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EVENTS = FileKind("content file", DataError, None, "save it as UTF-8, with one JSON object in each line")


class EventKey(NamedTuple):
    """What says which event a row belongs to: two tokens, and the time as in the interaction file."""

    user: str
    item: str
    time: float


@dataclass
class EventCatalogue:
    """The content of a data set's events.

    Attributes:
        contents: distinct contents; their tokens are numbers from 1 on.
        rows: by event, the number of its content; 0 for none.
        values: by column that is embedded, and by event, its value.
    """

    contents: Catalogue
    rows: dict[EventKey, int] = field(default_factory=dict)
    values: dict[str, dict[EventKey, Any]] = field(default_factory=dict)

    @property
    def tokens(self) -> list[str]:
        """The tokens of ``contents`` by number; that of 0, for no content, is empty."""
        return ["", *self.contents.tokens]

    @property
    def texts(self) -> list[str]:
        """The distinct texts."""
        return [blob.text for blob in self.contents.blobs["text"].values() if isinstance(blob, Text)]

    def rows_of(self, keys: Sequence[EventKey]) -> NDArray[np.int64]:
        """Return the number of each event's content, ``[E]``; 0 for none."""
        return np.fromiter((self.rows.get(key, 0) for key in keys), dtype=np.int64, count=len(keys))

    def values_of(self, column: str, keys: Sequence[EventKey]) -> list[Any]:
        """Return each event's value in a column that is embedded; None for none."""
        return [self.values[column].get(key) for key in keys]


class _Fields(NamedTuple):
    """The columns that say which event a row belongs to."""

    user: str
    item: str
    time: str


class _Reader:
    """Collects distinct contents, and the number of each event's content."""

    def __init__(self, folder: Path, kind: EventKind, fields: _Fields, settings: ContentSettings) -> None:
        self.catalogue = EventCatalogue(Catalogue(kind, ", ".join(fields), folder))
        self._fields = fields
        self._write, self.named = text_writer(kind, "", *text_settings(kind, settings))
        self._media = MEDIA_COLUMNS
        self._embedded = settings.event_fields
        if kind == "context":
            self.named = settings.context_fields
            self._embedded = tuple(name for name in settings.event_fields if name in self.named)
            self._media = {name: column for name, column in MEDIA_COLUMNS.items() if column in self.named}
        self.named = list(dict.fromkeys([*self.named, *self._embedded]))
        self.catalogue.values = {name: {} for name in self._embedded}
        self._numbers: dict[tuple[Blob | None, ...], int] = {}

    def add(self, key: EventKey, row: Mapping[str, Any]) -> None:
        """Take the content of one event's row, if it has any."""
        contents = self.catalogue.contents
        for name, values in self.catalogue.values.items():
            if as_text(row.get(name)):
                values[key] = row[name]
        blobs = self._blobs(row)
        if not blobs:
            self.catalogue.rows[key] = 0
            return
        number = self._numbers.setdefault(tuple(map(blobs.get, contents.blobs)), len(contents.tokens) + 1)
        if number > len(contents.tokens):
            contents.tokens.append(str(number))
            for modality, blob in blobs.items():
                contents.blobs[modality][str(number)] = blob
        self.catalogue.rows[key] = number

    def _blobs(self, row: Mapping[str, Any]) -> dict[Modality, Blob]:
        left_out = {*self._fields, *self._embedded}
        text = self._write({name: value for name, value in row.items() if name not in left_out})
        blobs: dict[Modality, Blob] = {"text": Text(text)} if text else {}
        for modality, column in self._media.items():
            if name := as_token(row.get(column)):
                blobs[modality] = MediaFile(self.catalogue.contents.folder / "content", name)
        return blobs


def named_event_columns(settings: ContentSettings) -> list[str]:
    """Return the columns of events that settings name.

    Example:
        >>> from recbole_llm_interest.settings import ContentSettings
        >>> named_event_columns(ContentSettings(event_text_template="{review}", context_fields=("query",)))
        ['review', 'query']
    """
    in_text = text_writer("event", "", *text_settings("event", settings))[1]
    return list(dict.fromkeys([*in_text, *settings.context_fields, *settings.event_fields]))


def event_lines(folder: Path) -> Path:
    """Return the file of JSON lines that may have the content of events of the data set in a folder."""
    return folder / "content" / "events.jsonl"


def text_settings(kind: str, settings: ContentSettings) -> tuple[Sequence[str] | None, str | None]:
    """Return the columns of the text of an item, a user, an event or a context, and its template; None for unset.

    Example:
        >>> from recbole_llm_interest.settings import ContentSettings
        >>> text_settings("context", ContentSettings(context_fields=("query", "image_file_name")))
        (['query'], None)
    """
    if kind == "context":
        others = {*MEDIA_COLUMNS.values(), *settings.event_fields}
        return [name for name in settings.context_fields if name not in others], None
    return getattr(settings, f"{kind}_text_fields"), getattr(settings, f"{kind}_text_template")


def read_event_content(config: Any, settings: ContentSettings, kind: EventKind) -> EventCatalogue:
    """Read the content of all events of a data set, or the part of it that is known before an item is chosen.

    ``content/events.jsonl`` takes precedence over the columns of ``.inter``, of which only those are read that
    ``event_text_fields``, ``event_text_template`` or ``context_fields`` names. Rows that cannot be used are skipped,
    and the log counts them by reason.

    Args:
        config: RecBole's settings of the data set.
        settings: which columns become text, and how.
        kind: ``event``, or ``context`` for the columns that ``context_fields`` names.

    Raises:
        DataError: a file cannot be read, or lacks a column that the settings name; or ``strict_data`` is set and a row
            cannot be used.
        SettingsError: the text template is invalid.
    """
    folder = Path(config["data_path"])
    fields = _Fields(*(config[f"{name}_FIELD"] for name in ("USER_ID", "ITEM_ID", "TIME")))
    reader = _Reader(folder, kind, fields, settings)
    setting = f"{kind}_text_fields" if kind == "event" else "context_fields"
    if kind == "context" and not reader.named:
        return reader.catalogue
    path = event_lines(folder)
    if is_there(path):
        columns = _read_json_lines(path, fields, reader, strict=bool(config["strict_data"]))
        check_named_columns(setting, reader.named, columns, path)
    elif reader.named:
        for file in interaction_files(config):
            layout = AtomicFormat.from_config(config)
            check_named_columns(setting, reader.named, dict.fromkeys(read_header(file, layout)), file)
            _read_columns(file, layout, fields, reader)
    return reader.catalogue


def _read_json_lines(path: Path, fields: _Fields, reader: _Reader, *, strict: bool) -> dict[str, None]:
    """Add the rows of a file of JSON lines to the catalogue, and return the names of all columns."""
    report = RowReport(path, strict)
    columns: dict[str, None] = {}
    count = 0
    for number, line in enumerate(read_lines(path, _EVENTS), start=1):
        if not line.strip():
            continue
        count += 1
        try:
            row = parse_json(line, long_integers=True)  # an ID may be one
        except ValueError as error:
            report.skip("not a JSON object", 1, [f"{number}: {error}"])
            continue
        reason, key = _key_of(row, fields)
        if key in reader.catalogue.rows:
            reason = "of an event that has a row already"
        if reason or key is None:
            report.skip(reason, 1, [str(number)])
            continue
        columns.update(dict.fromkeys(row))
        reader.add(key, row)
    report.finish(count)
    return columns


def _key_of(row: Any, fields: _Fields) -> tuple[str, EventKey | None]:
    """The event that a row belongs to; or why it belongs to none."""
    if not isinstance(row, dict):
        return f"not a JSON object but a {type(row).__name__}", None
    for name in fields:
        if row.get(name) is None or row[name] == "":
            return f"without {name!r}", None
    time = row[fields.time]
    if isinstance(time, bool) or not isinstance(time, int | float) or not math.isfinite(time):
        return f"whose {fields.time} is no number", None
    return "", EventKey(as_token(row[fields.user]), as_token(row[fields.item]), float(time))


def _read_columns(path: Path, layout: AtomicFormat, fields: _Fields, reader: _Reader) -> None:
    """Add the named columns of an interaction file to the catalogue. Of equal events, the first counts."""
    header = read_header(path, layout)
    kinds = {fields.user: "token", fields.item: "token", fields.time: "float"}
    kinds |= {name: "float" if header[name] == "float" else "text" for name in reader.named}
    table = read_atomic_file(path, layout, kinds, ids=[fields.user, fields.item])
    for row in _rows(table.columns, table.itertuples(index=False, name=None)):
        key = EventKey(row[fields.user], row[fields.item], float(row[fields.time]))
        if key not in reader.catalogue.rows:
            reader.add(key, row)


def _rows(columns: Iterable[str], values: Iterable[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    names = list(columns)
    return (dict(zip(names, row, strict=True)) for row in values)
