"""Significance of differences between models: paired tests over events, corrected for multiple comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_rel
from statsmodels.stats.multitest import multipletests


def paired_p_values(reference: NDArray[np.float64], others: Sequence[NDArray[np.float64]]) -> list[float]:
    """Return two-sided p-values of other models against a reference, with Holm's correction (Holm, 1979).

    The test is a paired t-test over events; under leave-one-out each user has one. For thousands of events,
    the mean difference is close to normal whatever the distribution of the differences.

    >>> [p] = paired_p_values(np.array([1.0, 0.0, 1.0, 1.0]), [np.array([0.0, 0.0, 0.5, 0.5])])
    >>> round(p, 3)
    0.092

    Args:
        reference: metric value of each event, ``[E]``; means over seeds if there are several.
        others: the same for each other model, on the same events in the same order.
    """
    if not others:
        return []
    # identical values have no variance, for which the t-test is undefined
    raw = [1.0 if np.array_equal(reference, other) else float(ttest_rel(reference, other).pvalue) for other in others]
    return [float(p) for p in multipletests(raw, method="holm")[1]]
