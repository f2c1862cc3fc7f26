"""What ``Recommender.recommend`` gives: items with scores, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from tabulate import tabulate

from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.recommender.user_state import UserState


class Recommendation(NamedTuple):
    """An item and its score.

    Attributes:
        item: id of the item.
        score: by the model; higher is better. Differences between scores are log odds of a softmax.

    Example:
        >>> (best,) = recommender.recommend(recommender.start("u1", history=["i1"]), k=1)
        >>> item, score = best
        >>> item == best.item
        True
    """

    item: str
    score: float


class Recommendations(list[Recommendation]):
    """The best items for a user, the best first: a list that is shown as a table, with titles.

    Args:
        best: the items with their scores.
        titles: of items, by id; an item without one is shown by its id.

    Attributes:
        titles: of the items, in their order.

    Example:
        >>> recommender.recommend(recommender.start("u1", history=["i1", "i2"]), k=1).titles
        ['A film about bread']
    """

    def __init__(self, best: Iterable[Recommendation], titles: Mapping[str, str]) -> None:
        super().__init__(best)
        self.titles = [titles.get(item, item) for item, _ in self]

    @property
    def frame(self) -> pd.DataFrame:
        """A table with the columns rank, item, title and score."""
        items, scores = zip(*self, strict=True) if self else ((), ())
        ranks = range(1, len(self) + 1)
        return pd.DataFrame({"rank": ranks, "item": items, "title": self.titles, "score": scores})

    def __repr__(self) -> str:
        rows = [
            (rank, one_line(item), one_line(title), f"{score:.2f}")
            for rank, ((item, score), title) in enumerate(zip(self, self.titles, strict=True), start=1)
        ]
        return tabulate(rows, ["rank", "item", "title", "score"], tablefmt="plain", disable_numparse=True)

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        return str(self.frame.to_html(index=False, float_format="{:.2f}".format))


def to_frame(state: UserState, recommendations: Sequence[Recommendations]) -> pd.DataFrame:
    """Recommendations as a table with the columns user, rank, item, title and score.

    Args:
        state: of the users. One without an id is named by position.
        recommendations: of each user.
    """
    parts = [
        best.frame.assign(user=position if user is None else user)
        for position, (user, best) in enumerate(zip(state.users, recommendations, strict=True))
    ]
    return pd.concat(parts, ignore_index=True)[["user", "rank", "item", "title", "score"]]
