"""Feeds the trackers of a run, and keeps their errors from it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

from pydantic import StringConstraints, TypeAdapter, ValidationError
from recbole.config import Config
from typing_extensions import TypedDict  # pydantic does not accept the one of typing before Python 3.12

from recbole_llm_interest.distributed import is_main_process
from recbole_llm_interest.io.checkpoints.schema import Name
from recbole_llm_interest.settings.trackers import check_tracker_packages, trackers_of
from recbole_llm_interest.training.tracking import TRACKERS, Status, TrackedRun, Tracker

_logger = logging.getLogger(__name__)


class TrackedBefore(TypedDict):
    """What the resume state of a run keeps of its trackers.

    Attributes:
        comparison: name of the comparison.
        runs: id of the run in each tracker.
    """

    comparison: Annotated[str, StringConstraints(max_length=500)]
    runs: dict[str, Name]


_TRACKED_BEFORE: TypeAdapter[TrackedBefore] = TypeAdapter(TrackedBefore)


def check_trackers(configs: Iterable[Config]) -> None:
    """Check that the trackers of these runs can be used, before data is read.

    Raises:
        SettingsError: a package or a login is missing.
    """
    for name in dict.fromkeys(name for config in configs for name in trackers_of(config)):
        check_tracker_packages(name, TRACKERS[name].packages)
        TRACKERS[name].check()


class Tracking:
    """The trackers of one run. One that fails is left out from then on, with one warning: training goes on.

    Args:
        names: of the trackers.

    Attributes:
        places: where each tracker shows the run, by its name.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.places: dict[str, str] = {}
        self._names = names if is_main_process() else ()
        self._trackers: dict[str, Tracker] = {}
        self._before: TrackedBefore = {"comparison": "", "runs": {}}

    def progress(self) -> dict[str, Any]:
        """Return what ``resume`` needs to continue the runs, in plain values."""
        return {"tracking": self._before}

    def resume(self, progress: Mapping[str, Any]) -> None:
        """Continue the runs of an interrupted training; called before ``start``.

        Args:
            progress: from its resume state, which may be of an earlier version, or of another person.
        """
        try:
            self._before = _TRACKED_BEFORE.validate_python(progress.get("tracking"))
        except ValidationError:
            _logger.info("the resume state does not name the runs of trackers")

    def start(self, run: TrackedRun) -> None:
        """Begin the run in each tracker, or continue it."""
        former = self._before["runs"]
        comparison = self._before["comparison"] or run.comparison
        run = replace(run, comparison=comparison)
        self._before = {"comparison": comparison, "runs": dict(former)}
        for name in self._names:
            self._guard(name, lambda name=name: self._open(name, run, former.get(name)))  # type: ignore[misc]

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Write values of an epoch, which counts from 1. NaN, as of a metric without events, is left out."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self._each(lambda tracker: tracker.log(finite, epoch))

    def summarize(self, values: Mapping[str, float | None], epochs: int) -> None:
        """Write values of the whole run, of which None is unknown."""
        finite = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
        self._each(lambda tracker: tracker.summarize(finite, epochs))

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        status: Status = "finished"
        if kind is not None:
            status = "failed" if issubclass(kind, Exception) else "interrupted"
        closing, self._trackers = self._trackers, {}
        for name, tracker in closing.items():
            self._guard(name, lambda tracker=tracker: tracker.close(status))  # type: ignore[misc]

    def _open(self, name: str, run: TrackedRun, former: str | None) -> None:
        tracker = TRACKERS[name](run, former)
        self._trackers[name], self.places[name] = tracker, tracker.place
        self._before["runs"][name] = tracker.id
        if run.epochs and not tracker.is_continued:
            _logger.warning(
                "%s: the interrupted part of %s is not there: a new run has the epochs from %d on",
                *(name, run.name, run.epochs + 1),
            )

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            self._guard(name, lambda tracker=tracker: call(tracker))  # type: ignore[misc]

    def _guard(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # of any library: none may end a training
            broken = self._trackers.pop(name, None)
            reason = " ".join(str(error).split())[:300]
            _logger.warning("%s stopped: %s: %s; the run goes on without it", name, type(error).__name__, reason)
            _logger.info("the traceback of %s", name, exc_info=True)
            if broken is not None:  # or its run would look as if it were still going on
                with suppress(Exception):
                    broken.close("failed")
