"""Names clusters of items by a category, word or phrase that their items carry and other items carry less often.

Terms are ranked by class-based TF-IDF (Grootendorst, 2022, "BERTopic: Neural topic modeling with a class-based TF-IDF
procedure", arXiv:2203.05794), with shares of items in place of counts of words: a term that an item has twice is no
truer of a cluster.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from recbole_llm_interest.recommender.words import carries_term, terms_of_text

#: share of a cluster's items that carry its name, at least, and their number
MIN_SHARE = 1 / 3
_MIN_ITEMS = 2
#: a name is so much more frequent in its cluster than among all items
_MIN_LIFT = 1.5
#: terms of a cluster, the best of a sample, that are counted in all of its items
_CANDIDATES = 10


@dataclass(frozen=True)
class Name:
    """A name of a cluster.

    Attributes:
        text: a category, a word or two words.
        count: number of the cluster's items that carry it.

    Example:
        >>> Name("Sci-Fi", 12).text
        'Sci-Fi'
    """

    text: str
    count: int


class _TermSource(Protocol):
    """Where names come from."""

    def terms(self, item: str) -> Collection[str]:
        """All terms that an item carries, each once."""

    def carries(self, item: str, term: str) -> bool:
        """Whether an item carries a term."""

    def parts(self, term: str) -> Sequence[str]:
        """Terms that have to set a cluster apart, too, for this one to name it."""


@dataclass(frozen=True)
class Categories:
    """The data's own categories.

    Attributes:
        of_item: by the item's id.

    Example:
        >>> Categories({"i1": ("Sci-Fi", "War")}).carries("i1", "War")
        True
    """

    of_item: Mapping[str, Sequence[str]]

    def terms(self, item: str) -> Collection[str]:
        """All categories of an item."""
        return set(self.of_item.get(item, ()))

    def carries(self, item: str, term: str) -> bool:
        """Whether an item is of a category."""
        return term in self.of_item.get(item, ())

    def parts(self, term: str) -> Sequence[str]:
        """None: a category is a whole."""
        return ()


@dataclass(frozen=True)
class Words:
    """The words and phrases of items' texts.

    Attributes:
        texts: by the item's id.
        excluded: words that are no names, as categories in lower case.

    Example:
        >>> sorted(Words({"i1": "title: A Night Train"}).terms("i1"))
        ['night', 'night train', 'train']
    """

    texts: Mapping[str, str]
    excluded: Set[str] = field(default_factory=frozenset)

    def terms(self, item: str) -> Collection[str]:
        """All words and phrases of an item's text."""
        return terms_of_text(self.texts.get(item, "")) - self.excluded

    def carries(self, item: str, term: str) -> bool:
        """Whether an item's text has a word or phrase."""
        return carries_term(self.texts.get(item, ""), term)

    def parts(self, term: str) -> Sequence[str]:
        """The words of a phrase."""
        return term.split()


def name_clusters(
    clusters: Sequence[Sequence[str]],
    sampled: Set[str],
    categories: Mapping[str, Sequence[str]],
    texts: Mapping[str, str],
) -> list[Name | None]:
    """The name of each cluster; None for a cluster that no term names.

    A category has precedence over words. A name is carried by at least a third of the cluster's items, and by two.

    Args:
        clusters: ids of each one's items.
        sampled: ids of the items among whose terms names are sought; each name is counted in all items of its cluster.
        categories: of items, by id.
        texts: of items, by id.

    Example:
        >>> genres = {"i1": ["War"], "i2": ["War", "Sci-Fi"], "i3": ["Comedy"], "i4": ["Comedy"]}
        >>> name_clusters([["i1", "i2"], ["i3", "i4"]], set(genres), genres, {})
        [Name(text='War', count=2), Name(text='Comedy', count=2)]
    """
    category_names = frozenset(name.lower() for names in categories.values() for name in names)
    sources: list[_TermSource] = [Categories(categories), Words(texts, category_names)]
    names: list[Name | None] = [None] * len(clusters)
    for source in sources:
        if all(names):
            break
        ranked = _ranked_terms([[item for item in cluster if item in sampled] for cluster in clusters], source)
        for index, cluster in enumerate(clusters):
            names[index] = names[index] or _first_carried(cluster, ranked[index], source)
    return names


def _ranked_terms(clusters: Sequence[Sequence[str]], source: _TermSource) -> list[list[str]]:
    """The terms that may name each cluster, the best first."""
    counts = [Counter(chain.from_iterable(map(source.terms, cluster))) for cluster in clusters]
    overall = Counter[str]()
    for of_cluster in counts:
        overall.update(of_cluster)
    total = sum(map(len, clusters))
    ranked = []
    for cluster, of_cluster in zip(clusters, counts, strict=True):
        weights = {}
        for term, count in of_cluster.items():
            share, share_of_all = count / len(cluster), overall[term] / total
            if count >= _MIN_ITEMS and share >= MIN_SHARE and share >= _MIN_LIFT * share_of_all:
                weights[term] = share * math.log(1 + 1 / share_of_all)
        ranked.append(_ranked(weights, source)[:_CANDIDATES])
    return ranked


def _ranked(weights: Mapping[str, float], source: _TermSource) -> list[str]:
    """The terms by weight; of equals the longest first, of which others are parts."""
    terms = [term for term in weights if all(part in weights for part in source.parts(term))]
    return sorted(terms, key=lambda term: (-weights[term], -len(term), term))


def _first_carried(cluster: Sequence[str], terms: Sequence[str], source: _TermSource) -> Name | None:
    """The first of the terms that enough of all items of a cluster carry."""
    for term in terms:
        count = sum(source.carries(item, term) for item in cluster)
        if count >= max(_MIN_ITEMS, MIN_SHARE * len(cluster)):
            return Name(term, count)
    return None
