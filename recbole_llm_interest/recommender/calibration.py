"""From scores to click probabilities, and how reliable those are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from recbole_llm_interest.errors import RequestError

#: pseudo-count that keeps the slope finite where scores separate clicks perfectly (Platt, 1999)
_PRIOR = 1.0
_BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Predicted probability and observed click rate in one bin of items that were shown.

    Attributes:
        count: number of items in the bin.
        probability: their mean predicted probability.
        clicked: the share of them that was clicked.

    Example:
        >>> (whole,) = Calibration(slope=1.0, offset=0.0).reliability([0.0, 0.0], [True, False], parts=1)
        >>> whole
        Reliability(count=2, probability=0.5, clicked=0.5)
    """

    count: int
    probability: float
    clicked: float


@dataclass(frozen=True)
class Calibration:
    """Click probability as a logistic function of the score (Platt scaling; Platt, 1999).

    Attributes:
        slope: change of the log odds per unit of the score.
        offset: log odds at score 0.
        of_positions: what each position in the list adds to the log odds; 0 for the first, NaN for one that the log
            lacks. Empty if all are alike.

    Example:
        >>> calibration = Calibration.fit([-2.0, -1.0, 0.0, 1.0, 2.0], [False, False, True, False, True])
        >>> calibration.slope > 0
        True
    """

    slope: float
    offset: float
    of_positions: tuple[float, ...] = ()

    @classmethod
    def fit(
        cls,
        scores: Sequence[float],
        clicked: Sequence[bool],
        *,
        positions: Sequence[int] | None = None,
        weights: Sequence[float] | None = None,
    ) -> Calibration:
        """Fit to items that were shown, by maximum likelihood.

        Args:
            scores: of the items, ``[n]``, as ``Recommender.score`` gives them.
            clicked: whether each was clicked, ``[n]``.
            positions: of each in its list, from 0 on, ``[n]``: what is seen less is not taken for disliked. The first
                one must be among them.
            weights: of the items, ``[n]``: one over the probability that each was shown (inverse propensity weighting),
                for click probabilities of items that are shown at random.

        Raises:
            RequestError: the arguments differ in length, a score is not finite, a position or a weight is negative, no
                item was at position 0, or all or none of the items were clicked.

        Example:
            >>> Calibration.fit([1.0, 2.0, 3.0, 4.0], [False, True, False, True]).probability([4.0]) > 0.5
            array([ True])
        """
        score, click = _checked(scores, clicked)
        weight = _checked_weights(weights, len(score))
        place = _checked_positions(
            np.zeros(len(score), dtype=np.int64) if positions is None else positions, score.shape
        )
        if click.all() or not click.any():
            raise RequestError("a calibration needs clicked and unclicked items: give a log with both")
        shown = np.unique(place)
        if shown[0]:
            raise RequestError(f"positions start at {shown[0]}: give 0 for the first place in the list")
        slope, offset, *further = _most_likely(score, click, weight, np.searchsorted(shown, place))
        of_positions = np.full(shown[-1] + 1, np.nan)
        of_positions[shown] = [0.0, *further]
        return cls(slope, offset, tuple(of_positions.tolist()) if positions is not None else ())

    def probability(self, scores: ArrayLike, positions: ArrayLike | None = None) -> NDArray[np.float64]:
        """Click probability at each score, of the shape of ``scores``.

        Args:
            scores: of the items.
            positions: of the same shape, from 0 on; None for the first one.

        Raises:
            RequestError: the shapes differ, or a position is none of those that were fitted.

        Example:
            >>> Calibration(slope=1.0, offset=0.0).probability([0.0, 100.0])
            array([0.5, 1. ])
        """
        score = np.asarray(scores, dtype=np.float64)
        logit = self.slope * score + self.offset
        if positions is not None:
            place = _checked_positions(positions, score.shape)
            added = np.append(self.of_positions, np.nan)[np.minimum(place, len(self.of_positions))]
            if np.isnan(added).any():
                raise RequestError(f"position {place[np.isnan(added)].flat[0]} is not among those that were fitted")
            logit = logit + added
        return np.asarray(expit(logit))

    def reliability(
        self,
        scores: Sequence[float],
        clicked: Sequence[bool],
        parts: int = _BINS,
        positions: Sequence[int] | None = None,
    ) -> list[Reliability]:
        """Predicted probability and click rate in bins of equal size, in ascending order of the probability.

        Use other items than those the calibration was fitted to.

        Args:
            scores: of the items that were shown, ``[n]``.
            clicked: whether each was clicked, ``[n]``.
            parts: number of bins. There are fewer if there are fewer items.
            positions: of the items, ``[n]``; None for the first one.

        Raises:
            RequestError: as in ``fit``, or ``parts`` is less than one.

        Example:
            >>> bins = Calibration(slope=1.0, offset=0.0).reliability([-1.0, 1.0], [False, True], parts=2)
            >>> [(one.count, round(one.probability, 2), one.clicked) for one in bins]
            [(1, 0.27, 0.0), (1, 0.73, 1.0)]
        """
        score, click = _checked(scores, clicked)
        if parts < 1:
            raise RequestError(f"parts={parts}: ask for one bin or more")
        probability = self.probability(score, positions)
        order = np.argsort(probability, kind="stable")
        return [
            Reliability(len(part), float(probability[part].mean()), float(click[part].mean()))
            for part in np.array_split(order, min(parts, len(order)))
        ]

    def error(
        self,
        scores: Sequence[float],
        clicked: Sequence[bool],
        parts: int = _BINS,
        positions: Sequence[int] | None = None,
    ) -> float:
        """Expected calibration error: mean distance between probability and click rate over the bins.

        With few items in a bin, chance alone makes an error.

        Raises:
            RequestError: as in ``reliability``.

        Example:
            >>> round(Calibration(slope=1.0, offset=0.0).error([-1.0, 1.0], [False, True], parts=2), 2)
            0.27
        """
        bins = self.reliability(scores, clicked, parts, positions)
        gaps = [part.count * abs(part.probability - part.clicked) for part in bins]
        return sum(gaps) / sum(part.count for part in bins)


def _most_likely(
    score: NDArray[np.float64], click: NDArray[np.bool_], weight: NDArray[np.float64], column: NDArray[np.int64]
) -> list[float]:
    """Slope, offset, and the effect of each column after the first, of the likeliest logistic function."""
    count = click.sum(), (~click).sum()
    target = np.where(click, (count[0] + _PRIOR) / (count[0] + 2 * _PRIOR), _PRIOR / (count[1] + 2 * _PRIOR))

    def loss(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The negative log likelihood, and its gradient."""
        logit = line[0] * score + line[1] + np.append(0.0, line[2:])[column]
        value = -(weight * (target * log_expit(logit) + (1 - target) * log_expit(-logit))).sum()
        change = weight * (expit(logit) - target)
        of_columns = np.bincount(column, change, minlength=len(line) - 1)[1:]
        return float(value), np.concatenate([[change @ score, change.sum()], of_columns])

    fitted: list[float] = minimize(loss, np.zeros(2 + column.max()), jac=True, method="BFGS").x.tolist()
    return fitted


def _checked(scores: Sequence[float], clicked: Sequence[bool]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    score, click = np.asarray(scores, dtype=np.float64), np.asarray(clicked, dtype=bool)
    if score.shape != click.shape or score.ndim != 1 or not len(score) or not np.isfinite(score).all():
        raise RequestError(
            f"scores of shape {score.shape} and clicks of shape {click.shape}: give one click for each finite score"
        )
    return score, click


def _checked_positions(positions: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.int64]:
    place = np.asarray(positions) if np.size(positions) else np.zeros(np.shape(positions), dtype=np.int64)
    if place.shape != shape or place.dtype.kind not in "iu" or (place.size and place.min() < 0):
        raise RequestError(
            f"positions of shape {place.shape}: give a whole number from 0 on for each item, of shape {shape}"
        )
    return place.astype(np.int64)


def _checked_weights(weights: Sequence[float] | None, count: int) -> NDArray[np.float64]:
    """The weights, so that they sum to 1."""
    weight = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape != (count,) or not (np.isfinite(weight) & (weight >= 0)).all() or not weight.any():
        raise RequestError(f"weights of shape {weight.shape}: give a number of 0 or more for each of {count} items")
    return weight / weight.sum()
