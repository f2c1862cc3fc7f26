"""The table that sets models side by side: means and deviations over seeds, and tests against the first row."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_llm_interest.evaluation.metrics import EVENT_GROUPS, event_gains
from recbole_llm_interest.evaluation.results import RunResult
from recbole_llm_interest.evaluation.significance import paired_p_values

#: metrics that are means of what each event adds
_GAINS = ("recall", "ndcg", "mrr")


@dataclass(frozen=True)
class VariantSummary:
    """One row of the table.

    Attributes:
        name: the row's.
        runs: its runs, one a seed.
        p_value: whether it differs from the first row, corrected for the number of rows; None where that was not
            tested.
    """

    name: str
    runs: list[RunResult]
    p_value: float | None

    def values(self, metric: str) -> list[float]:
        """A metric's value for each seed that has it."""
        return [run.test[metric] for run in self.runs if metric in run.test]


def summarize(results: Sequence[RunResult]) -> list[VariantSummary]:
    """Gather runs into rows, and test each row against the first by the metric that chooses the best epochs."""
    by_row: dict[str, list[RunResult]] = {}
    for result in results:
        by_row.setdefault(result.variant, []).append(result)
    first, *others = by_row.values()
    tested = [runs for runs in others if _can_be_tested(first, runs)]
    reference = mean_event_gains(first) if tested else np.empty(0)
    p_values = paired_p_values(reference, [mean_event_gains(runs) for runs in tested])
    by_name = {runs[0].variant: p for runs, p in zip(tested, p_values, strict=True)}
    return [VariantSummary(name, runs, by_name.get(name)) for name, runs in by_row.items()]


def _can_be_tested(first: Sequence[RunResult], other: Sequence[RunResult]) -> bool:
    same_question = len({(run.test_digest, run.valid_metric.lower()) for run in [*first, *other]}) == 1
    return same_question and _has_gains(first) and _has_gains(other)


def _has_gains(runs: Sequence[RunResult]) -> bool:
    metric = runs[0].valid_metric.lower().partition("@")[0]
    return all(run.ranks for run in runs) and metric in _GAINS


def mean_event_gains(runs: Sequence[RunResult]) -> NDArray[np.float64]:
    """What each tested event adds to the metric that chooses the best epochs, the mean over seeds, ``[E]``."""
    metric, _, k = runs[0].valid_metric.lower().partition("@")
    values = [event_gains(metric, torch.tensor(run.ranks), int(k)).numpy() for run in runs]
    return np.mean(values, axis=0)


@dataclass(frozen=True)
class Estimate:
    """A row's value of a metric, over all tested events or those of a group.

    Attributes:
        mean: over seeds.
        values: of each seed.
        half_width: half the width of the 95 % interval of the mean over the events; None where their places are not kept, or
            the events are all alike, as where nothing was found: that says little of how far the mean may be off.
        events: how many there are; None where that is not kept.
    """

    mean: float
    values: list[float]
    half_width: float | None
    events: int | None


def estimate(runs: Sequence[RunResult], metric: str, group: str = "") -> Estimate | None:
    """A metric of one row's runs, ``ndcg@10``, over all tested events or over a group of ``EVENT_GROUPS`` that goes by items.

    It is None where the runs say nothing of it, or the group has no events.
    """
    name, _, k = metric.lower().partition("@")
    of_group = f"{name}{group.lower()}@{k}"
    reported = [run.test[of_group] for run in runs if of_group in run.test]
    is_kept = name in _GAINS and all(run.ranks and (run.item_counts or not group) for run in runs)
    if not is_kept:
        return Estimate(statistics.fmean(reported), reported, None, None) if reported else None
    gain = np.stack([event_gains(name, torch.tensor(run.ranks), int(k)).numpy() for run in runs])
    if group:
        gain = gain[:, EVENT_GROUPS[group][1](torch.tensor(runs[0].item_counts)).numpy()]
    if not gain.size:
        return None
    half = 1.96 * float(gain.mean(axis=0).std()) / math.sqrt(gain.shape[1])
    return Estimate(float(gain.mean()), gain.mean(axis=1).tolist(), half or None, gain.shape[1])
