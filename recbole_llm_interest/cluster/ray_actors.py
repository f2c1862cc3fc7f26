"""Runs tasks in the actors of a Ray cluster: one for each core, or for each GPU.

An actor is a process with one thread. If it is killed, or its node is lost, another one is started wherever there is
room, and its unfinished tasks go to whichever actor is free. Finished tasks are not repeated.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import socket
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from recbole_llm_interest.errors import ProcessError, SettingsError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray imports pkg_resources, which is deprecated
    import ray
    from ray.exceptions import RayError, RayTaskError

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_logger = logging.getLogger(__name__)
#: actors that may be lost with the same task, or starting in the same place
_MOST_LOSSES = 3
#: seconds until a head node must answer: Ray itself tries for two minutes
_CONNECTION_SECONDS = 10.0
#: seconds without any actor after which a warning says why nothing happens
_START_SECONDS = 60.0


class _Actor:
    """A process that runs tasks.

    Args:
        folder: the current directory of the process that gives tasks: relative paths mean the same where it exists.
        has_gpu: whether it works on a GPU; otherwise it has one core, and so one thread.
    """

    def __init__(self, folder: Path, has_gpu: bool) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.chdir(folder)
        sys.argv = sys.argv[:1]  # RecBole would read Ray's words as settings
        if not has_gpu:
            import torch  # here because it takes seconds, which all actors spend at the same time

            torch.set_num_threads(1)

    def set_up(self, make_worker: Callable[[], Callable[[Any], Any]]) -> None:
        self._worker = make_worker()

    def run(self, task: Any) -> Any:
        return self._worker(task)


@dataclass(eq=False)
class _Assignment:
    """A task; ``losses`` counts the actors that were lost with it."""

    task: Any
    losses: int = 0


@dataclass(eq=False)
class _Place:
    """Where one actor is at a time.

    Attributes:
        actor: the present one.
        is_ready: whether it is set up for the tasks.
        load: the number of its unfinished tasks.
        losses: actors that were lost here, one after the other, before they had done anything.
    """

    actor: Any
    is_ready: bool = False
    load: int = 0
    losses: int = 0


class RayExecutor:
    """The executor of a cluster. Actors stay until it is closed, so that libraries are imported once.

    Args:
        address: ``local`` starts Ray on this machine alone; ``auto`` and ``HOST:PORT`` are of a running cluster.
        with_gpus: whether its GPUs may be used.

    Attributes:
        is_remote: True.

    Raises:
        SettingsError: there is no cluster at the address, or it has another version of Ray or Python.
    """

    is_remote = True

    def __init__(self, address: str, *, with_gpus: bool = True) -> None:
        _connect(address)
        self._with_gpus = with_gpus
        #: by whether their actors have a GPU
        self._places: dict[bool, list[_Place]] = {True: [], False: []}

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()

    def map(
        self,
        make_worker: Callable[[], Callable[[_Task], _Result]],
        tasks: Iterable[_Task],
        *,
        uses_gpu: bool,
        ahead: int = 0,
    ) -> Iterator[_Result]:
        """Yield the result of each task, in the order in which they are finished; as for ``Executor``."""
        resources = ray.cluster_resources()  # now: nodes may have joined
        has_gpu = uses_gpu and self._with_gpus and resources.get("GPU", 0) >= 1
        source = iter(tasks)
        most = max(1, int(resources.get("GPU" if has_gpu else "CPU", 0)))  # the first one may wait for a node
        first = list(itertools.islice(source, most))  # no more actors than tasks
        places = self._places[has_gpu]
        places += [_Place(self._start(has_gpu)) for _ in first[len(places) :]]
        start = functools.partial(self._start, has_gpu)
        yield from _Job(
            make_worker, itertools.chain(first, source), places[: len(first)], start, most=1 + ahead
        ).results()

    def _start(self, has_gpu: bool) -> Any:
        """Start an actor as soon as some node has room for it."""
        resources = {"num_cpus": 0, "num_gpus": 1} if has_gpu else {"num_cpus": 1}
        return ray.remote(**resources)(_Actor).remote(Path.cwd(), has_gpu)


class _Job:
    """The tasks of one call of ``map``.

    Args:
        make_worker: as for ``Executor.map``.
        tasks: as for ``Executor.map``.
        places: of actors. They get tasks once they are set up.
        start: starts an actor in place of a lost one.
        most: tasks that an actor has at a time.
    """

    def __init__(
        self,
        make_worker: Callable[[], Callable[[Any], Any]],
        tasks: Iterable[Any],
        places: list[_Place],
        start: Callable[[], Any],
        most: int,
    ) -> None:
        self._make_worker = ray.put(make_worker)
        self._tasks = map(_Assignment, tasks)
        self._repeated: deque[_Assignment] = deque()
        self._places = places
        self._start = start
        self._most = most
        #: what each result is of: place, actor, and task or None for the set-up
        self._running: dict[Any, tuple[_Place, Any, _Assignment | None]] = {}
        for place in places:
            self._set_up(place)

    def results(self) -> Iterator[Any]:
        """Yield results until all tasks are done.

        Raises:
            ProcessError: too many actors were lost.
        """
        while self._is_unfinished():
            done = self._next_done()
            place, actor, assignment = self._running.pop(done)
            try:
                result = ray.get(done)
            except RayTaskError as error:
                raise error.cause from error
            except RayError:
                self._lose(place, actor, assignment)
                continue
            if assignment is None:
                place.is_ready = True
                self._assign()
                continue
            place.load, place.losses = place.load - 1, 0
            self._assign()
            yield result

    def _is_unfinished(self) -> bool:
        if self._repeated or any(assignment for _, _, assignment in self._running.values()):
            return True
        self._repeated.extend(itertools.islice(self._tasks, 1))
        return bool(self._repeated)

    def _next_done(self) -> Any:
        timeout = None if any(place.is_ready for place in self._places) else _START_SECONDS
        while not (done := ray.wait(list(self._running), timeout=timeout)[0]):
            _logger.warning("no worker has started: the cluster has no free core or GPU; waiting for one")
        return done[0]

    def _set_up(self, place: _Place) -> None:
        place.is_ready, place.load = False, 0
        self._running[place.actor.set_up.remote(self._make_worker)] = (place, place.actor, None)

    def _assign(self) -> None:
        """Give tasks to the actors that are set up, lost tasks first, to the least busy actor first."""
        free = [place for place in self._places if place.is_ready and place.load < self._most]
        while free:
            assignment = self._repeated.popleft() if self._repeated else next(self._tasks, None)
            if assignment is None:
                return
            place = min(free, key=lambda one: one.load)
            self._running[place.actor.run.remote(assignment.task)] = (place, place.actor, assignment)
            place.load += 1
            free = [one for one in free if one.load < self._most]

    def _lose(self, place: _Place, actor: Any, assignment: _Assignment | None) -> None:
        """Start another actor in place of a lost one, and give its task to whichever is free.

        Raises:
            ProcessError: it is one too many.
        """
        lost = place if assignment is None else assignment
        lost.losses += 1
        if lost.losses >= _MOST_LOSSES:
            what = "before they had started" if assignment is None else "with the same task"
            raise ProcessError(
                f"{_MOST_LOSSES} workers of the cluster were lost {what}, as when memory runs out: see Ray's logs; "
                "what was finished is kept"
            )
        if actor is place.actor:  # not if it is replaced already, as its other task has found
            _logger.warning("a worker of the cluster was lost: what it had not finished is done again")
            place.actor = self._start()
            self._set_up(place)
        if assignment is not None:
            self._repeated.append(assignment)
            self._assign()


def _connect(address: str) -> None:
    """Connect to a cluster, or start one.

    Raises:
        SettingsError: there is none at the address, or it has another version.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use to its makers
    if ":" in address:
        _check_that_it_answers(address)
    quiet = {"logging_level": logging.ERROR, "configure_logging": False, "log_to_driver": False}
    try:
        ray.init(address, include_dashboard=False if address == "local" else None, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"--ray={address}: no cluster can be used there: {reason:.300}") from error


def _check_that_it_answers(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECTION_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"--ray={address}: no cluster answers there ({error}): start one by 'ray start --head', or give its address"
        ) from error
