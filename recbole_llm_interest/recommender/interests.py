"""Named interests: clusters of similar items, named by the words that are typical of their texts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.cluster.vq import kmeans2
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from torch import Tensor

#: clusters at most, items that are clustered, and random starts of k-means
_MAX_CLUSTERS = 20
_SAMPLED_ITEMS = 5000
_STARTS = 20
#: words of a name
_WORDS = 3
#: a word is typical of a cluster if it is so much more frequent there than overall
_MIN_LIFT = 2.0
#: and if this share of the cluster's texts has it
_MIN_SHARE = 0.08
_TYPICAL_ITEMS = 3


@dataclass(frozen=True)
class Interest:
    """A cluster of similar items and the probability that the next event is of one of them.

    Attributes:
        name: the words that are typical of the cluster's texts; its typical items where there are none.
        weight: the probability of the cluster, by the softmax over the scores of all items.
        items: titles of the items nearest to the cluster's centre.

    Example:
        >>> interests = recommender.interests(recommender.start("u1", history=["i1"]))
        >>> round(sum(interest.weight for interest in interests), 4)
        1.0
    """

    name: str
    weight: float
    items: tuple[str, ...]


class InterestMap:
    """Clusters of items by their representations (spherical k-means), with names.

    The items of the catalog at construction are clustered. A later item belongs to the nearest cluster.

    Attributes:
        names: of the clusters.
        typical: rows of the items nearest to each cluster's centre.

    Args:
        representations: of all items, ``[N, D]``; row 0 is padding.
        tokens: ids of the items by row.
        texts: texts of items, by id.
        labels: titles of items, by id.

    Example:
        >>> len(recommender.interest_map.names)
        3
    """

    def __init__(
        self, representations: Tensor, tokens: Sequence[str], texts: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        unit = F.normalize(representations[1:].float(), dim=-1).cpu()
        count = max(min(_MAX_CLUSTERS, round(len(unit) ** 0.5)), 1)
        sampled = torch.randperm(len(unit), generator=torch.Generator().manual_seed(0))[:_SAMPLED_ITEMS]
        self._centres = _centres(unit[sampled], count)
        self._group = torch.cat([torch.zeros(1, dtype=torch.long), self._nearest(unit)])
        self.typical = self._typical(unit)
        self.names = self._names(tokens, texts, labels)

    def group(self, representations: Tensor) -> Tensor:
        """The cluster of each item, ``[N]``.

        Args:
            representations: of all items, also of those that were added since, ``[N, D]``.
        """
        added = representations[len(self._group) :]
        if len(added):
            nearest = self._nearest(F.normalize(added.float(), dim=-1).cpu())
            self._group = torch.cat([self._group, nearest])
        return self._group

    def interests(self, weights: Tensor, k: int | None, label: Callable[[int], str]) -> list[Interest]:
        """The interests of one user, the heaviest first.

        Args:
            weights: of the clusters, ``[G]``.
            k: number of interests at most; None for all.
            label: the title of the item in a row of the catalog.
        """
        best = weights.topk(min(k or len(weights), len(weights)))
        return [
            Interest(self.names[group], weight, tuple(map(label, self.typical[group])))
            for group, weight in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def _nearest(self, unit: Tensor) -> Tensor:
        return (unit @ self._centres.T).argmax(dim=1)

    def _typical(self, unit: Tensor) -> list[list[int]]:
        typical = []
        for group, centre in enumerate(self._centres):
            rows = (self._group[1:] == group).nonzero().squeeze(1)
            best = (unit[rows] @ centre).topk(min(_TYPICAL_ITEMS, len(rows))).indices
            typical.append((rows[best] + 1).tolist())
        return typical

    def _names(self, tokens: Sequence[str], texts: Mapping[str, str], labels: Mapping[str, str]) -> list[str]:
        """Names of the clusters. A name that occurs twice is told apart by the cluster's typical items."""
        words = [Counter[str]() for _ in self._centres]
        sizes = Counter(self._group[1:].tolist())
        for token, group in zip(tokens[1:], self._group[1:].tolist(), strict=False):
            words[group].update(set(re.findall(r"[^\W\d_]{3,}", texts.get(token, "").lower())))
        overall = sum(words, Counter[str]())
        names: list[str] = []
        for group, of_group in enumerate(words):
            name = ", ".join(_typical_words(of_group, sizes[group], overall, len(tokens) - 1))
            items = ", ".join(labels.get(tokens[row], tokens[row]) for row in self.typical[group])
            names.append(f"{name} ({items})" if name in names else name or items or "no items")
        return names


def _typical_words(words: Counter[str], size: int, overall: Counter[str], count: int) -> list[str]:
    """The words that distinguish a cluster most, by their terms of the divergence between it and all items.

    Args:
        words: number of the cluster's texts that have each word.
        size: number of items of the cluster.
        overall: number of all texts that have each word.
        count: number of all items.
    """
    divergence = {}
    for word, frequency in words.items():
        share = frequency / size
        lift = share * count / overall[word]
        if share >= _MIN_SHARE and lift >= _MIN_LIFT and word not in ENGLISH_STOP_WORDS:
            divergence[word] = share * math.log(lift)
    return sorted(divergence, key=lambda word: (-divergence[word], word))[:_WORDS]


def _centres(unit: Tensor, count: int) -> Tensor:
    """Centres of the clusters, ``[count, D]``: the best of several starts, because one may merge two clusters."""
    values = unit.double().numpy()
    starts = [torch.from_numpy(kmeans2(values, count, minit="++", seed=start)[0]).float() for start in range(_STARTS)]
    normalized = [F.normalize(centres, dim=-1) for centres in starts]
    return max(normalized, key=lambda centres: float((unit @ centres.T).amax(dim=1).sum()))
