"""The table and the plot of a comparison."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tabulate import tabulate

from recbole_llm_interest.evaluation.comparison import VariantSummary, estimate, summarize
from recbole_llm_interest.evaluation.results import _OTHERWISE, RunResult
from recbole_llm_interest.io.files import write_atomically, write_text


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
        {
            result.variant: f"{result.variant}: {result.test_events} among {result.candidates}" for result in results
        }.values()
    )
    return (
        f"{first.dataset}: the rows are NOT tested on the same events ({tests}): do not compare them"
        f"{_commits(results)}."
    )


def _commits(results: Sequence[RunResult]) -> str:
    commits = list(dict.fromkeys(result.environment_info.get("commit") or "unknown" for result in results))
    if commits == ["unknown"]:
        return ""
    return f"; {'commit' if len(commits) == 1 else 'commits'} {', '.join(commits)}"


def _notes(rows: Sequence[VariantSummary], has_tests: bool) -> list[str]:
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
        axes.errorbar(found.mean, place, xerr=found.half_width, fmt="D", color="C0", capsize=3, markersize=5, zorder=3)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(f"test {metric.upper()}\ndiamond: mean, bar: 95 % interval over test events, dots: seeds")
    axes.set_title(results[0].dataset, fontsize="medium")
    axes.grid(axis="x", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    file = path.with_suffix(".png")
    write_atomically(file, lambda out: figure.savefig(out, format="png", dpi=150), _OTHERWISE)
    return file
