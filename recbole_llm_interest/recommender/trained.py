"""A trained model, and what is known of its items, users and events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from recbole_llm_interest.content.event_fields import EventKind
from recbole_llm_interest.io.files import shared_data_set_lock
from recbole_llm_interest.io.manifest import Artifact, Kind, record_made_from
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.recommender.encoding import ContentReader
from recbole_llm_interest.recommender.event_reading import EventReader

#: gives items and times of the events of each of several users
Histories: TypeAlias = Callable[[Sequence[str]], list[tuple[list[str], list[float]]]]


@dataclass(frozen=True)
class Origin:
    """The data set and the settings of training.

    Attributes:
        dataset: name of the data set.
        counts: number of its users, items and events.
        id_fields: names of its id columns, by kind.
        settings: those that determine the model, as plain values.
        time_unit: unit of its event times, if they are seconds or milliseconds since 1970; None for another scale.
        data: hashes of the data that the model was trained on, by file and content feature; empty if it is unknown.
        trained_until: time of the newest event of training; None if it is unknown.

    Example:
        >>> Origin("ml-100k", {"users": 943}, {"user": "user_id"}, {}).time_unit is None
        True
    """

    dataset: str
    counts: dict[str, int]
    id_fields: dict[str, str]
    settings: dict[str, Any]
    time_unit: Literal["s", "ms"] | None = None
    data: dict[str, str] = field(default_factory=dict)
    trained_until: float | None = None


@dataclass(frozen=True)
class Trained:
    """A trained model, and what is known of its items and users.

    Attributes:
        model: with the weights of the checkpoint.
        tokens: ids of the items by row.
        users: rows of the users by id.
        max_length: ``MAX_ITEM_LIST_LENGTH``.
        texts: texts of items, by id.
        labels: titles of items, by id.
        item_reader: encodes the content of new items; None if the model knows items by their IDs alone.
        user_reader: encodes the content of new users; None if the model has no content of users.
        recorded: gives items and times of the recorded events of each of several users.
        trained_on: likewise of those that training saw.
        origin: of the model; None if it is unknown.
        source: the file that it was loaded from, as manifests record it; None if it was not loaded.
        categories: of items, such as genres, by id.
        event_readers: read what is given of events beside their items, and before a choice; none if the model reads
            nothing of that.

    Example:
        >>> from recbole_llm_interest.recommender.loading import load_trained
        >>> load_trained(checkpoint, {}).origin.counts
        {'users': 24, 'items': 8, 'events': 216}
    """

    model: LLMInterest
    tokens: list[str]
    users: dict[str, int]
    max_length: int
    texts: dict[str, str]
    labels: dict[str, str]
    item_reader: ContentReader | None
    user_reader: ContentReader | None
    recorded: Histories
    trained_on: Histories
    origin: Origin | None = None
    source: Artifact | None = None
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    event_readers: Mapping[EventKind, EventReader] = field(default_factory=dict)

    @property
    def time_unit(self) -> Literal["s", "ms"] | None:
        """Unit of event times since 1970; None if they are on another scale, or unknown."""
        return None if self.origin is None else self.origin.time_unit

    @property
    def data(self) -> dict[str, str]:
        """Hashes of the data that the model was trained on, by file and content feature; empty if it is unknown."""
        return {} if self.origin is None else self.origin.data

    def record(self, kind: Kind, paths: Sequence[Path]) -> None:
        """Record files that are about to be made from it; none if it was not loaded from a file."""
        if self.source is not None:
            record_made_from(self.source, kind, paths)

    @contextmanager
    def making(self, kind: Kind, paths: Sequence[Path]) -> Iterator[None]:
        """Record files that are made in the ``with`` block, and lock the data set meanwhile.

        Raises:
            StorageError: users or items are being removed from the data set.
        """
        with ExitStack() as stack:
            if self.source is not None and self.source.data_path is not None:
                stack.enter_context(shared_data_set_lock(self.source.data_path))
            self.record(kind, paths)
            yield
