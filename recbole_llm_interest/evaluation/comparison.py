"""Statistics of a comparison: summaries over seeds, confidence intervals, and tests against the first variant."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_llm_interest.evaluation.collector import FILTERED, ITEM_COUNTS
from recbole_llm_interest.evaluation.metrics import EVENT_GROUPS, EVENT_METRICS, event_gains
from recbole_llm_interest.evaluation.results import RunResult, changed_file
from recbole_llm_interest.evaluation.significance import bootstrap_interval, means_by_user, paired_p_values


@dataclass(frozen=True)
class PValues:
    """P-values of one variant's difference from the first, corrected for the number of variants.

    Attributes:
        t: of the paired t-test.
        wilcoxon: of Wilcoxon's signed-rank test.
    """

    t: float
    wilcoxon: float


@dataclass(frozen=True)
class VariantSummary:
    """The runs of one variant.

    Attributes:
        name: name of the variant.
        runs: its runs, one for each seed.
        p_values: of the difference from the first variant, with seen items as candidates; None if not tested.
        filtered_p_values: the same with seen items filtered.
    """

    name: str
    runs: list[RunResult]
    p_values: PValues | None
    filtered_p_values: PValues | None

    def values(self, metric: str) -> list[float]:
        """Return the metric of each seed that has it."""
        return [run.test[metric] for run in self.runs if metric in run.test]


@dataclass(frozen=True)
class Estimate:
    """A metric of a variant, over all tested events or those of a group.

    Attributes:
        mean: mean over seeds.
        values: value of each seed.
        interval: ends of the 95 % bootstrap interval of the mean over events. None if the ranks are not recorded, or if
            all events have the same gain.
        events: number of events; None if the ranks are not recorded.
    """

    mean: float
    values: list[float]
    interval: tuple[float, float] | None
    events: int | None


def summarize(results: Sequence[RunResult]) -> list[VariantSummary]:
    """Group runs by variant, and test each variant against the first by the metric that chose the best epochs.

    Variants with other data, other test events or another metric that chose their epochs are not tested.
    """
    by_variant: dict[str, list[RunResult]] = {}
    for result in results:
        by_variant.setdefault(result.variant, []).append(result)
    kept, filtered = (_p_values(list(by_variant.values()), prefix) for prefix in ("", FILTERED))
    return [VariantSummary(name, runs, kept.get(name), filtered.get(name)) for name, runs in by_variant.items()]


def _p_values(variants: Sequence[Sequence[RunResult]], prefix: str) -> dict[str, PValues]:
    """Test each variant against the first, with seen items kept or filtered; by name, without those not tested."""
    first, *others = variants
    metric = prefix + base_metric(first[0].valid_metric)
    comparable = [runs for runs in others if _are_comparable(first, runs, metric)]
    if not comparable:
        return {}
    users = first[0].event_users
    reference, *values = (means_by_user(mean_event_gains(runs, metric), users) for runs in [first, *comparable])
    tests = paired_p_values(reference, values, "t"), paired_p_values(reference, values, "wilcoxon")
    return {runs[0].variant: PValues(*pair) for runs, pair in zip(comparable, zip(*tests, strict=True), strict=True)}


def base_metric(metric: str) -> str:
    """Return a metric's name in lower case, without the word that says that seen items are filtered.

    >>> base_metric("filtered_NDCG@10")
    'ndcg@10'
    """
    return metric.lower().removeprefix(FILTERED)


def mean_event_gains(runs: Sequence[RunResult], metric: str) -> NDArray[np.float64]:
    """Return each tested event's gain in a metric such as ``filtered_ndcg@10``, the mean over seeds, ``[E]``."""
    return np.mean([_gains(run, metric) for run in runs], axis=0)


def estimate(runs: Sequence[RunResult], metric: str, group: str = "") -> Estimate | None:
    """Estimate a metric of one variant.

    Args:
        runs: runs of the variant.
        metric: the metric, such as ``ndcg@10`` or ``filtered_ndcg@10``.
        group: name in ``EVENT_GROUPS``; an empty string for all tested events.

    Returns:
        The estimate; None if the runs have no such metric, or the group has no events.
    """
    if not _has_event_gains(runs, metric, group):
        name, at, k = metric.lower().partition("@")
        reported = f"{name}{group.lower()}{at}{k}"
        values = [run.test[reported] for run in runs if reported in run.test]
        return Estimate(statistics.fmean(values), values, None, None) if values else None
    gains, users = np.stack([_gains(run, metric) for run in runs]), np.array(runs[0].event_users, dtype=np.int64)
    if group:
        is_in_group = EVENT_GROUPS[group].contains(torch.tensor(runs[0].item_counts)).numpy()
        gains = gains[:, is_in_group]
        users = np.unique(users[is_in_group], return_inverse=True)[1] if len(users) else users
    if not gains.size:
        return None
    interval = bootstrap_interval(gains.mean(axis=0), users)
    return Estimate(float(gains.mean()), gains.mean(axis=1).tolist(), interval, gains.shape[1])


def _are_comparable(first: Sequence[RunResult], other: Sequence[RunResult], metric: str) -> bool:
    if len({(run.test_digest, run.valid_metric.lower()) for run in [*first, *other]}) > 1:
        return False
    if any(changed_file(first[0].files, run.files) for run in [*first, *other]):
        return False
    return _has_event_gains(first, metric) and _has_event_gains(other, metric)


def _has_event_gains(runs: Sequence[RunResult], metric: str, group: str = "") -> bool:
    """Return whether the gain of each event, or of each event in a group, is known."""
    ranks = [_ranks(run, metric) for run in runs]
    if _split(metric)[0] not in EVENT_METRICS or not all(ranks) or len({len(of_run) for of_run in ranks}) > 1:
        return False
    return not group or (EVENT_GROUPS[group].counts == ITEM_COUNTS and all(run.item_counts for run in runs))


def _gains(run: RunResult, metric: str) -> NDArray[np.float64]:
    name, k = _split(metric)
    gains: NDArray[np.float64] = event_gains(name, torch.tensor(_ranks(run, metric)), k).numpy()
    return gains


def _ranks(run: RunResult, metric: str) -> list[int]:
    return run.filtered_ranks if metric.lower().startswith(FILTERED) else run.ranks


def _split(metric: str) -> tuple[str, int]:
    """Split ``filtered_NDCG@10`` into ``ndcg`` and 10; the number is 0 for metrics without one."""
    name, _, k = base_metric(metric).partition("@")
    return name, int(k or 0)
