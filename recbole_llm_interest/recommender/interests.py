"""Named interests: groups of similar items, named by what their items have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import torch
import torch.nn.functional as F
from scipy.cluster.vq import kmeans2
from torch import Tensor

from recbole_llm_interest.recommender.catalog import Catalog
from recbole_llm_interest.recommender.interest_names import Name, name_clusters

#: clusters at most: many small ones have truer names than few large ones, and those of one name become one group
_MAX_CLUSTERS = 40
#: length of an item's categories beside its representation, which has length 1; and the categories that count, by
#: frequency. Without categories (0), the names on ml-100k and ml-latest-small were true of 57 to 68 % of the items.
_CATEGORY_WEIGHT = 0.7
_MAX_CATEGORIES = 64
#: items that are clustered, and random starts of k-means
_SAMPLED_ITEMS = 5000
_STARTS = 8
_TYPICAL_ITEMS = 3
#: share of a group's items that carry an attribute beside its name, and how much more often than all items
_COMMON, _COMMON_LIFT = 0.8, 1.5
#: of each title in a name
_MAX_CHARACTERS = 40


@dataclass(frozen=True, repr=False)
class Interest:
    """A group of similar items and the probability that the next event is of one of them.

    Attributes:
        name: a category, word or phrase that at least a third of the group's items carry, and that other items carry
            less often; titles of typical items where there is none.
        weight: the probability of the group, by the softmax over the scores of all items.
        items: titles of the items nearest to the group's centre.
        share: of the group's items that carry the name; None where the name is titles.
        attributes: the name, and a category that four in five of the group's items carry, and other items less often;
            empty where the name is titles.

    Example:
        >>> interests = recommender.interests(recommender.start("u1", history=["i1"]))
        >>> round(sum(interest.weight for interest in interests), 4)
        1.0
        >>> Interest("Sci-Fi", 0.3125, ("Alien", "Solaris"), share=0.94)
        Interest('Sci-Fi', weight=0.312, share=0.94)
    """

    name: str
    weight: float
    items: tuple[str, ...]
    share: float | None = None
    attributes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        share = "" if self.share is None else f", share={self.share:.2f}"
        return f"Interest({self.name!r}, weight={self.weight:.3f}{share})"


class InterestMap:
    """Groups of similar items, with names.

    The items of the catalog at construction are clustered (spherical k-means) by their representations, and by their
    categories where the data have any. Clusters of one name are one group. A later item belongs to the group of the
    cluster that is nearest by representation.

    Attributes:
        names: of the groups, each another.
        shares: of each group's items, those that carry its name; None where the name is titles.
        attributes: of each group, see ``Interest``.
        sizes: number of each group's items.
        typical: rows of the items nearest to each group's centre.

    Args:
        items: the catalog. Names are of its categories and texts, or else titles.

    Example:
        >>> len(recommender.interest_map.names)
        3
    """

    def __init__(self, items: Catalog) -> None:
        unit = F.normalize(items.representations[1:].float(), dim=-1).cpu()
        described = torch.cat([unit, _CATEGORY_WEIGHT * F.normalize(_categories(items), dim=-1)], dim=1)
        sampled = torch.randperm(len(unit), generator=torch.Generator().manual_seed(0))[:_SAMPLED_ITEMS]
        centres = _centres(described[sampled], max(min(_MAX_CLUSTERS, round(len(unit) ** 0.5)), 1))
        centres = centres[torch.unique(_nearest(described, centres))]  # those that have items
        cluster = _nearest(described, centres)
        self._centres = F.normalize(centres[:, : unit.shape[1]], dim=-1)
        names = _names(items, cluster, sampled)
        titles = [_titles(items, rows) for rows in _typical_rows(unit, cluster)]
        of_cluster = [name.text if name else title for name, title in zip(names, titles, strict=True)]
        self.names = list(dict.fromkeys(of_cluster))
        self._group_of_cluster = torch.tensor([self.names.index(name) for name in of_cluster])
        group = self._group_of_cluster[cluster]
        self._group = torch.cat([torch.zeros(1, dtype=torch.long), group])
        self.sizes: list[int] = group.bincount().tolist()
        self.shares = _shares(self.names, names, self.sizes)
        self.typical = _typical_rows(unit, group)
        self.attributes = _attributes(items, group, self.names, self.shares)

    def group(self, representations: Tensor) -> Tensor:
        """The group of each item, ``[N]``.

        Args:
            representations: of all items, also of those that were added since, ``[N, D]``.
        """
        added = representations[len(self._group) :]
        if len(added):
            nearest = _nearest(F.normalize(added.float(), dim=-1).cpu(), self._centres)
            self._group = torch.cat([self._group, self._group_of_cluster[nearest]])
        return self._group

    def interests(self, weights: Tensor, k: int | None, label: Callable[[int], str]) -> list[Interest]:
        """The interests of one user, the heaviest first.

        Args:
            weights: of the groups, ``[G]``.
            k: number of interests at most; None for all.
            label: the title of the item in a row of the catalog.
        """
        best = weights.topk(min(k or len(weights), len(weights)))
        return [
            Interest(
                self.names[group],
                weight,
                tuple(map(label, self.typical[group])),
                self.shares[group],
                self.attributes[group],
            )
            for group, weight in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]


def _categories(items: Catalog) -> Tensor:
    """Whether each item is of each of the most frequent categories, as 0 and 1, ``[N, C]``; without the padding."""
    of_items = [items.categories.get(token, ()) for token in items.tokens[1:]]
    frequent = Counter(category for categories in of_items for category in categories).most_common(_MAX_CATEGORIES)
    column_of = {category: column for column, (category, _) in enumerate(frequent)}
    is_of = torch.zeros(len(of_items), len(column_of))
    for row, categories in enumerate(of_items):
        is_of[row, [column_of[category] for category in categories if category in column_of]] = 1
    return is_of


def _centres(values: Tensor, count: int) -> Tensor:
    """Centres of the clusters, ``[count, D]``: the best of several starts, because one may merge two clusters."""
    array = values.double().numpy()
    starts = [torch.from_numpy(kmeans2(array, count, minit="++", seed=start)[0]).float() for start in range(_STARTS)]
    normalized = [F.normalize(centres, dim=-1) for centres in starts]
    return max(normalized, key=lambda centres: float((values @ centres.T).amax(dim=1).sum()))


def _nearest(values: Tensor, centres: Tensor) -> Tensor:
    """The cluster of each item, ``[N, D], [C, D] -> [N]``."""
    return (values @ centres.T).argmax(dim=1)


def _typical_rows(unit: Tensor, group: Tensor) -> list[list[int]]:
    """Rows in the catalog of the items nearest to each group's centre; ``unit`` ``[N, D]``, ``group`` ``[N]``."""
    typical = []
    for number in range(int(group.max()) + 1):
        rows = (group == number).nonzero().squeeze(1)
        centre = unit[rows].mean(dim=0)
        best = (unit[rows] @ centre).topk(min(_TYPICAL_ITEMS, len(rows))).indices
        typical.append((rows[best] + 1).tolist())
    return typical


def _names(items: Catalog, cluster: Tensor, sampled: Tensor) -> list[Name | None]:
    """The name of each cluster; ``cluster`` ``[N]`` and ``sampled`` ``[n]`` count items without the padding."""
    clusters: list[list[str]] = [[] for _ in range(int(cluster.max()) + 1)]
    for row, number in enumerate(cluster.tolist(), start=1):
        clusters[number].append(items.tokens[row])
    return name_clusters(clusters, {items.tokens[row + 1] for row in sampled.tolist()}, items.categories, items.texts)


def _attributes(items: Catalog, group: Tensor, names: list[str], shares: list[float | None]) -> list[tuple[str, ...]]:
    """The attributes of each group; ``group`` ``[N]`` counts items without the padding."""
    of_items = [set(items.categories.get(token, ())) for token in items.tokens[1:]]
    overall = Counter(chain.from_iterable(of_items))
    counts = [Counter[str]() for _ in names]
    for categories, number in zip(of_items, group.tolist(), strict=True):
        counts[number].update(categories)
    usual = {category: count / len(of_items) for category, count in overall.items()}
    sizes = group.bincount().tolist()
    return [
        () if share is None else (name, *_common(name, share, size, of_group, usual))
        for name, share, size, of_group in zip(names, shares, sizes, counts, strict=True)
    ]


def _common(name: str, share: float, size: int, counts: Counter[str], usual: dict[str, float]) -> list[str]:
    """The category beside its name that most of a group's items carry; none if its name is true of too few.

    Args:
        name: of the group.
        share: of its items that carry the name.
        size: number of its items.
        counts: of its items, by category.
        usual: share of all items, by category.
    """
    if share < _COMMON:
        return []
    rest = [category for category, _ in counts.most_common() if category != name]
    return [one for one in rest if counts[one] / size >= max(_COMMON, _COMMON_LIFT * usual[one])][:1]


def _titles(items: Catalog, rows: list[int]) -> str:
    """Titles of items, cut where they are long; ids, which ``forget`` searches for, stay whole."""
    tokens = [items.tokens[row] for row in rows]
    return " / ".join(dict.fromkeys(_cut(items.labels[one]) if one in items.labels else one for one in tokens))


def _cut(title: str) -> str:
    return title if len(title) <= _MAX_CHARACTERS else f"{title[: _MAX_CHARACTERS - 1].rstrip()}…"


def _shares(groups: list[str], names: list[Name | None], sizes: list[int]) -> list[float | None]:
    """The share of each group's items that carry its name; ``names`` are of the clusters."""
    counts = Counter[str]()
    for name in filter(None, names):
        counts[name.text] += name.count
    return [counts[group] / size if group in counts else None for group, size in zip(groups, sizes, strict=True)]
