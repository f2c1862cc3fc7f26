"""What the report's figures show, as plain numbers and words: read from a trained model, drawn elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.model.item_encoder import ContentFusion
from recbole_llm_interest.recommender import Recommender

MapMethod = Literal["pca", "tsne"]

#: items of a map at most: more dots hide each other
_DOTS = 3000
#: rows whose weights are looked at together
_ROWS = 2**14


@dataclass(frozen=True)
class Journey:
    """One user's last events, and the interest after each of them.

    Attributes:
        names: of the interests.
        weights: of each interest after each event, ``[T, G]``; a row sums to one.
        items: the events' items, by token.
        labels: what they are called.
        group: which interest each event's item is of, ``[T]``.
        before: events that came before these.
        times: when they were, in the data set's unit; NaN where that is not known.
    """

    names: list[str]
    weights: NDArray[np.float64]
    items: list[str]
    labels: list[str]
    group: list[int]
    before: int
    times: list[float]


def journey(recommender: Recommender, user: str, events: int) -> Journey:
    """A user's interest after each of the last ``events`` recorded events.

    Raises:
        RequestError: none of the user's events is of an item that the model knows.
    """
    whole = recommender.start(user, history="recorded")
    rows, times = whole.items[0].tolist(), whole.times[0].tolist()
    if not rows:
        raise RequestError(f"there is nothing to show of {user!r}: no event is of an item that the model knows")
    before = max(len(rows) - events, 0)
    items = [recommender.items.tokens[row] for row in rows]
    at = [time if time == time else None for time in times]
    state = recommender.start(user, history=items[:before], at=at[:before])
    names = recommender.interest_map.names
    weights = np.zeros((len(rows) - before, len(names)))
    for place in tqdm(range(len(weights)), desc="interest", unit="event", leave=False):
        item, time = items[before + place], at[before + place]
        state = recommender.update(state, item, time)
        for interest in recommender.interests(state):
            weights[place, names.index(interest.name)] += interest.weight
    group = recommender.interest_map.group(recommender.items.representations)[rows[before:]].tolist()
    shown = items[before:]
    return Journey(names, weights, shown, list(map(recommender.label, shown)), group, before, times[before:])


@dataclass(frozen=True)
class ModalityWeight:
    """How much one modality has to say in the representations of all items, or of all users.

    Attributes:
        name: of the modality; ``id`` for the learnt ID.
        mean: over the rows that have this modality.
        low: the tenth percentile over these.
        high: the ninetieth.
        present: how many rows have it.
        rows: how many there are.
    """

    name: str
    mean: float
    low: float
    high: float
    present: int
    rows: int


@torch.no_grad()
def modality_weights(fusion: ContentFusion) -> list[ModalityWeight]:
    """What each modality that any row has counts in a model's items or users; see ``ContentFusion.weights``."""
    present = fusion.get_buffer("present")[1:].cpu()  # without the padding
    rows = torch.arange(1, len(present) + 1, device=fusion.get_buffer("present").device)
    weights = torch.cat([fusion.weights(part).double().cpu() for part in torch.split(rows, _ROWS)])
    found = []
    for column, name in enumerate(fusion.modalities):
        own = weights[present[:, column], column].numpy()
        if len(own):
            low, high = np.quantile(own, [0.1, 0.9]).tolist()
            found.append(ModalityWeight(name, float(own.mean()), low, high, len(own), len(present)))
    return found


@dataclass(frozen=True)
class ItemMap:
    """Items on a plane, those near each other that the model takes for alike.

    Attributes:
        coordinates: ``[n, 2]``.
        categories: what each of the items is, ``[n]``.
        path: places among them of one user's last events, in order.
        labels: what those are called.
        axes: what the two axes are.
        items: how many there are in all; if that is more than ``n``, these are drawn at random from them.
    """

    coordinates: NDArray[np.float64]
    categories: list[str]
    path: list[int]
    labels: list[str]
    axes: tuple[str, str]
    items: int


def item_map(
    recommender: Recommender, categories: Mapping[str, Sequence[str]] | None, path: Sequence[str], layout: MapMethod
) -> ItemMap:
    """Lay the items out by their representations at unit length, which is how cosine scores see them.

    Args:
        recommender: knows the items.
        categories: of each item, of which the first counts; None for the interests that they are of.
        path: items that a user chose, in order; they are on the map in any case.
        layout: ``pca``, or ``tsne`` (scikit-learn's, from the principal components on).
    """
    items = recommender.items
    tokens = items.tokens[1:]
    factors = items.factors(torch.arange(1, len(tokens) + 1)).double().cpu().numpy()
    chosen = np.arange(len(tokens))
    row_of = {token: row for row, token in enumerate(tokens)}
    if len(tokens) > _DOTS:
        drawn = np.random.default_rng(0).choice(len(tokens), _DOTS, replace=False)
        chosen = np.union1d(drawn, np.array([row_of[token] for token in path], dtype=int))
    if layout == "pca":
        coordinates, shares = principal_components(factors)
        coordinates = coordinates[chosen]
        axes = tuple(f"principal component {place + 1} ({share:.0%} of variance)" for place, share in enumerate(shares))
    else:
        coordinates, axes = _tsne(factors[chosen]), ("t-SNE 1", "t-SNE 2")
    if categories is None:
        groups = recommender.interest_map
        of_item = [groups.names[group] for group in groups.group(items.representations)[1:].tolist()]
    else:
        of_item = [categories[token][0] if categories.get(token) else "unknown" for token in tokens]
    place = {int(row): number for number, row in enumerate(chosen)}
    return ItemMap(
        coordinates,
        [of_item[row] for row in chosen],
        [place[row_of[token]] for token in path],
        [recommender.label(token) for token in path],
        (axes[0], axes[1]),
        len(tokens),
    )


def principal_components(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[float]]:
    """The first two principal components of rows ``[N, D]``, ``[N, 2]``, and their shares of the variance.

    Each component points to where its largest loading is positive, so that the same rows give the same map.
    """
    centred = values - values.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred)
    first = np.flip(directions, axis=1)[:, :2]
    first = first * np.sign(first[np.abs(first).argmax(axis=0), np.arange(first.shape[1])])
    coordinates = np.zeros((len(values), 2))
    coordinates[:, : first.shape[1]] = centred @ first
    shares = np.flip(variances)[:2] / max(variances.sum(), np.finfo(float).tiny)
    return coordinates, [*shares.clip(min=0).tolist(), 0.0][:2]


def _tsne(values: NDArray[np.float64]) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE

    start, _ = principal_components(values)
    start = start / max(start[:, 0].std(), np.finfo(float).tiny) * 1e-4  # the scale that scikit-learn starts with
    perplexity = min(30.0, max((len(values) - 1) / 3, 1.0))
    laid_out: NDArray[np.float64] = TSNE(perplexity=perplexity, init=start, random_state=0).fit_transform(values)
    return laid_out.astype(np.float64)
