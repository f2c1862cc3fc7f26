"""Follows a stream: each batch of events moves states on, is evaluated, and is written as a whole."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from tqdm import tqdm

from recbole_llm_interest.errors import RequestError, TrainingError
from recbole_llm_interest.io.event_store import DEAD_LETTERS, EVALUATION, EVENTS, EventBatch, EventStore, StoredEvent
from recbole_llm_interest.io.files import exclusive_lock, make_folder, write_text
from recbole_llm_interest.io.manifest import absolute, record_run
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.recommender.grown_data import check_can_grow
from recbole_llm_interest.recommender.live_states import LiveStates
from recbole_llm_interest.recommender.loading import OpenedCheckpoint, checkpoint_in_use, load_opened
from recbole_llm_interest.stream.events import EventReading, StreamEvent, dead_letter
from recbole_llm_interest.stream.refresh import Refresh, ServedModel, training_log
from recbole_llm_interest.stream.rolling_evaluation import EvaluationWindow, RollingEvaluation
from recbole_llm_interest.stream.sources import Chunk, EventSource

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FollowOptions:
    """How a stream is followed.

    Attributes:
        batch: events that are read at most before they are written.
        evaluate: share of the events whose item is looked for among the best ten before.
        window: evaluated events of which means are given together.
        key: column that names an event, so that it is read once however often it is sent; None without one.
        refresh_every: events after which new weights are trained; 0 for never.
    """

    batch: int = 256
    evaluate: float = 1.0
    window: int = 1000
    key: str | None = None
    refresh_every: int = 0


@dataclass
class FollowCounts:
    """What became of the lines that were read.

    Attributes:
        events: that were stored.
        refused: lines that are in the file of dead letters.
        repeated: events that were stored before.
        unknown_items: stored events whose item the model did not know, so that no state has them before a refresh.
        seconds: that reading, updating and storing took, without waiting for lines.
    """

    events: int = 0
    refused: int = 0
    repeated: int = 0
    unknown_items: int = 0
    seconds: float = 0.0


@dataclass
class Follower:
    """Follows a stream of events into a folder.

    Attributes:
        recommender: of the newest weights.
        store: in the folder.
        model: the recommender's.
        reading: of lines, by the columns of the data set.
        config: RecBole's, of the first model's data set.
        options: how to follow.
        settings: of serving and of further training.
        on_window: is called with each evaluated window.
        counts: of this run.
    """

    recommender: Recommender
    store: EventStore
    model: ServedModel
    reading: EventReading
    config: Any
    options: FollowOptions
    settings: Mapping[str, Any]
    on_window: Callable[[EvaluationWindow], object] = lambda _: None
    counts: FollowCounts = field(default_factory=FollowCounts)

    def __post_init__(self) -> None:
        self._states = LiveStates(self.recommender, self.store, self.model.until)
        self._evaluation = RollingEvaluation(self.store.ranks, self.options.window)
        self._stored = self.store.event_count  # numbers of events never fall
        self._refresh: Refresh | None = None
        self._tried = self.store.fact("refreshed until") or 0  # by a training that failed

    @classmethod
    @contextmanager
    def opened(
        cls, checkpoint: Path, folder: Path, options: FollowOptions, settings: Mapping[str, Any], **more: Any
    ) -> Iterator[Self]:
        """Load the model and the folder, and lock both.

        Args:
            checkpoint: of the first model.
            folder: of the stream. Following goes on where it ended, with the newest weights in it.
            options: how to follow.
            settings: of serving and of further training, those that differ from training.
            more: other attributes.

        Raises:
            LLMInterestError: the checkpoint or its data set cannot be used, or another process follows into the folder.
        """
        make_folder(folder)
        with (
            exclusive_lock(folder / EVENTS, "name another folder"),
            checkpoint_in_use(checkpoint, {**settings}) as opened,
        ):
            if options.refresh_every:
                check_can_grow(opened.config)
            for kind, name in (("event store", EVENTS), ("dead letters", DEAD_LETTERS), ("table", EVALUATION)):
                record_run(opened.config, kind, [folder / name])  # type: ignore[arg-type]
            with EventStore(folder) as store:
                model = _served(store, checkpoint)
                recommender = _loaded(opened, model, settings)
                store.write_facts({"checkpoint": str(absolute(checkpoint)), "model": asdict(model)})
                user, item, time_field = (opened.config[f"{name}_FIELD"] for name in ("USER_ID", "ITEM_ID", "TIME"))
                reading = EventReading(user, item, time_field, options.key, recommender.time_unit)
                yield cls(recommender, store, model, reading, opened.config, options, settings, **more)

    def run(self, source: EventSource) -> dict[str, Any]:
        """Follow a source to its end, and return what was found.

        Raises:
            DataError: the source cannot be read.
            StorageError: the folder cannot be written to. What was written before is complete.
        """
        with tqdm(desc="Following", unit="event") as bar:
            try:
                if (begun := self.store.fact("refresh")) is not None:  # one that was interrupted goes on
                    self._begin(begun)
                for chunk in source.chunks(self.store.position, self.options.batch):
                    if chunk.lines:
                        self._take(chunk)
                        bar.update(len(chunk.lines))
                    self._refresh_if_due()
                if self._refresh is not None:
                    bar.set_postfix_str("training")
                    self._switch(self._refresh)
            finally:
                if self._refresh is not None:
                    self._refresh.stop()
        return self._report()

    # --- events

    def _take(self, chunk: Chunk) -> None:
        """Read the lines of a chunk, and write what they change."""
        begun = time.perf_counter()
        batch = EventBatch(chunk.source, str(chunk.position), self.recommender.version)
        events = self._without_repeated(self._read(chunk.lines, batch))
        moved = self._states.advance(events, [*map(self._is_evaluated, range(len(events)))])
        for event, (rank, fault) in zip(events, moved, strict=True):
            if fault is None:
                columns = dict(event.columns) or None
                batch.events.append(StoredEvent(event.user, event.item, event.time, columns, rank, event.key))
            else:
                batch.dead_letters.append(dead_letter(event.line, fault))
        known = {event.user for event in batch.events if event.item in self.recommender.items.all_rows}
        batch.states = self._states.packed(known)
        self.store.write(batch)
        self._states.trim()
        self._count(batch)
        self.counts.seconds += time.perf_counter() - begun

    def _read(self, lines: Sequence[bytes], batch: EventBatch) -> Iterator[StreamEvent]:
        """The events of lines; those that are none become dead letters."""
        for line in lines:
            if line.strip():
                try:
                    yield self.reading.read(line)
                except RequestError as error:
                    batch.dead_letters.append(dead_letter(line, error))

    def _without_repeated(self, events: Iterator[StreamEvent]) -> list[StreamEvent]:
        listed = list(events)
        if self.options.key is None:
            return listed
        seen = self.store.known_keys([event.key for event in listed if event.key is not None])
        new = []
        for event in listed:
            if event.key in seen:
                self.counts.repeated += 1
            else:
                new.append(event)
                seen.add(str(event.key))
        return new

    def _is_evaluated(self, place: int) -> bool:
        """Whether the event at a place of a batch is evaluated."""
        number, share = self._stored + place, self.options.evaluate
        return int((number + 1) * share) > int(number * share)

    def _count(self, batch: EventBatch) -> None:
        items = self.recommender.items.all_rows
        self._stored += len(batch.events)
        self.counts.events += len(batch.events)
        self.counts.refused += len(batch.dead_letters)
        self.counts.unknown_items += sum(event.item not in items for event in batch.events)
        windows = self._evaluation.add([event.rank for event in batch.events if event.rank is not None])
        for window in windows:
            self.on_window(window)
        if windows:
            self._write_evaluation()

    # --- new weights

    def _refresh_if_due(self) -> None:
        """Take up new weights that are trained, or begin to train them."""
        every = self.options.refresh_every
        if self._refresh is not None:
            if self._refresh.is_done:
                self._switch(self._refresh)
        elif every and self._stored - max(self.model.until, self._tried) >= every:
            self.store.write_facts({"refresh": self._stored})
            self._begin(self._stored)

    def _begin(self, until: int) -> None:
        folder = self.store.path.parent
        record_run(self.config, "log", [training_log(folder, self.model.number + 1)])
        self._refresh = Refresh(self.model, until, folder, self.reading, self.settings)

    def _switch(self, refresh: Refresh) -> None:
        """Serve the new weights. If there are none, the former ones stay, and the next refresh learns their events."""
        try:
            model = refresh.result()
        except TrainingError as error:
            self._refresh = None
            _logger.warning("%s", error)
            self._tried = refresh.model.until
            self.store.write_facts({"refresh": None, "refreshed until": self._tried})
            return
        self._refresh = None
        self.recommender = Recommender.load(model.checkpoint, **{**self.settings, **model.places})
        self.model = model
        self._states = LiveStates(self.recommender, self.store, model.until)
        self.store.write_facts({"model": asdict(model), "refresh": None})

    # --- results

    def _write_evaluation(self) -> None:
        found = {**self._evaluation.summary, "refreshes": self.model.number}
        write_text(self.store.path.with_name(EVALUATION), json.dumps(found, indent=1) + "\n")

    def _report(self) -> dict[str, Any]:
        self._write_evaluation()
        evaluated = self._evaluation.summary
        folder = self.store.path.parent
        files = [path for name in (EVENTS, DEAD_LETTERS, EVALUATION) if (path := folder / name).exists()]
        return {
            **asdict(self.counts),
            **{"evaluated": evaluated["events"], **{name: evaluated[name] for name in ("ndcg@10", "recall@10")}},
            **{"refreshes": self.model.number, "checkpoint": self.model.checkpoint, "files": files},
        }


def _served(store: EventStore, checkpoint: Path) -> ServedModel:
    """The newest model of a stream; the given one, if the stream began with another."""
    first, begun, found = str(absolute(checkpoint)), store.fact("checkpoint"), store.fact("model")
    if begun == first and found is not None:
        return ServedModel(**found)
    if begun is None:
        return ServedModel(first)
    _logger.warning(
        "%s followed with %s until now: states start from the data set of %s, and the stream's events come on top",
        *(store.path.parent, begun, first),
    )
    store.write_facts({"refresh": None})
    return ServedModel(first, number=0 if found is None else found["number"], is_first=True)


def _loaded(opened: OpenedCheckpoint, model: ServedModel, settings: Mapping[str, Any]) -> Recommender:
    if model.is_first:
        return Recommender(load_opened(opened))
    return Recommender.load(model.checkpoint, **{**settings, **model.places})
