"""Reads the content of events, what a user wrote, saw or heard: from ``content/events.jsonl`` and from ``.inter``.

A row belongs to the event of its user, item and time. Equal content is kept once, however many events have it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recbole_llm_interest.content.blobs import Blob, MediaFile, Text
from recbole_llm_interest.content.catalogue import MEDIA_COLUMNS, Catalogue, check_named_columns
from recbole_llm_interest.content.content_files import as_token, id_fault
from recbole_llm_interest.content.event_fields import EventKind
from recbole_llm_interest.content.interaction_files import interaction_files
from recbole_llm_interest.content.text_template import as_text, text_writer, without_point
from recbole_llm_interest.errors import DataError, SettingsError
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
        listed: the events that ``content/events.jsonl`` names.
        shown: by event, the ids of the items that were shown beside the chosen one.
    """

    contents: Catalogue
    rows: dict[EventKey, int] = field(default_factory=dict)
    values: dict[str, dict[EventKey, Any]] = field(default_factory=dict)
    listed: set[EventKey] = field(default_factory=set)
    shown: dict[EventKey, list[str]] = field(default_factory=dict)

    @property
    def tokens(self) -> list[str]:
        """The tokens of ``contents`` by number; that of 0, for no content, is empty."""
        return ["", *self.contents.tokens]

    @property
    def texts(self) -> list[str]:
        """The distinct texts."""
        return [blob.text for blob in self.contents.blobs["text"].values() if isinstance(blob, Text)]

    def rows_of(self, keys: Sequence[EventKey]) -> NDArray[np.int64]:
        """Return the number of each event's content, ``[E]``; 0 for none.

        Of events with the same user, item and time, the last one has the content: none of them can then be predicted
        from what belongs to it.
        """
        rows = np.zeros(len(keys), dtype=np.int64)
        for key, place in last_places(keys).items():
            rows[place] = self.rows.get(key, 0)
        return rows

    def shuffle(self, events: Sequence[EventKey], seed: int) -> None:
        """Give each of ``events`` the content of another one: a control experiment."""
        order = np.random.default_rng(seed).permutation(len(events))
        self.rows |= dict(zip(events, [self.rows[events[place]] for place in order], strict=True))

    def values_of(self, column: str, keys: Sequence[EventKey]) -> list[Any]:
        """Return each event's value in a column that is embedded; None for none. See ``rows_of``."""
        values: list[Any] = [None] * len(keys)
        for key, place in last_places(keys).items():
            values[place] = self.values[column].get(key)
        return values


def last_places(keys: Sequence[EventKey]) -> dict[EventKey, int]:
    """Return the last place of each event.

    Example:
        >>> last_places([EventKey("u", "i", 1.0), EventKey("u", "j", 1.0), EventKey("u", "i", 1.0)]).values()
        dict_values([2, 1])
    """
    return {key: place for place, key in enumerate(keys)}


class _Fields(NamedTuple):
    """The columns that say which event a row belongs to."""

    user: str
    item: str
    time: str


def _check_template(named: Sequence[str], context_fields: Sequence[str]) -> None:
    for name in named:
        if name not in context_fields:
            raise SettingsError(
                f"context_text_template names {name!r}, which context_fields lacks: it may only name what is known "
                "before the item is chosen"
            )


class _Reader:
    """Collects distinct contents, and the number of each event's content."""

    def __init__(
        self, folder: Path, kind: EventKind, fields: _Fields, settings: ContentSettings, separator: str
    ) -> None:
        self._separator = separator
        self.catalogue = EventCatalogue(Catalogue(kind, ", ".join(fields), folder))
        self._fields = fields
        self._write, self.named = text_writer(kind, "", *text_settings(kind, settings))
        self._media = MEDIA_COLUMNS
        self._embedded = settings.event_fields
        if kind == "context":
            _check_template(self.named, settings.context_fields)
            self.named = settings.context_fields
            self._embedded = tuple(name for name in settings.event_fields if name in self.named)
            self._media = {name: column for name, column in MEDIA_COLUMNS.items() if column in self.named}
        self._shown = [settings.shown_field] if kind == "event" and settings.shown_field else []
        self.named = list(dict.fromkeys([*self.named, *self._embedded, *self._shown]))
        self.catalogue.values = {name: {} for name in self._embedded}
        self._numbers: dict[tuple[Blob | None, ...], int] = {}

    def add(self, key: EventKey, row: Mapping[str, Any]) -> None:
        """Take the content of one event's row, if it has any, in place of that of a former row."""
        contents = self.catalogue.contents
        for name, values in self.catalogue.values.items():
            values.pop(key, None)
            if as_text(row.get(name)):
                values[key] = row[name]
        for column in self._shown:
            if shown := _ids(row.get(column), self._separator):
                self.catalogue.shown[key] = shown
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

    def add_others(self, rows: Mapping[EventKey, Mapping[str, Any]]) -> None:
        """Take the content of the events that have none so far."""
        for key, row in rows.items():
            if key not in self.catalogue.rows:
                self.add(key, row)

    def _blobs(self, row: Mapping[str, Any]) -> dict[Modality, Blob]:
        left_out = {*self._fields, *self._embedded, *self._shown}
        text = self._write({name: without_point(value) for name, value in row.items() if name not in left_out})
        blobs: dict[Modality, Blob] = {"text": Text(text)} if text else {}
        for modality, column in self._media.items():
            if name := as_token(row.get(column)):
                blobs[modality] = MediaFile(self.catalogue.contents.folder / "content", name)
        return blobs


def _ids(value: Any, separator: str) -> list[str]:
    """The ids in a list, or in the text of a sequence of tokens."""
    if isinstance(value, str):
        return [one for one in value.split(separator) if one]
    return [as_token(one) for one in value if id_fault({"id": one}, "id") == ""] if isinstance(value, list) else []


def named_event_columns(settings: ContentSettings) -> list[str]:
    """Return the columns of events that settings name.

    Example:
        >>> from recbole_llm_interest.settings import ContentSettings
        >>> named_event_columns(ContentSettings(event_text_template="{review}", context_fields=("query",)))
        ['review', 'query']
    """
    in_text = text_writer("event", "", *text_settings("event", settings))[1]
    shown = [settings.shown_field] if settings.shown_field else []
    return list(dict.fromkeys([*in_text, *settings.context_fields, *settings.event_fields, *shown]))


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
        return [name for name in settings.context_fields if name not in others], settings.context_text_template
    return getattr(settings, f"{kind}_text_fields"), getattr(settings, f"{kind}_text_template")


def read_event_content(config: Any, settings: ContentSettings, kind: EventKind) -> EventCatalogue:
    """Read the content of all events of a data set, or the part of it that is known before an item is chosen.

    Columns come from ``content/events.jsonl``; those that a setting names and that it lacks, from ``.inter``. Rows that
    cannot be used are skipped, and the log counts them by reason.

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
    layout = AtomicFormat.from_config(config)
    reader = _Reader(folder, kind, fields, settings, layout.sequence_separator)
    if kind == "context" and not reader.named:
        return reader.catalogue
    rows, columns = _read_json_lines(event_lines(folder), fields, strict=bool(config["strict_data"]))
    reader.catalogue.listed = set(rows)
    missing = [name for name in reader.named if name not in columns]
    for file in interaction_files(config) if missing else ():
        _check_columns(settings, missing, {**columns, **dict.fromkeys(read_header(file, layout))}, file)
        for key, row in _read_columns(file, layout, fields, missing):
            reader.add(key, {**rows.get(key, {}), **row})
    reader.add_others(rows)
    return reader.catalogue


def _check_columns(settings: ContentSettings, missing: Sequence[str], known: Mapping[str, Any], file: Path) -> None:
    for setting in ("event_text_fields", "event_fields", "context_fields"):
        check_named_columns(setting, getattr(settings, setting) or (), known, file)
    check_named_columns("event_text_template, context_text_template or shown_field", missing, known, file)


def _read_json_lines(
    path: Path, fields: _Fields, *, strict: bool
) -> tuple[dict[EventKey, dict[str, Any]], dict[str, None]]:
    """The rows of a file of JSON lines by event, and the names of all columns; none without the file."""
    if not is_there(path):
        return {}, {}
    report = RowReport(path, strict)
    columns: dict[str, None] = {}
    rows: dict[EventKey, dict[str, Any]] = {}
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
        if key in rows:
            reason = "of an event that has a row already"
        if reason or key is None:
            report.skip(reason, 1, [str(number)])
            continue
        columns.update(dict.fromkeys(row))
        rows[key] = row
    report.finish(count)
    return rows, columns


def _key_of(row: Any, fields: _Fields) -> tuple[str, EventKey | None]:
    """The event that a row belongs to; or why it belongs to none."""
    for name in (fields.user, fields.item):
        if reason := id_fault(row, name):
            return reason, None
    try:
        time = float(row[fields.time])
    except (KeyError, OverflowError, TypeError, ValueError):
        time = math.nan
    if not math.isfinite(time) or isinstance(row[fields.time], bool | str):
        return f"whose {fields.time} is no number", None
    return "", EventKey(as_token(row[fields.user]), as_token(row[fields.item]), time)


def _read_columns(
    path: Path, layout: AtomicFormat, fields: _Fields, named: Sequence[str]
) -> Iterator[tuple[EventKey, dict[str, Any]]]:
    """The events of an interaction file with named columns."""
    header = read_header(path, layout)
    kinds = {fields.user: "token", fields.item: "token", fields.time: "float"}
    kinds |= {name: "float" if header[name] == "float" else "text" for name in named}
    table = read_atomic_file(path, layout, kinds, ids=[fields.user, fields.item])
    for values in table.itertuples(index=False, name=None):
        row = dict(zip(table.columns, values, strict=True))
        key = EventKey(row.pop(fields.user), row.pop(fields.item), float(row.pop(fields.time)))
        yield key, row
