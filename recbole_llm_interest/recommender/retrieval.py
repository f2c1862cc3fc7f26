"""The best items for states: from all candidates or some, exactly or with an index, diverse or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.recommender.catalog_updates import CatalogUpdates
from recbole_llm_interest.recommender.diversity import select_diverse
from recbole_llm_interest.recommender.inputs import Ids, read_ids
from recbole_llm_interest.recommender.interests import Interest, InterestMap
from recbole_llm_interest.recommender.live_model import LiveModel
from recbole_llm_interest.recommender.recommendations import Recommendation, Recommendations
from recbole_llm_interest.recommender.search import ApproximateIndex, Query, exact_best, score_block
from recbole_llm_interest.recommender.user_state import UserState

#: how many times k items are searched first where the recommendations must differ; then as many times that number
_DIVERSE_FACTOR = 10


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        k: number of items.
        candidates: ids, a pool's name, or None for all.
        exclude: ids of items that may not be recommended.
        exclude_seen: whether the items of the history may not be recommended.
        min_diversity: the least 1 - cosine between any two recommended items; 0 for no bound.
        exact: whether all items are scored even if there is an index.
        allow_fewer: whether users of whom exclusions leave fewer than ``k`` items get these.

    Example:
        >>> Request(k=10, candidates="ads").exclude_seen
        False
    """

    k: int
    candidates: str | Ids | None = None
    exclude: Ids = ()
    exclude_seen: bool = False
    min_diversity: float = 0.0
    exact: bool = False
    allow_fewer: bool = False


class Retrieval:
    """Finds the best items for states. Callers turn gradients off.

    Args:
        live: the model over the catalog.
        updates: pools and the index.

    Example:
        >>> with torch.no_grad():
        ...     (best,) = recommender._retrieval.recommend(state, Request(k=2))
        >>> len(best)
        2
    """

    def __init__(self, live: LiveModel, updates: CatalogUpdates) -> None:
        self._live = live
        self._items = live.items
        self._updates = updates

    def query(
        self,
        state: UserState,
        exclude: Ids = (),
        exclude_seen: bool = False,
        with_pool_only: bool = False,
    ) -> Query:
        """The query of a state, whose scores are the model's.

        Args:
            state: of ``B`` users.
            exclude: ids of items that are excluded for all users.
            exclude_seen: whether the items of each history are excluded.
            with_pool_only: whether items that are in pools alone are not excluded.

        Raises:
            RequestError: an excluded item is unknown.
        """
        events = state.events
        excluded = [self._items.removed, self._items.find(read_ids(exclude, "exclude"))]
        if not with_pool_only:
            excluded.append(self._updates.pool_only)
        of_users = torch.cat(excluded).expand(len(state), -1)
        if exclude_seen:
            of_users = torch.cat([of_users, events.items], dim=1)
        return self._live.query(state.interest, events, state.length, of_users)

    def check_count(self, k: int) -> None:
        """Check that there are ``k`` items.

        Raises:
            RequestError: there are fewer.
        """
        _check_count(k, self._updates.count())

    def best(self, state: UserState, k: int, exclude_seen: bool) -> tuple[Tensor, Tensor]:
        """Scores and rows of each user's best items of all, best first, ``[B, k]`` each, without an index.

        Args:
            state: of ``B`` users.
            k: number of items.
            exclude_seen: whether the items of each history are excluded; scores are -inf where too few are left.
        """
        return exact_best(self.query(state, exclude_seen=exclude_seen), self._items.blocks(), k)

    def recommend(self, state: UserState, request: Request) -> list[Recommendations]:
        """The best items for each user, the best first.

        Raises:
            RequestError: an item or pool is unknown, or there are fewer than ``k`` candidates, which may be due to
                exclusions unless fewer are allowed.
        """
        k, min_diversity = request.k, request.min_diversity
        candidates = self._updates.candidates(request.candidates)
        available = self._updates.count() if candidates is None else len(candidates)
        _check_count(k, available)
        query = self.query(state, request.exclude, request.exclude_seen, with_pool_only=candidates is not None)
        found = self._select_best(query, request, candidates, available)
        fewest = min(map(len, found))
        if fewest < k and not request.allow_fewer:
            limits = f"exclusions and min_diversity={min_diversity:g}" if min_diversity else "exclusions"
            raise RequestError(f"k={k}, and only {fewest} candidates are left after {limits}: ask for fewer items")
        return found

    def _select_best(
        self, query: Query, request: Request, candidates: Tensor | None, available: int
    ) -> list[Recommendations]:
        """Up to ``k`` items for each user: fewer only where exclusions and diversity leave no more."""
        k, min_diversity = request.k, request.min_diversity
        searched = min(_DIVERSE_FACTOR * k, available) if min_diversity else k
        while True:
            best = self._search(query, searched, candidates, request.exact)
            found = [self._select(*user, k, min_diversity) for user in zip(*best, strict=True)]
            if min(map(len, found)) == k or searched == available or not min_diversity:
                return found
            searched = min(_DIVERSE_FACTOR * searched, available)

    def _search(self, query: Query, k: int, candidates: Tensor | None, exact: bool) -> tuple[Tensor, Tensor]:
        """Scores and rows of the best items, ``[B, k]`` each."""
        if candidates is not None:
            return exact_best(query, self._items.blocks_of(candidates), k)
        if self._updates.index is not None and not exact:
            return self._updates.index.best(query, k)
        return exact_best(query, self._items.blocks(), k)

    def _select(self, scores: Tensor, rows: Tensor, k: int, min_diversity: float) -> Recommendations:
        """The first ``k`` items of ``[n]`` that are not excluded and differ enough; there may be fewer."""
        is_left = scores > -torch.inf
        scores, rows = scores[is_left], rows[is_left]
        if min_diversity:
            selected = select_diverse(self._items.representations[rows], k, min_diversity)
            scores, rows = scores[selected], rows[selected]
        tokens = self._items.tokens
        best = zip(rows[:k].tolist(), scores[:k].tolist(), strict=True)
        return Recommendations((Recommendation(tokens[row], score) for row, score in best), self._items.labels)

    def scores(self, state: UserState, items: list[str]) -> list[float]:
        """The score of one item for each user, whether it is a candidate or not.

        Raises:
            RequestError: an item is unknown.
        """
        query = self.query(state, with_pool_only=True)
        scores: list[float] = self._live.paired_scores(query, self._items.find(items)).tolist()
        return scores

    def interests(self, state: UserState, groups: InterestMap, k: int | None) -> list[list[Interest]]:
        """The ``k`` heaviest interests of each user, by the softmax over the scores of all candidates."""
        return [self.named(user, groups, k) for user in self.group_weights(state, groups)]

    def named(self, weights: Tensor, groups: InterestMap, k: int | None) -> list[Interest]:
        """The ``k`` heaviest interests of one user by the weights of the groups, ``[G]``."""
        titles, tokens = self._items.labels, self._items.tokens
        return groups.interests(weights, k, lambda row: titles.get(tokens[row], tokens[row]))

    def group_weights(self, state: UserState, groups: InterestMap) -> Tensor:
        """The probability that the next event is of each group, ``[B, G]``."""
        group = groups.group(self._items.representations).to(self._live.device)
        parts = [
            probability.new_zeros(len(probability), len(groups.names)).index_add_(1, group, probability)
            for probability in self._probabilities(state)
        ]
        return torch.cat(parts)

    def draw(self, state: UserState, random: torch.Generator) -> list[str]:
        """An item of each user, drawn by the softmax over the scores of all candidates."""
        rows = [probability.cpu().multinomial(1, generator=random) for probability in self._probabilities(state)]
        return [self._items.tokens[row] for row in torch.cat(rows)[:, 0].tolist()]

    def _probabilities(self, state: UserState) -> Iterator[Tensor]:
        """The softmax over the scores of all items, ``[b, N]`` for some users at a time."""
        for part in self.query(state).in_parts():
            yield torch.cat([score_block(part, block) for block in self._items.blocks()], dim=1).softmax(dim=1)

    def likeliest(self, state: UserState) -> list[tuple[str, float]]:
        """The likeliest next item of each user, and its probability by the softmax over all candidates."""
        query = self.query(state)
        scores, rows = exact_best(query, self._items.blocks(), 1)
        probability = (scores[:, 0] - self._live.log_of_sum(query)).exp().tolist()
        return [(self._items.tokens[row], one) for row, one in zip(rows[:, 0].tolist(), probability, strict=True)]

    def build_index(self, state: UserState, recall: float, k: int) -> float:
        """Build the index, read as few of its lists as reach a recall for these users, and return that recall.

        Raises:
            RequestError: faiss is not installed.
        """
        index = ApproximateIndex(self._items)
        query = self.query(state)
        lists = 1
        while True:
            index.read(lists)
            reached = index.recall(query, k)
            if reached >= recall or lists >= index.lists:
                break
            lists *= 2
        self._updates.index = index
        return reached


def _check_count(k: int, available: int) -> None:
    if k < 1:
        raise RequestError(f"k={k}: ask for one item or more")
    if k > available:
        counted = f"there are only {available} candidates" if available else "the candidates are empty"
        raise RequestError(f"k={k}, and {counted}: ask for fewer items, or give more candidates")
