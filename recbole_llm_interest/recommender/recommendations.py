"""What ``Recommender.recommend`` gives: items with scores, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from tabulate import tabulate

from recbole_llm_interest.io.escaping import one_line

_COLUMNS = ["rank", "item", "title", "score"]
#: items that ``repr`` shows
_SHOWN = 3


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
    """The best items for a user, the best first: a list that ``print`` and notebooks show as a table, with titles.

    Args:
        best: the items with their scores.
        titles: of items, by id; an item without one is shown by its id.

    Attributes:
        titles: of the items, in their order.

    Example:
        >>> recommender.recommend(recommender.start("u1", history=["i1", "i2"]), k=1).titles
        ['A film about bread']
        >>> print(recommender.recommend(recommender.start("u1", history=["i1", "i2"]), k=1).frame.columns.tolist())
        ['rank', 'item', 'title', 'score']
    """

    def __init__(self, best: Iterable[Recommendation], titles: Mapping[str, str]) -> None:
        super().__init__(best)
        self.titles = [titles.get(item, item) for item, _ in self]

    @property
    def rows(self) -> list[tuple[int, str, str, float]]:
        """Rank, item, title and score of each."""
        return [
            (rank, item, title, score)
            for rank, ((item, score), title) in enumerate(zip(self, self.titles, strict=True), start=1)
        ]

    @property
    def frame(self) -> pd.DataFrame:
        """A table with the columns rank, item, title and score."""
        return pd.DataFrame(self.rows, columns=_COLUMNS)

    def __repr__(self) -> str:
        first = [f"{one_line(item)} {score:.2f}" for item, score in self[:_SHOWN]]
        return f"Recommendations({', '.join([*first, *(['…'] if len(self) > _SHOWN else [])])})"

    def __str__(self) -> str:
        rows = [(rank, one_line(item), one_line(title), f"{score:.2f}") for rank, item, title, score in self.rows]
        return tabulate(rows, _COLUMNS, tablefmt="plain", disable_numparse=True)

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        return str(self.frame.to_html(index=False, float_format="{:.2f}".format))


def to_frame(users: Sequence[str | None], recommendations: Sequence[Recommendations]) -> pd.DataFrame:
    """Recommendations as a table with the columns user, rank, item, title and score.

    Args:
        users: ids; a user without one is named by position.
        recommendations: of each user.
    """
    rows = [
        (position if user is None else user, *row)
        for position, (user, best) in enumerate(zip(users, recommendations, strict=True))
        for row in best.rows
    ]
    return pd.DataFrame(rows, columns=["user", *_COLUMNS])
