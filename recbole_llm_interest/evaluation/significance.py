"""Whether a difference between two models is more than chance: paired tests over users, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_rel
from statsmodels.stats.multitest import multipletests


def paired_p_values(reference: NDArray[np.float64], others: Sequence[NDArray[np.float64]]) -> list[float]:
    """Two-sided p of each other model against the reference, after Holm's correction (Holm, 1979).

    A paired t-test over events; each user has one under leave-one-out. With thousands of them the mean difference
    is as good as normal, however the single ones are distributed.

    Args:
        reference: a metric's value for each event, ``[E]``; the mean over seeds where there are several.
        others: the same for other models, on the same events in the same order.
    """
    if not others:
        return []
    # equal rows have no variance to test by, and are no different
    raw = [1.0 if np.array_equal(reference, other) else float(ttest_rel(reference, other).pvalue) for other in others]
    return [float(p) for p in multipletests(raw, method="holm")[1]]
