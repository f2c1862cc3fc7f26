"""The table that sets models side by side: means and deviations over seeds, and tests against the first row."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from tabulate import tabulate

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.evaluation.groups import GROUPS, gains
from recbole_llm_interest.evaluation.significance import paired_p_values
from recbole_llm_interest.files import write_atomically, write_text

#: metrics that are means of what each event adds
_GAINS = ("recall", "ndcg", "mrr")
#: where a table cannot be written
_OTHERWISE = "give another place by --table"


@dataclass(frozen=True)
class RunResult:
    """What one run of one model gave.

    Attributes:
        row: the name of its row in the table.
        model: the model's name.
        dataset: the data set's name.
        seed: RecBole's ``seed`` setting.
        settings: all that was set for it, beyond the defaults.
        note: what the row's author wants known, as how it was tuned.
        test: metric -> value on the test split; without those of groups that have no events.
        valid_metric: the metric that chose the best epoch.
        best_valid: its best value on the validation split; None where nothing was validated.
        epochs: epochs trained; 0 for an evaluated checkpoint.
        seconds_per_epoch: mean training time, validation not counted; None where no epoch was trained.
        parameters: trainable ones.
        test_events: how many events were ranked.
        candidates: what they were ranked among, as in "all 1682 items".
        test_digest: a hash of the events and candidates; models with the same one were asked the same questions.
        places: where each tested event's item was ranked, 0 for not among the first ``max(topk)``, in an order that is
            the same for every model; empty where items were ranked among sampled ones.
        item_events: how many training events each tested event's item has, in the order of ``places``.
        losses: the training loss of each epoch, the mean over its batches, by its parts.
        valid_scores: epochs trained by then, and the validation score, in pairs.
        checkpoint: where the best model lies.
        log: the run's log file.
        in_effect: for ``LLMInterest``, the plug-in's settings as they were, defaults included.
        made_by: what made it: version, commit, torch, python, device, cores, processes.
    """

    row: str
    model: str
    dataset: str
    seed: int
    test: dict[str, float]
    valid_metric: str
    best_valid: float | None
    epochs: int
    seconds_per_epoch: float | None
    parameters: int
    test_events: int
    candidates: str
    test_digest: str
    checkpoint: str
    log: str
    settings: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    places: list[int] = field(default_factory=list)
    item_events: list[int] = field(default_factory=list)
    losses: dict[str, list[float]] = field(default_factory=dict)
    valid_scores: list[list[float]] = field(default_factory=list)
    in_effect: dict[str, Any] = field(default_factory=dict)
    made_by: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RowSummary:
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


def summarize(results: Sequence[RunResult]) -> list[RowSummary]:
    """Gather runs into rows, and test each row against the first by the metric that chooses the best epochs."""
    by_row: dict[str, list[RunResult]] = {}
    for result in results:
        by_row.setdefault(result.row, []).append(result)
    first, *others = by_row.values()
    tested = [runs for runs in others if _can_be_tested(first, runs)]
    reference = mean_gain(first) if tested else np.empty(0)
    p_values = paired_p_values(reference, [mean_gain(runs) for runs in tested])
    by_name = {runs[0].row: p for runs, p in zip(tested, p_values, strict=True)}
    return [RowSummary(name, runs, by_name.get(name)) for name, runs in by_row.items()]


def _can_be_tested(first: Sequence[RunResult], other: Sequence[RunResult]) -> bool:
    same_question = len({(run.test_digest, run.valid_metric.lower()) for run in [*first, *other]}) == 1
    return same_question and _has_gains(first) and _has_gains(other)


def _has_gains(runs: Sequence[RunResult]) -> bool:
    metric = runs[0].valid_metric.lower().partition("@")[0]
    return all(run.places for run in runs) and metric in _GAINS


def mean_gain(runs: Sequence[RunResult]) -> NDArray[np.float64]:
    """What each tested event adds to the metric that chooses the best epochs, the mean over seeds, ``[E]``."""
    metric, _, k = runs[0].valid_metric.lower().partition("@")
    values = [gains(metric, torch.tensor(run.places), int(k)).numpy() for run in runs]
    return np.mean(values, axis=0)


@dataclass(frozen=True)
class Estimate:
    """A row's value of a metric, over all tested events or those of a group.

    Attributes:
        mean: over seeds.
        values: of each seed.
        half: half the width of the 95 % interval of the mean over the events; None where their places are not kept, or
            the events are all alike, as where nothing was found: that says little of how far the mean may be off.
        events: how many there are; None where that is not kept.
    """

    mean: float
    values: list[float]
    half: float | None
    events: int | None


def estimate(runs: Sequence[RunResult], metric: str, group: str = "") -> Estimate | None:
    """A metric of one row's runs, ``ndcg@10``, over all tested events or over a group of ``GROUPS`` that goes by items.

    It is None where the runs say nothing of it, or the group has no events.
    """
    name, _, k = metric.lower().partition("@")
    of_group = f"{name}{group.lower()}@{k}"
    reported = [run.test[of_group] for run in runs if of_group in run.test]
    is_kept = name in _GAINS and all(run.places and (run.item_events or not group) for run in runs)
    if not is_kept:
        return Estimate(statistics.fmean(reported), reported, None, None) if reported else None
    gain = np.stack([gains(name, torch.tensor(run.places), int(k)).numpy() for run in runs])
    if group:
        gain = gain[:, GROUPS[group][1](torch.tensor(runs[0].item_events)).numpy()]
    if not gain.size:
        return None
    half = 1.96 * float(gain.mean(axis=0).std()) / math.sqrt(gain.shape[1])
    return Estimate(float(gain.mean()), gain.mean(axis=1).tolist(), half or None, gain.shape[1])


def as_table(results: Sequence[RunResult], style: str = "github") -> str:
    """The table, with what makes the rows comparable, or not, below it.

    Args:
        results: runs in the order of the rows; the first row is what the others are tested against.
        style: ``github`` for Markdown, which reads well on a console too, or ``latex_booktabs``.
    """
    rows = summarize(results)
    has_tests = any(row.p_value is not None for row in rows)
    metrics = list(dict.fromkeys(metric for result in results for metric in result.test))
    header = ["model", *metrics, *(["p"] if has_tests else []), "epochs", "s/epoch", "parameters"]
    body = [
        [
            row.name,
            *(_mean_and_deviation(row.values(metric)) for metric in metrics),
            *(["-" if row.p_value is None else _p(row.p_value)] if has_tests else []),
            _mean([run.epochs for run in row.runs], ".0f") if row.runs[0].epochs else "-",
            _mean([run.seconds_per_epoch for run in row.runs if run.seconds_per_epoch is not None], ".2f"),
            f"{row.runs[0].parameters:,}",
        ]
        for row in rows
    ]
    alignment = ("left", *["right"] * (len(header) - 1))
    table = tabulate(body, header, tablefmt=style, disable_numparse=True, colalign=alignment)
    lines = [_comparability(results), *_notes(rows, has_tests)]
    if style.startswith("latex"):
        return f"{table}\n" + "".join(f"% {line}\n" for line in lines)
    return f"{table}\n\n" + "\n".join(lines) + "\n"


def _mean_and_deviation(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}"


def _mean(values: Sequence[float], style: str) -> str:
    return format(statistics.fmean(values), style) if values else "-"


def _p(value: float) -> str:
    return "<.001" if value < 0.001 else f"{value:.3f}"


def _comparability(results: Sequence[RunResult]) -> str:
    first = results[0]
    if len({result.test_digest for result in results}) == 1:
        validated = all(result.best_valid is not None for result in results)
        by = " or ".join(dict.fromkeys(result.valid_metric for result in results))
        epoch = f"best epoch by validation {by}; " if validated else ""
        seeds = sorted({result.seed for result in results})
        return (
            f"{first.dataset}: {first.test_events} test events, the same for every row, each ranked among "
            f"{first.candidates}; {epoch}{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
            f"{_commits(results)}."
        )
    tests = "; ".join(
        {result.row: f"{result.row}: {result.test_events} among {result.candidates}" for result in results}.values()
    )
    return (
        f"{first.dataset}: the rows are NOT tested on the same events ({tests}): do not compare them"
        f"{_commits(results)}."
    )


def _commits(results: Sequence[RunResult]) -> str:
    commits = list(dict.fromkeys(result.made_by.get("commit") or "unknown" for result in results))
    if commits == ["unknown"]:
        return ""
    return f"; {'commit' if len(commits) == 1 else 'commits'} {', '.join(commits)}"


def _notes(rows: Sequence[RowSummary], has_tests: bool) -> list[str]:
    lines = []
    seeds = [run.seed for run in rows[0].runs]
    if len(seeds) > 1:
        lines.append("Values are means ± standard deviations over seeds.")
    if has_tests:
        lines.append(
            f"p: difference from {rows[0].name} in {rows[0].runs[0].valid_metric}, paired t-test over the test events"
            f"{', each with its mean over seeds' if len(seeds) > 1 else ''}, Holm's correction."
        )
    lines += [f"{row.name}: only {len(row.runs)} of {len(seeds)} seeds." for row in rows if len(row.runs) < len(seeds)]
    lines += [f"{row.name}: {row.runs[0].note}" for row in rows if row.runs[0].note]
    return lines


def write_comparison(results: Sequence[RunResult], path: Path) -> list[Path]:
    """Write the table to ``path`` as Markdown, LaTeX and JSON, and say where. The JSON file has everything."""
    as_json = json.dumps([asdict(result) for result in results], ensure_ascii=False)
    markdown, latex, data = (path.with_suffix(suffix) for suffix in (".md", ".tex", ".json"))
    # first: the runs are kept, whatever happens to the texts
    write_text(data, as_json.replace("}, {", "},\n{") + "\n", _OTHERWISE)
    write_text(markdown, as_table(results), _OTHERWISE)
    write_text(latex, as_table(results, "latex_booktabs"), _OTHERWISE)
    return [markdown, latex, data]


def read_results(path: Path) -> list[RunResult]:
    """Read the runs back that ``write_comparison`` wrote as JSON.

    Raises:
        DataError: the file is not there, or is not such a file.
    """
    names = {column.name for column in fields(RunResult)}
    try:
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        TypeAdapter(list[RunResult]).validate_python(found)
        return [RunResult(**run) for run in found]
    except FileNotFoundError as error:
        raise DataError(f"there are no results in {path}: it does not exist") from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path} does not hold results of this version, a JSON list of runs with {', '.join(sorted(names))}"
        ) from error


def draw_comparison(results: Sequence[RunResult], path: Path) -> Path:
    """Draw each row's value of the metric that chooses the first row's best epochs, to ``path`` as PNG; say where.

    Rows without that metric are left out. Bars are 95 % confidence intervals of the mean over the test events; dots are
    seeds.
    """
    from matplotlib.figure import Figure

    metric = results[0].valid_metric.lower()
    rows = [row for row in summarize(results)[::-1] if row.values(metric)]
    figure = Figure(figsize=(7, 1.1 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        if (found := estimate(row.runs, metric)) is None:
            continue
        axes.plot(found.values, [place] * len(found.values), "o", color="0.65", markersize=4, zorder=2)
        axes.errorbar(found.mean, place, xerr=found.half, fmt="D", color="C0", capsize=3, markersize=5, zorder=3)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(f"test {metric.upper()}\ndiamond: mean, bar: 95 % interval over test events, dots: seeds")
    axes.set_title(results[0].dataset, fontsize="medium")
    axes.grid(axis="x", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    file = path.with_suffix(".png")
    write_atomically(file, lambda out: figure.savefig(out, format="png", dpi=150), _OTHERWISE)
    return file
