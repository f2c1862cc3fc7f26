"""From scores to probabilities of a click, and how far those can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from recbole_llm_interest.errors import RequestError

#: the one on what was seen least keeps slopes finite where scores part clicks from others altogether (Platt)
_PRIOR = 1.0
_PARTS = 10


@dataclass(frozen=True)
class Reliability:
    """What was said of some of the items that were shown, and what came of it.

    Attributes:
        count: how many these are.
        probability: the mean of what was said.
        clicked: the share that was clicked.
    """

    count: int
    probability: float
    clicked: float


@dataclass(frozen=True)
class Calibration:
    """The probability of a click is a logistic function of the score (Platt, 1999).

    Attributes:
        slope: how much a point of the score counts.
        offset: the log odds at a score of 0.
    """

    slope: float
    offset: float

    @classmethod
    def fit(cls, scores: Sequence[float], clicked: Sequence[bool]) -> Calibration:
        """Fit to what was shown and clicked, or not.

        Args:
            scores: of the items that were shown, ``[n]``, as ``Recommender.score`` gives them.
            clicked: whether each was clicked.

        Raises:
            RequestError: there is not one of each, they are not finite, or nothing, or everything, was clicked.
        """
        score, click = _checked(scores, clicked)
        if click.all() or not click.any():
            raise RequestError("a calibration needs both clicks and others: there is one kind only")
        count = click.sum(), (~click).sum()
        target = np.where(click, (count[0] + _PRIOR) / (count[0] + 2 * _PRIOR), _PRIOR / (count[1] + 2 * _PRIOR))

        def loss(line: NDArray[np.float64]) -> float:
            logit = line[0] * score + line[1]
            return float(-(target * log_expit(logit) + (1 - target) * log_expit(-logit)).mean())

        slope, offset = minimize(loss, np.array([0.0, 0.0]), method="BFGS").x
        return cls(float(slope), float(offset))

    def probability(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Of a click, at each of some scores."""
        return np.asarray(expit(self.slope * np.asarray(scores, dtype=np.float64) + self.offset))

    def reliability(self, scores: Sequence[float], clicked: Sequence[bool], parts: int = _PARTS) -> list[Reliability]:
        """Probabilities against shares clicked, in parts of equal size, from the least probable to the most.

        Measure it on others than the calibration was fitted to.

        Args:
            scores: of the items that were shown, ``[n]``.
            clicked: whether each was clicked.
            parts: how many, fewer where there are not as many items.

        Raises:
            RequestError: as in ``fit``, or there are no parts.
        """
        score, click = _checked(scores, clicked)
        if parts < 1:
            raise RequestError(f"parts={parts}: at least one has to be asked for")
        probability = self.probability(score)
        order = np.argsort(probability, kind="stable")
        return [
            Reliability(len(part), float(probability[part].mean()), float(click[part].mean()))
            for part in np.array_split(order, min(parts, len(order)))
        ]

    def error(self, scores: Sequence[float], clicked: Sequence[bool], parts: int = _PARTS) -> float:
        """Expected calibration error: mean distance of the probability from the share clicked, over ``reliability``.

        With few items, chance alone parts the two.

        Raises:
            RequestError: as in ``reliability``.
        """
        found = self.reliability(scores, clicked, parts)
        gaps = [part.count * abs(part.probability - part.clicked) for part in found]
        return sum(gaps) / sum(part.count for part in found)


def _checked(scores: Sequence[float], clicked: Sequence[bool]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    score, click = np.asarray(scores, dtype=np.float64), np.asarray(clicked, dtype=bool)
    if score.shape != click.shape or score.ndim != 1 or not len(score) or not np.isfinite(score).all():
        raise RequestError(
            f"{score.shape} scores and {click.shape} clicks: finite scores, and a click or none for each"
        )
    return score, click
