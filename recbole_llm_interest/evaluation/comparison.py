"""Statistics of a comparison: summaries over seeds, confidence intervals, and tests against the first variant."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_llm_interest.evaluation.collector import ITEM_COUNTS
from recbole_llm_interest.evaluation.metrics import EVENT_GROUPS, EVENT_METRICS, event_gains
from recbole_llm_interest.evaluation.results import RunResult, changed_file
from recbole_llm_interest.evaluation.significance import paired_p_values


@dataclass(frozen=True)
class VariantSummary:
    """The runs of one variant.

    Attributes:
        name: name of the variant.
        runs: its runs, one for each seed.
        p_value: p-value of the difference from the first variant, corrected for the number of variants; None if not
            tested.
    """

    name: str
    runs: list[RunResult]
    p_value: float | None

    def values(self, metric: str) -> list[float]:
        """Return the metric of each seed that has it."""
        return [run.test[metric] for run in self.runs if metric in run.test]


@dataclass(frozen=True)
class Estimate:
    """A metric of a variant, over all tested events or those of a group.

    Attributes:
        mean: mean over seeds.
        values: value of each seed.
        half_width: half the width of the 95 % confidence interval of the mean over events. None if the ranks are not
            recorded, or if all events have the same gain, as when nothing was found: their variance then says little
            about the error of the mean.
        events: number of events; None if the ranks are not recorded.
    """

    mean: float
    values: list[float]
    half_width: float | None
    events: int | None


def summarize(results: Sequence[RunResult]) -> list[VariantSummary]:
    """Group runs by variant, and test each variant against the first by the metric that chose the best epochs.

    Variants with other data, other test events or another metric that chose their epochs are not tested.
    """
    by_variant: dict[str, list[RunResult]] = {}
    for result in results:
        by_variant.setdefault(result.variant, []).append(result)
    first, *others = by_variant.values()
    comparable = [runs for runs in others if _are_comparable(first, runs)]
    reference = mean_event_gains(first) if comparable else np.empty(0)
    p_values = paired_p_values(reference, [mean_event_gains(runs) for runs in comparable])
    by_name = {runs[0].variant: p for runs, p in zip(comparable, p_values, strict=True)}
    return [VariantSummary(name, runs, by_name.get(name)) for name, runs in by_variant.items()]


def mean_event_gains(runs: Sequence[RunResult]) -> NDArray[np.float64]:
    """Return each tested event's gain in the metric that chose the best epochs, the mean over seeds, ``[E]``."""
    metric, k = _split(runs[0].valid_metric)
    return np.mean([_gains(run, metric, k) for run in runs], axis=0)


def estimate(runs: Sequence[RunResult], metric: str, group: str = "") -> Estimate | None:
    """Estimate a metric of one variant.

    Args:
        runs: runs of the variant.
        metric: the metric, such as ``ndcg@10``.
        group: name in ``EVENT_GROUPS``; an empty string for all tested events.

    Returns:
        The estimate; None if the runs have no such metric, or the group has no events.
    """
    name, k = _split(metric)
    if not _has_event_gains(runs, name, group):
        reported = f"{name}{group.lower()}@{k}"
        values = [run.test[reported] for run in runs if reported in run.test]
        return Estimate(statistics.fmean(values), values, None, None) if values else None
    gains = np.stack([_gains(run, name, k) for run in runs])
    if group:
        gains = gains[:, EVENT_GROUPS[group].contains(torch.tensor(runs[0].item_counts)).numpy()]
    if not gains.size:
        return None
    half_width = 1.96 * float(gains.mean(axis=0).std()) / math.sqrt(gains.shape[1])
    return Estimate(float(gains.mean()), gains.mean(axis=1).tolist(), half_width or None, gains.shape[1])


def _are_comparable(first: Sequence[RunResult], other: Sequence[RunResult]) -> bool:
    if len({(run.test_digest, run.valid_metric.lower()) for run in [*first, *other]}) > 1:
        return False
    if any(changed_file(first[0].files, run.files) for run in [*first, *other]):
        return False
    metric, _ = _split(first[0].valid_metric)
    return _has_event_gains(first, metric) and _has_event_gains(other, metric)


def _has_event_gains(runs: Sequence[RunResult], metric: str, group: str = "") -> bool:
    """Return whether the gain of each event, or of each event in a group, is known."""
    if metric not in EVENT_METRICS or not all(run.ranks for run in runs) or len({len(run.ranks) for run in runs}) > 1:
        return False
    return not group or (EVENT_GROUPS[group].counts == ITEM_COUNTS and all(run.item_counts for run in runs))


def _gains(run: RunResult, metric: str, k: int) -> NDArray[np.float64]:
    gains: NDArray[np.float64] = event_gains(metric, torch.tensor(run.ranks), k).numpy()
    return gains


def _split(metric: str) -> tuple[str, int]:
    """Split ``NDCG@10`` into ``ndcg`` and 10; the number is 0 for metrics without one."""
    name, _, k = metric.lower().partition("@")
    return name, int(k or 0)
