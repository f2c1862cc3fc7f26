"""Significance of differences between models: paired tests and confidence intervals over users.

Events of one user are not independent. Tests compare users' means, and intervals resample users with all their events.
Under leave-one-out each user has one event, and both are over events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_rel, wilcoxon

PairedTest = Literal["t", "wilcoxon"]
_Values = NDArray[np.float64]
#: number of each event's user, from 0, ``[E]``; empty if each event has a user of its own
_Users = Sequence[int] | NDArray[np.int64]

#: samples of a bootstrap interval, and the seed that draws them
_SAMPLES, _SEED = 2000, 0


def paired_p_values(reference: _Values, others: Sequence[_Values], test: PairedTest = "t") -> list[float]:
    """Return two-sided p-values of other models against a reference, with Holm's correction (Holm, 1979).

    ``t`` is the paired t-test: for thousands of users, the mean difference is close to normal whatever the distribution
    of the differences. ``wilcoxon`` is Wilcoxon's signed-rank test, which asks for symmetry alone; users without a
    difference take part in the ranking and have no sign (Pratt, 1959).

    >>> [p] = paired_p_values(np.array([1.0, 0.0, 1.0, 1.0]), [np.array([0.0, 0.0, 0.5, 0.5])])
    >>> round(p, 3)
    0.092

    Args:
        reference: metric value of each user, ``[U]``; means over seeds if there are several.
        others: the same for each other model, of the same users in the same order.
        test: the test.
    """
    return holm([_p_value(reference, other, test) for other in others])


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's correction of p-values (Holm, 1979).

    It takes milliseconds, and statsmodels' half a second: that collects garbage first, and a table has four families.

    >>> holm([0.04, 0.01, 0.5])
    [0.08, 0.03, 0.5]
    """
    raw = np.asarray(p_values)
    order = np.argsort(raw)
    corrected = np.empty_like(raw)
    corrected[order] = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1)).clip(max=1.0)
    return [float(p) for p in corrected]


def means_by_user(values: _Values, users: _Users) -> _Values:
    """Return each user's mean, ``[U]``.

    Args:
        values: of the events, ``[E]``.
        users: number of each event's user, from 0, ``[E]``; empty if each event has a user of its own.
    """
    return values if not len(users) else np.bincount(users, values) / np.bincount(users)


def bootstrap_interval(values: _Values, users: _Users = ()) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of the mean over events, from samples of users (Efron, 1979).

    A sample draws as many users as there are, with replacement, and takes all events of each.

    >>> low, high = bootstrap_interval(np.array([0.0] * 60 + [1.0] * 40))
    >>> 0.28 < low < 0.34 and 0.46 < high < 0.52
    True

    Args:
        values: of the events, ``[E]``.
        users: as for ``means_by_user``.

    Returns:
        The two ends. None if all events have the same value, as when nothing was found: their variance then says
        little about the error of the mean.
    """
    if not len(values) or values.min() == values.max():
        return None
    users = users if len(users) else np.arange(len(values))
    sums, events = _sampled_totals(np.stack([np.bincount(users, values), np.bincount(users)]))
    low, high = np.quantile(sums / events, [0.025, 0.975])
    return float(low), float(high)


def _sampled_totals(totals: _Values) -> _Values:
    """Return the totals of each sample of users, ``[2, S]``, from those of the users, ``[2, U]``."""
    chance, users = np.random.default_rng(_SEED), totals.shape[1]
    # gains take few values, so that most users equal others: how often each kind is drawn has a distribution of its own
    kinds, counts = np.unique(totals, axis=1, return_counts=True)
    if len(counts) * 8 < users:  # it takes as long as eight draws of a user
        return np.stack([kinds @ chance.multinomial(users, counts / users) for _ in range(_SAMPLES)], axis=1)
    drawn = (chance.integers(users, size=users, dtype=np.int32) for _ in range(_SAMPLES))
    return np.stack([totals @ np.bincount(sample, minlength=users) for sample in drawn], axis=1)


def _p_value(one: _Values, other: _Values, test: PairedTest) -> float:
    if np.array_equal(one, other):  # identical values have no variance, for which the tests are undefined
        return 1.0
    if test == "t":
        return float(ttest_rel(one, other).pvalue)
    return float(wilcoxon(one, other, zero_method="pratt").pvalue)
