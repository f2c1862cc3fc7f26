"""The course of an interest: the likeliest next event, the one after that, and so on; and the distribution of each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.recommender.interests import InterestMap
from recbole_llm_interest.recommender.retrieval import Retrieval
from recbole_llm_interest.recommender.state_updates import StateUpdates
from recbole_llm_interest.recommender.user_state import UserState


@dataclass(frozen=True)
class Forecast:
    """The likeliest event at one step of a forecast.

    Attributes:
        item: id of the likeliest next item.
        probability: of that item, by the softmax over the scores of all items.
        state: of the user after that event.

    Example:
        >>> first, second = recommender.forecast(recommender.start("u1", history=["i1"]), steps=2)
        >>> first.state
        UserState(user='u1', events=2)
    """

    item: str
    probability: float
    state: UserState


@torch.no_grad()
def forecast_interests(
    retrieval: Retrieval, updates: StateUpdates, state: UserState, groups: InterestMap, steps: int, samples: int
) -> Tensor:
    """The probability that each of the next events is of each group, ``[B, steps, G]``.

    The first step is exact, a later one the mean over continuations whose events are drawn by their probability. Their
    times are unknown. The same call gives the same numbers.

    Args:
        retrieval: scores items.
        updates: moves the states on.
        state: to start from.
        groups: of items.
        steps: number of events ahead.
        samples: continuations of each user.

    Raises:
        RequestError: ``steps`` or ``samples`` is less than one.
    """
    if steps < 1 or samples < 1:
        raise RequestError(f"steps={steps}, samples={samples}: ask for one or more")
    random = torch.Generator().manual_seed(0)
    found = [retrieval.group_weights(state, groups)]
    paths = state.select(torch.arange(len(state)).repeat_interleave(samples))
    for _ in range(steps - 1):
        paths = updates.update(paths, retrieval.draw(paths, random), [None] * len(paths))
        found.append(retrieval.group_weights(paths, groups).view(len(state), samples, -1).mean(dim=1))
    return torch.stack(found, dim=1)


@torch.no_grad()
def forecast(
    retrieval: Retrieval, updates: StateUpdates, state: UserState, steps: int, every: float | None
) -> list[list[Forecast]]:
    """The steps of each user's forecast: each takes the likeliest item of the step before for the next event.

    Args:
        retrieval: finds the likeliest items.
        updates: moves the states on.
        state: to start from.
        steps: number of events ahead.
        every: time between events, in the data set's unit; None where times are unknown.

    Raises:
        RequestError: ``steps`` is less than one.
    """
    if steps < 1:
        raise RequestError(f"steps={steps}: ask for one step or more")
    found: list[list[Forecast]] = [[] for _ in range(len(state))]
    for _ in range(steps):
        likeliest = retrieval.likeliest(state)
        latest = state.latest.tolist()
        times = [None if every is None or not math.isfinite(time) else time + every for time in latest]
        state = updates.update(state, [item for item, _ in likeliest], times)
        for user, (item, probability) in enumerate(likeliest):
            found[user].append(Forecast(item, probability, state[user]))
    return found
