"""The routes of a service, each a few lines: read what is asked, wait for the model, and say what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response

from recbole_llm_interest.content.catalogue import MEDIA_COLUMNS
from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.io.atomic_files import MAX_TOKEN_CHARACTERS
from recbole_llm_interest.io.event_store import StoredEvent
from recbole_llm_interest.io.shared_event_store import CatalogChange
from recbole_llm_interest.recommender import Recommendations
from recbole_llm_interest.recommender.inputs import read_new_id, read_time
from recbole_llm_interest.serving import metrics
from recbole_llm_interest.serving.answers import EventResult, ListRequest, UserList
from recbole_llm_interest.serving.jobs import AddEvents, Call, Recommend
from recbole_llm_interest.serving.request_queue import RequestQueue
from recbole_llm_interest.serving.schemas import (
    Count,
    ErrorBody,
    FoundItem,
    FoundItems,
    InterestsResponse,
    InterestWeight,
    K,
    ListOptions,
    ListsRequest,
    ListsResponse,
    ModelInfo,
    NewEvent,
    NewEvents,
    NewItems,
    NewUserEvent,
    PreviewRequest,
    PreviewResponse,
    RecommendedItem,
    ScoreExplanation,
    Status,
    StoredResult,
    StoredResults,
    UserRecommendations,
)
from recbole_llm_interest.serving.service import Service

#: columns of content that name files, which are not read for somebody on the network
_FILES = {"image", "audio", *MEDIA_COLUMNS.values()}
_ERRORS: dict[int | str, dict[str, Any]] = {
    **{401: {"model": ErrorBody}, 403: {"model": ErrorBody}, 404: {"model": ErrorBody}, 408: {"model": ErrorBody}},
    **{400: {"model": ErrorBody}, 405: {"model": ErrorBody}, 413: {"model": ErrorBody}, 422: {"model": ErrorBody}},
    **{429: {"model": ErrorBody}, 503: {"model": ErrorBody}},
}
router = APIRouter(responses=_ERRORS)

UserId = Annotated[str, Path(min_length=1, max_length=MAX_TOKEN_CHARACTERS, description="id of the user")]
ItemId = Annotated[str, Path(min_length=1, max_length=MAX_TOKEN_CHARACTERS, description="id of the item")]


@dataclass(frozen=True)
class Front:
    """What routes use.

    Attributes:
        service: answers in the thread of the queue; here, only what never changes is read of it.
        queue: of what waits for it.
        needs_key: whether requests need a key.
    """

    service: Service
    queue: RequestQueue
    needs_key: bool


async def _front(request: Request) -> Front:
    front: Front = request.app.state.front
    return front


def _requires(role: str) -> Any:
    """Refuses requests of clients who do not have a role."""

    async def check(request: Request) -> None:
        client = request.state.client
        if not client.may(role):
            raise HTTPException(403, f"the key {client.name!r} has the role {client.role}, and this needs {role}")

    return Depends(check)


Asked = Annotated[Front, Depends(_front)]
_WRITES, _CHANGES = [_requires("write")], [_requires("admin")]


# --- events


@router.post("/users/{user:path}/events", dependencies=_WRITES, tags=["events"])
async def add_event(front: Asked, user: UserId, event: NewEvent) -> StoredResult:
    """Store one event of a user. The answer comes when it is on the disk."""
    (found,) = await front.queue.result(AddEvents((_stored(front, user, event),)))
    result = _result(found)
    _refuse(found.fault)
    return result


@router.post("/events", dependencies=_WRITES, tags=["events"])
async def add_events(front: Asked, body: NewEvents) -> StoredResults:
    """Store events of any users. One that is refused does not hold up the others."""
    results: list[StoredResult | None] = []
    events = []
    for event in body.events:
        try:
            events.append(_stored(front, event.user, event))
            results.append(None)
        except RequestError as error:
            results.append(_result(EventResult(fault=str(error))))
    stored = iter(await front.queue.result(AddEvents(tuple(events))) if events else ())
    return StoredResults(results=[_result(next(stored)) if result is None else result for result in results])


def _stored(front: Front, user: str, event: NewEvent | NewUserEvent) -> StoredEvent:
    """An event as the store takes it.

    Raises:
        RequestError: its user cannot be an id, or its time cannot be read.
    """
    time = read_time(event.time, event.item, front.service.recommender.time_unit)
    return StoredEvent(read_new_id(user, "user"), event.item, time, event.columns or None, key=event.key)


def _refuse(fault: str | None) -> None:
    """Answer by an error if there is a fault.

    Raises:
        RequestError: there is.
    """
    if fault is not None:
        raise RequestError(fault)


def _result(found: EventResult) -> StoredResult:
    name = "refused" if found.fault is not None else "repeated" if found.is_repeated else "stored"
    metrics.EVENTS.labels(name).inc()
    return StoredResult(result=name, reason=found.fault)


# --- recommendations


@router.get("/users/{user:path}/recommendations", tags=["recommendations"])
async def recommend(
    front: Asked,
    user: UserId,
    k: Annotated[K, Query()] = 10,
    exclude_seen: Annotated[bool, Query(description="leave out items of the user's history")] = False,
    min_diversity: Annotated[float, Query(ge=0, le=2, description="least 1 - cosine of any two items")] = 0.0,
) -> UserRecommendations:
    """The best items for a user now. Somebody new gets those for somebody of whom nothing is known."""
    (found,) = await _lists(front, [user], ListRequest(k, exclude_seen=exclude_seen, min_diversity=min_diversity))
    return found


@router.post("/recommendations", tags=["recommendations"])
async def recommend_to_several(front: Asked, body: ListsRequest) -> ListsResponse:
    """The best items for each of several users, from candidates or in a context if these are given."""
    return ListsResponse(lists=await _lists(front, body.users, _list_request(body)))


async def _lists(front: Front, users: Sequence[str], request: ListRequest) -> list[UserRecommendations]:
    ids = tuple(read_new_id(user, "user") for user in users)
    found: Sequence[UserList | RequestError] = await front.queue.result(Recommend(ids, request))
    for one in found:
        if isinstance(one, RequestError):
            raise one
    return [
        UserRecommendations(user=user, events=one.events, items=_items(one.best))
        for user, one in zip(ids, found, strict=True)
        if isinstance(one, UserList)
    ]


def _list_request(body: ListOptions) -> ListRequest:
    _refuse_files(body.context)
    candidates = None if body.candidates is None else tuple(body.candidates)
    return ListRequest(
        body.k, candidates, tuple(body.exclude), body.exclude_seen, body.min_diversity, tuple(body.context.items())
    )


def _items(best: Recommendations) -> list[RecommendedItem]:
    return [RecommendedItem(item=item, title=title, score=score) for _, item, title, score in best.rows]


@router.get("/users/{user:path}/explanations", tags=["recommendations"])
async def explain_score(
    front: Asked,
    user: UserId,
    item: Annotated[str, Query(min_length=1, max_length=MAX_TOKEN_CHARACTERS, description="id of the item")],
) -> ScoreExplanation:
    """What makes the score of an item for a user."""
    name = read_new_id(user, "user")
    return ScoreExplanation(**asdict(await _called(front, lambda service: service.explain(name, item))))


@router.get("/users/{user:path}/interests", tags=["recommendations"])
async def interests(front: Asked, user: UserId, k: Annotated[K, Query()] = 5) -> InterestsResponse:
    """A user's heaviest interests: named groups of items, with the probability that the next event is of each."""
    name = read_new_id(user, "user")
    found = await _called(front, lambda service: service.interests(name, k))
    return InterestsResponse(user=name, interests=[_interest(one) for one in found])


def _interest(found: Any) -> InterestWeight:
    return InterestWeight(name=found.name, weight=found.weight, share=found.share, items=list(found.items))


@router.post("/previews", tags=["recommendations"])
async def preview(front: Asked, body: PreviewRequest) -> PreviewResponse:
    """What would be recommended after more events. Nothing is stored."""
    request, user = _list_request(body), None if body.user is None else read_new_id(body.user, "user")
    found = await _called(front, lambda service: service.preview(user, body.items, request, body.explain))
    return PreviewResponse(
        events=found.events,
        items=_items(found.best),
        interests=[_interest(one) for one in found.interests],
        explanation=None if found.explanation is None else ScoreExplanation(**asdict(found.explanation)),
    )


async def _called(front: Front, use: Callable[[Service], Any]) -> Any:
    return await front.queue.result(Call(use))


# --- users and items


@router.delete("/users/{user:path}", dependencies=_CHANGES, tags=["users and items"])
async def delete_user(front: Asked, user: UserId) -> Count:
    """Delete a user's events and state. Events in the data set of training are not used again, and stay there."""
    name = read_new_id(user, "user")
    return Count(count=await _called(front, lambda service: service.delete_user(name)))


@router.post("/items", dependencies=_CHANGES, tags=["users and items"])
async def add_items(front: Asked, body: NewItems) -> Count:
    """Add items by their content. They can be recommended at once, by each process of the service."""
    for item in body.items:
        _refuse_files(item.content)
        change = CatalogChange(read_new_id(item.item, "item"), item.content)
        await _changed(front, change)
    return Count(count=len(body.items))


@router.delete("/items/{item:path}", dependencies=_CHANGES, tags=["users and items"])
async def remove_item(front: Asked, item: ItemId) -> Count:
    """Recommend an item no more. Histories keep it."""
    await _changed(front, CatalogChange(read_new_id(item, "item"), None))
    return Count(count=1)


async def _changed(front: Front, change: CatalogChange) -> None:
    await _called(front, lambda service: service.change_catalog(change))


def _refuse_files(content: Mapping[str, Any]) -> None:
    """Refuse content that names files.

    Raises:
        RequestError: it does.
    """
    named = [name for name in content if name in _FILES and isinstance(content[name], str)]
    if named:
        raise RequestError(f"{named[0]!r} names a file, and a service reads none for others: give features as numbers")


@router.get("/items", tags=["users and items"])
async def find_items(
    front: Asked,
    query: Annotated[str, Query(max_length=200, description="part of a title or id")] = "",
    k: Annotated[K, Query()] = 10,
) -> FoundItems:
    """Items whose title or id has a text."""
    found = await _called(front, lambda service: service.find_items(query, k))
    return FoundItems(items=[FoundItem(item=item, title=title) for item, title in found])


# --- the service itself


@router.get("/model", tags=["service"])
async def model(front: Asked) -> ModelInfo:
    """Which model answers."""
    return ModelInfo(**await _called(front, _model), needs_key=front.needs_key)


def _model(service: Service) -> dict[str, Any]:
    recommender = service.recommender
    return {"version": recommender.version, "dataset": recommender.dataset, "items": len(recommender.items)}


@router.get("/health", tags=["service"])
async def health() -> Status:
    """Whether the process runs."""
    return Status(status="ok")


@router.get("/ready", tags=["service"])
async def ready(front: Asked) -> Status:
    """Whether the model and the store answer."""
    await _called(front, lambda service: service.store.catalog_number)
    return Status(status="ok")


@router.get("/metrics", tags=["service"], response_class=Response)
async def show_metrics(front: Asked) -> Response:
    """Figures for Prometheus."""
    metrics.QUEUE.set(len(front.queue))
    users, items = await _called(front, lambda service: (service.users_in_memory, len(service.recommender.items)))
    metrics.USERS.set(users)
    metrics.ITEMS.set(items)
    return Response(metrics.all_figures(), media_type="text/plain; version=0.0.4; charset=utf-8")
