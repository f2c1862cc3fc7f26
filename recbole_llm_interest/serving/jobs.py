"""What a request asks of the service, and how a batch of such jobs is answered: events first, then the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from recbole_llm_interest.io.event_store import StoredEvent
from recbole_llm_interest.serving.service import ListRequest, Service


@dataclass(frozen=True)
class AddEvents:
    """Store events; the result is what became of each."""

    events: tuple[StoredEvent, ...]


@dataclass(frozen=True)
class Recommend:
    """Recommend to users; the result is a list for each."""

    users: tuple[str, ...]
    request: ListRequest


@dataclass(frozen=True)
class Call:
    """Anything else that is done alone: the result is what the function gives of the service."""

    use: Callable[[Service], Any]


def answer(service: Service, jobs: Sequence[AddEvents | Recommend | Call]) -> list[Any]:
    """The result of each job, or an exception in its place. Jobs of a batch have no order among each other."""
    results: dict[int, Any] = {}
    changes = _attempted(service.follow_catalog)
    events = [(place, job) for place, job in enumerate(jobs) if isinstance(job, AddEvents)]
    lists = [(place, job) for place, job in enumerate(jobs) if isinstance(job, Recommend)]
    if isinstance(changes, Exception):
        return [changes] * len(jobs)
    if events:
        found = _attempted(lambda: service.add_events([event for _, job in events for event in job.events]))
        results |= _divided([(place, len(job.events)) for place, job in events], found)
    if lists:
        asked = [(user, job.request) for _, job in lists for user in job.users]
        found = _attempted(lambda: service.recommend(asked))
        results |= _divided([(place, len(job.users)) for place, job in lists], found)
    for place, job in enumerate(jobs):
        if isinstance(job, Call):
            results[place] = _attempted(lambda: job.use(service))  # noqa: B023  (it is called at once)
    return [results[place] for place in range(len(jobs))]


def _attempted(use: Callable[[], Any]) -> Any:
    """What a function gives, or the exception that it raises."""
    try:
        return use()
    except Exception as error:
        return error


def _divided(parts: Sequence[tuple[int, int]], found: Any) -> dict[int, Any]:
    """The results of each of several jobs, by place, of which each has a number of results."""
    if isinstance(found, Exception):
        return {place: found for place, _ in parts}
    divided, start = {}, 0
    for place, count in parts:
        divided[place] = found[start : start + count]
        start += count
    return divided
