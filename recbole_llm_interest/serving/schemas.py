"""Bodies of requests and responses. OpenAPI's description and its examples come from here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from recbole_llm_interest.io.atomic_files import MAX_TOKEN_CHARACTERS

#: users, events or items of one request
_MOST = 1000
Token = Annotated[str, Field(min_length=1, max_length=MAX_TOKEN_CHARACTERS)]
#: a single value of a column, or a list of them
_Scalar = str | bool | int | float | None
Columns = dict[str, _Scalar | list[_Scalar]]
#: a JSON number beyond these would not be a time in any unit
_Number = Annotated[float, Field(ge=-1e18, le=1e18)]
K = Annotated[int, Field(ge=1, le=1000, description="number of items")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class NewEvent(_Body):
    """What a user has done."""

    item: Token = Field(description="id of the item", examples=["i3"])
    time: _Number | Annotated[str, Field(max_length=64)] | None = Field(
        None, description="in the data set's unit, or ISO 8601; without it, now", examples=["2026-12-01T09:30:00Z"]
    )
    columns: Columns = Field({}, description="what else is known of it, by the columns of training")
    key: Token | None = Field(
        None, description="names the event, so that it counts once however often it is sent", examples=["order-17"]
    )


class NewUserEvent(NewEvent):
    """An event with its user."""

    user: Token = Field(description="id of the user", examples=["ada"])


class NewEvents(_Body):
    """Events of any users, in their order for each user."""

    events: list[NewUserEvent] = Field(min_length=1, max_length=_MOST)


class StoredResult(BaseModel):
    """What became of an event.

    Attributes:
        result: stored; repeated if an event of its key was stored before; refused in a batch.
        reason: why it was refused.
    """

    result: Literal["stored", "repeated", "refused"] = Field(examples=["stored"])
    reason: str | None = None


class StoredResults(BaseModel):
    """What became of the events of a batch, in their order."""

    results: list[StoredResult]


class ListOptions(_Body):
    """Which items may be recommended."""

    k: K = 10
    candidates: list[Token] | None = Field(None, max_length=100_000, description="items that may be; all without it")
    exclude: list[Token] = Field([], max_length=10_000, description="items that may not be")
    exclude_seen: bool = Field(False, description="leave out items of the user's history")
    min_diversity: float = Field(0.0, ge=0, le=2, description="least 1 - cosine of any two items")
    context: Columns = Field({}, description="what is known before the choice, by the columns of training")


class ListsRequest(ListOptions):
    """Users who get recommendations."""

    users: list[Token] = Field(min_length=1, max_length=_MOST, examples=[["ada", "ben"]])


class RecommendedItem(BaseModel):
    """An item.

    Attributes:
        item: id.
        title: of the item; its id where it has none.
        score: higher is better; differences are log odds.
    """

    item: str = Field(examples=["i4"])
    title: str = Field(examples=["A film about tides"])
    score: float


class UserRecommendations(BaseModel):
    """Recommendations to a user.

    Attributes:
        user: id.
        events: number of events that they follow from.
        items: the best first.
    """

    user: str
    events: int
    items: list[RecommendedItem]


class ListsResponse(BaseModel):
    """Recommendations to several users, in their order."""

    lists: list[UserRecommendations]


class InterestWeight(BaseModel):
    """A named group of items, with the probability that the next event is of it."""

    name: str
    weight: float
    share: float | None
    items: list[str]


class InterestsResponse(BaseModel):
    """A user's interests, the heaviest first."""

    user: str
    interests: list[InterestWeight]


class ScorePart(BaseModel):
    """A part of a score."""

    name: str
    points: float
    share: float
    title: str | None


class ScoreExplanation(BaseModel):
    """What makes the score of an item.

    Attributes:
        item: id.
        score: of the item.
        is_exact: whether the parts of the item sum to the score.
        of_item: parts by modality and bias.
        of_user: profile and events, by the loss of score without each.
    """

    item: str
    score: float
    is_exact: bool
    of_item: list[ScorePart]
    of_user: list[ScorePart]


class PreviewRequest(ListOptions):
    """Events that are assumed after those of a user, or of somebody new, and not stored."""

    user: Token | None = Field(None, description="id; without it, somebody new")
    items: list[Token] = Field([], max_length=_MOST, description="ids of the assumed events' items, in their order")
    explain: Token | None = Field(None, description="item whose score is explained")


class PreviewResponse(BaseModel):
    """What would be recommended.

    Attributes:
        events: number of events that it follows from.
        items: the best first.
        interests: the heaviest first.
        explanation: of the item that was asked for.
    """

    events: int
    items: list[RecommendedItem]
    interests: list[InterestWeight]
    explanation: ScoreExplanation | None = None


class AddedItem(_Body):
    """An item that was not there in training. It can be recommended at once."""

    item: Token = Field(examples=["i9"])
    content: dict[str, str | float | list[str] | list[float]] = Field(
        min_length=1,
        description="columns of its text as in training, or features as numbers by modality",
        examples=[{"title": "A film about whales"}],
    )


class NewItems(_Body):
    """Items to add. If one cannot be added, those before it are."""

    items: list[AddedItem] = Field(min_length=1, max_length=_MOST)


class FoundItem(BaseModel):
    """An item of the catalog."""

    item: str
    title: str


class FoundItems(BaseModel):
    """Items of the catalog."""

    items: list[FoundItem]


class Count(BaseModel):
    """How many were changed."""

    count: int


class ModelInfo(BaseModel):
    """The model that answers.

    Attributes:
        version: hash of the model, by which its states are named.
        dataset: name of the data set that it was trained on.
        items: number of items that can be recommended.
        needs_key: whether requests need a key.
    """

    version: str
    dataset: str | None
    items: int
    needs_key: bool


class Status(BaseModel):
    """Whether the service can answer."""

    status: str = Field(examples=["ok"])


class ErrorBody(BaseModel):
    """Why a request was not answered: what is wrong, and what to do about it."""

    error: str = Field(examples=["unknown item 'i99': add it first"])
