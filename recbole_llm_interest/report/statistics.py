"""The numbers that the report's figures show, computed from a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.recommender import Recommender, UserState
from recbole_llm_interest.recommender.explanation import Explanation

MapMethod = Literal["tsne", "pca", "umap"]

#: items of a map, a random sample of more; with more dots, most are hidden, and t-SNE takes longer than the report
MAX_DOTS = 3000
#: principal components that t-SNE and UMAP start from, as van der Maaten and Hinton (2008) do with 30
_COMPONENTS = 50
#: items or users whose modality weights are computed in one batch
_BATCH_SIZE = 2**14


@dataclass(frozen=True)
class InterestTrajectory:
    """One user's last events, and the interest after each of them.

    Attributes:
        names: of the interests, which are groups of items, ``[G]``.
        shares: of each group's items that carry its name, ``[G]``; None where the name is titles of typical items.
        weights: probability that the next item is of each group, after each event, ``[T, G]``; each line sums to one.
        items: the events' items by token, ``[T]``.
        labels: names of these items for the figure.
        groups: index of the group that each event's item is of, ``[T]``.
        before: number of earlier events.
        times: of the events, in the data set's unit; NaN where unknown.
    """

    names: list[str]
    shares: list[float | None]
    weights: NDArray[np.float64]
    items: list[str]
    labels: list[str]
    groups: list[int]
    before: int
    times: list[float]


def interest_trajectory(recommender: Recommender, user: str, events: int) -> InterestTrajectory:
    """Follow a user's interest through the last recorded events.

    Args:
        recommender: a trained model and its data set.
        user: token of a user of the data set.
        events: how many of the last events.

    Raises:
        RequestError: no event of the user has an item that the model knows.
    """
    recorded = recommender.start(user, history="recorded")
    if not int(recorded.length):
        raise RequestError(f"user {user!r} cannot be shown: no event has an item that the model knows")
    return trajectory_of(recommender, recorded, events)


def trajectory_of(recommender: Recommender, state: UserState, events: int) -> InterestTrajectory:
    """Follow the interest of one user through the last events of a state.

    Args:
        recommender: that made the state.
        state: of one user with events.
        events: how many of the last events.
    """
    before = max(int(state.length) - events, 0)
    item_ids = state.items[0, before:].tolist()
    groups = recommender.interest_map
    names = groups.names
    weights = np.zeros((len(item_ids), len(names)))
    states = islice(recommender.replay(state, events), 1, None)
    for step, past in enumerate(tqdm(states, "interest", len(item_ids), unit="event", leave=False)):
        for interest in recommender.interests(past):
            weights[step, names.index(interest.name)] += interest.weight
    of_items = groups.group(recommender.items.representations)[item_ids].tolist()
    items = [recommender.items.tokens[item_id] for item_id in item_ids]
    labels = list(map(recommender.label, items))
    times = state.times[0, before:].tolist()
    return InterestTrajectory(names, groups.shares, weights, items, labels, of_items, before, times)


@dataclass(frozen=True)
class Suggestion:
    """An item that a user would be recommended now, and why.

    Attributes:
        title: of the item.
        score: by the model.
        rank: among all items.
        unseen_rank: among the items that the user has no event of; None for an item with one.
        parts: the explanation's parts of the score by name, such as ``text``, in points.
        reasons: the user's profile and events by title, in points of the score, the most influential first.
        is_exact: whether the parts sum to the score.
    """

    title: str
    score: float
    rank: int
    unseen_rank: int | None
    parts: dict[str, float]
    reasons: list[tuple[str, float]]
    is_exact: bool


def suggestions(recommender: Recommender, user: str, count: int) -> list[Suggestion]:
    """The items that a user would be recommended after all recorded events: of all items, and of those not seen.

    Args:
        recommender: a trained model and its data set.
        user: token of a user of the data set.
        count: of the best items of each kind; fewer in a small catalog.
    """
    state = recommender.start(user, history="recorded")
    tokens = recommender.items.tokens
    seen = {tokens[row] for row in state.items[0].tolist()}
    ordered = recommender.recommend(state, min(len(recommender.items), count + len(seen)), exact=True)
    ranks = {pair.item: rank for rank, pair in enumerate(ordered, start=1)}
    unseen = {item: rank for rank, item in enumerate((item for item in ranks if item not in seen), start=1)}
    shown = [pair for pair in ordered if ranks[pair.item] <= count or unseen.get(pair.item, count + 1) <= count]
    return [
        _suggestion(recommender, recommender.explain(state, best.item), ranks[best.item], unseen.get(best.item))
        for best in shown
    ]


def _suggestion(recommender: Recommender, explanation: Explanation, rank: int, unseen_rank: int | None) -> Suggestion:
    return Suggestion(
        recommender.label(explanation.item),
        explanation.score,
        rank,
        unseen_rank,
        {part.name: part.points for part in explanation.of_item},
        [(part.title or part.name, part.points) for part in explanation.of_user],
        explanation.is_exact,
    )


@dataclass(frozen=True)
class ModalityWeight:
    """Weight of one modality in the representations of all items, or of all users.

    Attributes:
        name: of the modality; ``id`` for the learned ID.
        mean: over the items or users that have this modality.
        low: the 10th percentile over these.
        high: the 90th percentile.
        present: number of items or users that have it.
        total: number of items or users.
    """

    name: str
    mean: float
    low: float
    high: float
    present: int
    total: int


@torch.no_grad()
def modality_weights(encoder: EntityEncoder) -> list[ModalityWeight]:
    """Weights of the modalities that any item, or any user, has; see ``EntityEncoder.weights``.

    Args:
        encoder: of items or of users, in a trained model.
    """
    present = encoder.get_buffer("present")[1:].cpu()  # [N, M], without the padding
    ids = torch.arange(1, len(present) + 1, device=encoder.get_buffer("present").device)
    weights = torch.cat([encoder.weights(batch).double().cpu() for batch in torch.split(ids, _BATCH_SIZE)])
    statistics = []
    for column, name in enumerate(encoder.modalities):
        own = weights[present[:, column], column].numpy()
        if len(own):
            low, high = np.quantile(own, [0.1, 0.9]).tolist()
            statistics.append(ModalityWeight(name, float(own.mean()), low, high, len(own), len(present)))
    return statistics


@dataclass(frozen=True)
class ItemMap:
    """Items on a plane; near each other where the model's representations are similar.

    Attributes:
        coordinates: of the items that are drawn, ``[n, 2]``.
        categories: of these items, ``[n]``.
        path: indices into them of one user's last events, in order.
        labels: names of the path's items.
        axes: names of the two axes.
        total: number of items; if it is greater than ``n``, those drawn are a random sample.
    """

    coordinates: NDArray[np.float64]
    categories: list[str]
    path: list[int]
    labels: list[str]
    axes: tuple[str, str]
    total: int


def item_map(
    recommender: Recommender, categories: Mapping[str, Sequence[str]] | None, path: Sequence[str], layout: MapMethod
) -> ItemMap:
    """Project the items' factors, by which they are scored, onto a plane.

    The longest factor is scaled to unit length; for cosine scores, all of them are.

    Args:
        recommender: a trained model and its items.
        categories: of each item by token, of which the first counts; None for the interests that the items are of.
        path: tokens of one user's items in order; the sample of items always contains them.
        layout: ``tsne`` (scikit-learn's), ``umap`` (umap-learn's), or ``pca``. The first two have 50 principal
            components as input, and start from the first two of them.
    """
    tokens = recommender.items.tokens[1:]
    index_of = {token: index for index, token in enumerate(tokens)}
    drawn = _sample(len(tokens), [index_of[token] for token in path])
    factors = recommender.items.factors(torch.arange(1, len(tokens) + 1)).double().cpu().numpy()
    factors = factors / max(np.linalg.norm(factors, axis=1).max(), np.finfo(float).tiny)
    coordinates, axes = _layout(factors, drawn, layout)
    of_item = _interests_of(recommender) if categories is None else _first_categories(tokens, categories)
    place = {int(index): number for number, index in enumerate(drawn)}
    return ItemMap(
        coordinates,
        [of_item[index] for index in drawn],
        [place[index_of[token]] for token in path],
        [recommender.label(token) for token in path],
        axes,
        len(tokens),
    )


def _sample(count: int, required: Sequence[int]) -> NDArray[np.int64]:
    """Ascending indices below ``count``: all, or a random sample with the required ones."""
    if count <= MAX_DOTS:
        return np.arange(count)
    drawn = np.random.default_rng(0).choice(count, MAX_DOTS, replace=False)
    return np.union1d(drawn, np.array(required, dtype=int))


def _layout(
    factors: NDArray[np.float64], drawn: NDArray[np.int64], layout: MapMethod
) -> tuple[NDArray[np.float64], tuple[str, str]]:
    """Coordinates ``[n, 2]`` of those drawn among ``factors``, ``[N, D]``, and names of the axes if they have any."""
    if layout != "pca":
        return project(factors[drawn], layout), ("", "")
    coordinates, shares = principal_components(factors)
    first, second = (f"principal component {n} ({share:.0%} of variance)" for n, share in enumerate(shares, start=1))
    return coordinates[drawn], (first, second)


def project(values: NDArray[np.float64], layout: Literal["tsne", "umap"]) -> NDArray[np.float64]:
    """Project ``values``, ``[N, D]``, onto a plane, ``[N, 2]``, by their first 50 principal components."""
    components, _ = principal_components(values, _COMPONENTS)
    return _tsne(components) if layout == "tsne" else _umap(components)


def _interests_of(recommender: Recommender) -> list[str]:
    """The name of the interest that each item is of, without the padding."""
    groups = recommender.interest_map.group(recommender.items.representations)[1:]
    return [recommender.interest_map.names[group] for group in groups.tolist()]


def _first_categories(tokens: Sequence[str], categories: Mapping[str, Sequence[str]]) -> list[str]:
    return [categories[token][0] if categories.get(token) else "unknown" for token in tokens]


def principal_components(values: NDArray[np.float64], count: int = 2) -> tuple[NDArray[np.float64], list[float]]:
    """The first principal components of ``values``, ``[N, D]``.

    The sign of each component is such that its largest loading is positive, so that equal values give equal maps.

    Args:
        values: with at least one row.
        count: of the components; those beyond D are zero.

    Returns:
        Coordinates, ``[N, count]``, and each component's share of the variance.
    """
    centred = values - values.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred)
    first = np.flip(directions, axis=1)[:, :count]
    first = first * np.sign(first[np.abs(first).argmax(axis=0), np.arange(first.shape[1])])
    coordinates = np.zeros((len(values), count))
    coordinates[:, : first.shape[1]] = centred @ first
    shares = np.flip(variances)[:count] / max(variances.sum(), np.finfo(float).tiny)
    return coordinates, [*shares.clip(min=0).tolist(), *[0.0] * count][:count]


def _tsne(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """t-SNE (van der Maaten and Hinton, 2008) of principal components, ``[N, D]``, as ``[N, 2]``."""
    from sklearn.manifold import TSNE

    start = components[:, :2] / max(components[:, 0].std(), np.finfo(float).tiny) * 1e-4  # as scikit-learn's own start
    perplexity = min(30.0, max((len(components) - 1) / 3, 1.0))
    model = TSNE(perplexity=perplexity, init=start, random_state=0)
    coordinates: NDArray[np.float64] = model.fit_transform(components)
    return coordinates.astype(np.float64)


def _umap(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """UMAP (McInnes et al., 2018) of principal components, ``[N, D]``, as ``[N, 2]``."""
    from umap import UMAP

    neighbours = max(min(15, len(components) - 1), 2)
    model = UMAP(n_neighbors=neighbours, init=components[:, :2].astype(np.float32), random_state=0)
    return np.asarray(model.fit_transform(components), dtype=np.float64)
