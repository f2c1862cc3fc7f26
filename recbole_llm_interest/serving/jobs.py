"""What a request asks of the service, and how a batch of such jobs is answered: events first, then the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from recbole_llm_interest.io.event_store import StoredEvent
from recbole_llm_interest.serving.answers import ListRequest
from recbole_llm_interest.serving.service import Service


@dataclass(frozen=True)
class AddEvents:
    """Store events; the result is what became of each."""

    events: tuple[StoredEvent, ...]

    @property
    def size(self) -> int:
        """Number of events."""
        return len(self.events)


@dataclass(frozen=True)
class Recommend:
    """Recommend to users; the result is a list for each."""

    users: tuple[str, ...]
    request: ListRequest

    @property
    def size(self) -> int:
        """Number of users."""
        return len(self.users)

    @property
    def asked(self) -> list[tuple[str, ListRequest]]:
        """Each user with the request."""
        return [(user, self.request) for user in self.users]


@dataclass(frozen=True)
class Call:
    """Anything else that is done alone: the result is what the function gives of the service."""

    use: Callable[[Service], Any]
    size: int = 1


def answer(service: Service, jobs: Sequence[AddEvents | Recommend | Call]) -> list[Any]:
    """The result of each job, or an exception in its place. Jobs of a batch have no order among each other."""
    failure = _attempted(service.follow_catalog)
    if isinstance(failure, Exception):
        return [failure] * len(jobs)
    events = {place: job.events for place, job in enumerate(jobs) if isinstance(job, AddEvents)}
    lists = {place: job.asked for place, job in enumerate(jobs) if isinstance(job, Recommend)}
    results = _together(events, service.add_events) | _together(lists, service.recommend)
    for place, job in enumerate(jobs):
        if isinstance(job, Call):
            results[place] = _attempted(partial(job.use, service))
    return [results[place] for place in range(len(jobs))]


def _together(parts: Mapping[int, Sequence[Any]], use: Callable[[list[Any]], Sequence[Any]]) -> dict[int, Any]:
    """What a function gives for the elements of several jobs at once, divided among their places."""
    if not parts:
        return {}
    found = _attempted(lambda: use([element for part in parts.values() for element in part]))
    if isinstance(found, Exception):
        return dict.fromkeys(parts, found)
    results = iter(found)
    return {place: list(islice(results, len(part))) for place, part in parts.items()}


def _attempted(use: Callable[[], Any]) -> Any:
    """What a function gives, or the exception that it raises."""
    try:
        return use()
    except Exception as error:
        return error
