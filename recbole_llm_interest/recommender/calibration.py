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
_BINS = 10


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

    def error(self, scores: Sequence[float], clicked: Sequence[bool]) -> float:
        """Expected calibration error: mean distance of the probability from the share clicked, over ten equal parts.

        Measure it on others than the calibration was fitted to.

        Raises:
            RequestError: as in ``fit``.
        """
        score, click = _checked(scores, clicked)
        order = np.argsort(score)
        probability = self.probability(score)
        parts = [part for part in np.array_split(order, _BINS) if len(part)]
        gaps = [abs(probability[part].mean() - click[part].mean()) * len(part) for part in parts]
        return float(sum(gaps) / len(score))


def _checked(scores: Sequence[float], clicked: Sequence[bool]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    score, click = np.asarray(scores, dtype=np.float64), np.asarray(clicked, dtype=bool)
    if score.shape != click.shape or score.ndim != 1 or not len(score) or not np.isfinite(score).all():
        raise RequestError(
            f"{score.shape} scores and {click.shape} clicks: finite scores, and a click or none for each"
        )
    return score, click
