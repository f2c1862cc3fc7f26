"""What a data set knows of its events beside their items, aligned with the table of events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence, Set
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.config import Config
from torch import Tensor

from recbole_llm_interest.content.blobs import Text
from recbole_llm_interest.content.catalogue import Catalogue
from recbole_llm_interest.content.event_catalogue import EventKey, read_event_content
from recbole_llm_interest.content.event_fields import EventField, EventKind, code_field, content_field
from recbole_llm_interest.content.event_inputs import EventInputs
from recbole_llm_interest.content.features import Content
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.settings import ContentSettings

_logger = logging.getLogger(__name__)

#: characters of a title that a text is not likely to have by chance
_SHORTEST_TITLE = 4

#: collects features of a catalogue's tokens, with a conditioning that is fitted on some rows
Collect = Callable[[Catalogue, list[str], NDArray[np.bool_]], Content]


class SideInformation:
    """Content and embedded columns of events, or the part of them that is known before the items are chosen.

    Args:
        kind: ``event`` or ``context``.
        config: RecBole's settings of the data set.
        settings: of content.

    Attributes:
        catalogue: the content.
        features: whole numbers of each event by the field of batches that has them, ``[E]``; empty before ``align``.

    Raises:
        DataError: a file cannot be read, or lacks a column that the settings name.
        SettingsError: the text template is invalid.
    """

    def __init__(self, kind: EventKind, config: Config, settings: ContentSettings) -> None:
        self._kind = kind
        self._settings = settings
        self._seed = config["seed"]
        saved = (config["event_codes"] or {}).get(kind, [])  # of the checkpoint that is loaded
        self._saved = {field.name: field for field in EventField.restored(saved)}
        self.catalogue = read_event_content(config, settings, kind)
        self.features: dict[str, Tensor] = {}
        self._values: dict[str, Sequence[object]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no event has anything."""
        return not self.catalogue.rows

    def align(self, tables: Sequence[Sequence[EventKey]]) -> None:
        """Find what belongs to each event of one or more tables, ``E`` keys in all.

        The tables of published splits have the same events: those of training are in the histories of the test, too.

        Raises:
            DataError: ``strict_content`` is set, and something belongs to no event; or there is nothing to shuffle.
        """
        events = dict.fromkeys(chain.from_iterable(tables))
        self._report_unmatched(events.keys())
        self._report_repeated(tables)
        if self.is_shuffled and not self.catalogue.contents.tokens:
            raise DataError(
                f"controlled_content names content of the kind {self._kind!r}, which has none: its columns are all in "
                "event_fields, which this control leaves as they are"
            )
        if self.is_shuffled:
            self.catalogue.shuffle([key for key in events if key in self.catalogue.rows], self._seed)
        if self.catalogue.contents.tokens:
            rows = np.concatenate([self.catalogue.rows_of(keys) for keys in tables])
            self.features[content_field(self._kind)] = torch.from_numpy(rows)
        for column in self.catalogue.values:
            of_tables = (self.catalogue.values_of(column, keys) for keys in tables)
            self._values[column] = [*chain.from_iterable(of_tables)]

    def _report_repeated(self, tables: Sequence[Sequence[EventKey]]) -> None:
        """Log how many events have no content because a later one has the same user, item and time."""
        known = [[key for key in keys if key in self.catalogue.rows] for keys in tables]
        if repeated := sum(len(keys) - len({*keys}) for keys in known):
            _logger.warning(
                "%d of %d events have the user, item and time of a later one, which alone has their content",
                *(repeated, sum(map(len, tables))),
            )

    def _report_unmatched(self, keys: Set[EventKey]) -> None:
        """Log how many JSON lines belong to no event. They name users, so that the log does not list them."""
        listed = self.catalogue.listed
        if unmatched := len(listed - keys):
            problem = (
                f"{unmatched} of {len(listed)} rows with content of events belong to no event of the data "
                "set: their user, item or time is another one, or filters have removed the event"
            )
            self._report(problem, "correct them, or set strict_content=False to leave them out")

    def report_titles(self, keys: Sequence[EventKey], titles: Mapping[str, str]) -> None:
        """Warn where most texts have the title of the item that was chosen: they may have been written afterwards.

        Args:
            keys: of the events.
            titles: of items by their tokens.

        Raises:
            DataError: that is so, and ``strict_content`` is set.
        """
        blobs = self.catalogue.contents.blobs["text"]
        texts = {row: blob.text.casefold() for row, blob in blobs.items() if isinstance(blob, Text)}
        rows = zip(keys, map(str, self.catalogue.rows_of(keys).tolist()), strict=True)
        told = [(titles[key.item].casefold(), texts[row]) for key, row in rows if key.item in titles and row in texts]
        named = sum(len(title) >= _SHORTEST_TITLE and title in text for title, text in told)
        if named > len(told) / 2:
            problem = (
                f"{named} of {len(told)} texts that context_fields names have the title of the item that was chosen: "
                "what was written after the choice is no context"
            )
            self._report(problem, "take its column out, or set strict_content=False")

    def _report(self, problem: str, advice: str) -> None:
        if self._settings.strict_content:
            raise DataError(f"{problem}; {advice}")
        _logger.warning("%s", problem)

    @property
    def is_shuffled(self) -> bool:
        """Whether a control experiment gives each event the content of another one.

        It does not permute the table of contents: contents that repeat would be told apart as well as before.
        """
        named = any(name.startswith(f"{self._kind}_") for name in self._settings.controlled_content)
        return named and self._settings.content_control == "shuffled"

    def fit(self, is_training: NDArray[np.bool_], collect: Collect) -> EventInputs:
        """Encode contents, and give codes to the values of columns, by what training events have, ``[E]``.

        Args:
            is_training: the events that training sees, ``[E]``.
            collect: as its type says.
        """
        fields = []
        for column, values in self._values.items():
            known = (value for value, is_known in zip(values, is_training, strict=True) if is_known)
            fields.append(field := self._saved.get(column) or EventField.fitted(column, known))
            codes = torch.tensor([field.code(value) for value in values])
            self.features[code_field(self._kind, column)] = codes
        if content_field(self._kind) not in self.features:
            return EventInputs(fields=tuple(fields))
        tokens = self.catalogue.tokens
        fitted = np.zeros(len(tokens), dtype=bool)
        fitted[self.features[content_field(self._kind)].numpy()[is_training]] = True
        content = collect(self.catalogue.contents, tokens, fitted)
        if self._settings.modalities and not content:
            self._report_unread()
        return EventInputs(content, tuple(fields))

    def _report_unread(self) -> None:
        """Say that all content is of modalities that are not in use."""
        found = ", ".join(name for name, blobs in self.catalogue.contents.blobs.items() if blobs)
        self._report(
            f"{self._kind} content is not read: it is {found}, and modalities={[*self._settings.modalities]}",
            f"add it to modalities, or leave the content of the kind {self._kind!r} out",
        )
