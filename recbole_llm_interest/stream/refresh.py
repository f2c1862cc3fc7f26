"""New weights for a model that follows a stream: trained in a process of its own, while states move on."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from recbole_llm_interest.errors import LLMInterestError, TrainingError
from recbole_llm_interest.io.event_store import EventStore
from recbole_llm_interest.io.files import make_folder
from recbole_llm_interest.stream.events import EventReading

_LOG = "training.log"


@dataclass(frozen=True)
class ServedModel:
    """A model that follows a stream.

    Attributes:
        checkpoint: of the model.
        places: settings that say where its data are; empty for those of its training.
        until: number of the last event of the stream that is in its data set.
        number: of refreshes before.
        is_first: whether it is the one that the command names, and not one that was trained on the stream.

    Example:
        >>> ServedModel("saved/model.safetensors").number
        0
    """

    checkpoint: str
    places: Mapping[str, str] = field(default_factory=dict)
    until: int = 0
    number: int = 0
    is_first: bool = True


def training_log(folder: Path, number: int) -> Path:
    """What the training of a refresh prints."""
    return folder / f"refresh-{number}" / _LOG


class Refresh:
    """One training of new weights, on the events that the store has at its beginning.

    Attributes:
        model: that it makes, still with the former weights.
        folder: of the training.

    Args:
        model: to start from.
        until: number of the last event to train on.
        folder: of the stream; the training has one of its own in it.
        reading: names the columns of the data set.
        settings: of the training.
    """

    def __init__(
        self, model: ServedModel, until: int, folder: Path, reading: EventReading, settings: Mapping[str, Any]
    ) -> None:
        self.model = replace(model, until=until, number=model.number + 1, is_first=False)
        self.folder = training_log(folder, self.model.number).parent
        make_folder(self.folder)
        processes = multiprocessing.get_context("spawn")
        self._receiver, sender = processes.Pipe(duplex=False)
        given = sender, model, until, self.folder, reading, dict(settings)
        self._process = processes.Process(target=_train, args=given)
        self._process.start()
        sender.close()

    @property
    def is_done(self) -> bool:
        """Whether ``result`` does not wait."""
        return self._receiver.poll()

    def result(self) -> ServedModel:
        """Wait for the end of the training, and return the new model.

        Raises:
            TrainingError: it failed.
        """
        try:
            found = self._receiver.recv()
        except EOFError:
            found = "its process was ended"
        self._process.join()
        if isinstance(found, str):
            log = self.folder / _LOG
            self._clear()
            raise TrainingError(f"refresh {self.model.number} failed, and the former weights stay: {found} ({log})")
        checkpoint, places = found
        return replace(self.model, checkpoint=checkpoint, places=places)

    def _clear(self) -> None:
        """Remove what a failed training has left: the next one of this number has more events."""
        shutil.rmtree(self.folder / "saved", ignore_errors=True)
        for path in self.folder.glob("runs.*"):
            path.unlink()

    def stop(self) -> None:
        """End the training. The same refresh goes on from its last epoch."""
        self._process.terminate()
        self._process.join()


def _train(
    sender: Connection, model: ServedModel, until: int, folder: Path, reading: EventReading, settings: dict[str, Any]
) -> None:
    """What the process of a refresh does: sends the checkpoint and the places of its data, or why there is none."""
    from recbole_llm_interest.recommender.further_training import train_further

    _end_with_parent()
    with (folder / _LOG).open("a") as log:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
    try:
        with EventStore(folder.parent, writes=False) as store:
            events = [reading.row(event) for event in store.events(model.until, until)]
        sender.send(tuple(train_further(Path(model.checkpoint), events, folder, {**settings, **model.places})))
    except LLMInterestError as error:
        sender.send(str(error))


def _end_with_parent() -> None:
    """End this process when the one that follows the stream was killed: the next one starts the training again."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
