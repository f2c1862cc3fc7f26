"""The table and the plot of a comparison, as text and as files."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tabulate import tabulate

from recbole_llm_interest.evaluation.comparison import VariantSummary, estimate, summarize
from recbole_llm_interest.evaluation.results import RunResult, changed_file
from recbole_llm_interest.io.escaping import (
    json_text,
    latex_comment,
    latex_rows,
    markdown_cell,
    markdown_line,
    one_line,
    plot_text,
)
from recbole_llm_interest.io.files import write_atomically, write_text

#: end of the error message if the files cannot be written
_OTHER_PATH_HINT = "give another place by --table"
#: suffixes of a table's files
_SUFFIXES = (".json", ".md", ".tex", ".png")
#: characters of a row's name in the plot
_MAX_NAME = 60


def as_table(results: Sequence[RunResult], style: str = "github") -> str:
    """Return the table, and below it what the variants have in common and how they were tested.

    Args:
        results: runs in the order of the rows; the first variant is the reference of the tests.
        style: table format of ``tabulate``, such as ``github`` for Markdown or ``latex_booktabs``.
    """
    is_latex = style.startswith("latex")
    cell = one_line if is_latex else markdown_cell  # tabulate escapes LaTeX's special characters
    summaries = summarize(results)
    has_tests = any(summary.p_value is not None for summary in summaries)
    metrics = list(dict.fromkeys(metric for result in results for metric in result.test))
    header = ["model", *map(cell, metrics), *(["p"] if has_tests else []), "epochs", "s/epoch", "parameters"]
    body = [[cell(summary.name), *_numbers(summary, metrics, has_tests)] for summary in summaries]
    alignment = ("left", *["right"] * (len(header) - 1))
    table = tabulate(body, header, tablefmt=style, disable_numparse=True, colalign=alignment)
    lines = [_comparability(results), *_changed_data(results), *_notes(summaries, has_tests)]
    if is_latex:
        return f"{latex_rows(table)}\n" + "".join(f"{latex_comment(line)}\n" for line in lines)
    return f"{table}\n\n" + "\n".join(map(markdown_line, lines)) + "\n"


def table_path(path: Path, suffix: str) -> Path:
    """Return the path of a table's file.

    Args:
        path: the table's; the suffix of one of its files is replaced, and anything else is part of its name.
        suffix: of the file.

    Example:
        >>> [table_path(Path(name), ".json").name for name in ("films", "films.md", "lr0.1")]
        ['films.json', 'films.json', 'lr0.1.json']
    """
    return path.with_name((path.stem if path.suffix in _SUFFIXES else path.name) + suffix)


def write_comparison(results: Sequence[RunResult], path: Path) -> list[Path]:
    """Write the table as Markdown, LaTeX and JSON; the JSON file has all fields of the results.

    Args:
        results: the runs.
        path: path of the files, as for ``table_path``.

    Returns:
        The three files in this order.

    Raises:
        StorageError: a file cannot be written.
    """
    runs = ",\n".join(json_text(asdict(result)) for result in results)
    markdown, latex, data = (table_path(path, suffix) for suffix in (".md", ".tex", ".json"))
    # the JSON file first: it keeps the runs, and the other two can be made from it
    write_text(data, f"[{runs}]\n", _OTHER_PATH_HINT)
    write_text(markdown, as_table(results), _OTHER_PATH_HINT)
    write_text(latex, as_table(results, "latex_booktabs"), _OTHER_PATH_HINT)
    return [markdown, latex, data]


def table_files(path: Path) -> list[Path]:
    """Return the files that a table and its plot may have.

    Args:
        path: as for ``table_path``.
    """
    return [table_path(path, suffix) for suffix in _SUFFIXES]


def draw_comparison(results: Sequence[RunResult], path: Path) -> Path:
    """Draw the metric that chose the first variant's best epochs as a PNG file.

    Diamonds are means, bars 95 % confidence intervals over test events, dots seeds. Variants without the metric are
    left out.

    Args:
        results: the runs.
        path: path of the file, as for ``table_path``.

    Returns:
        The file.

    Raises:
        StorageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    metric = results[0].valid_metric.lower()
    summaries = [summary for summary in summarize(results)[::-1] if summary.values(metric)]
    figure = Figure(figsize=(7, 1.1 + 0.42 * len(summaries)), layout="constrained")
    axes = figure.subplots()
    for y, summary in enumerate(summaries):
        if (value := estimate(summary.runs, metric)) is not None:
            axes.plot(value.values, [y] * len(value.values), "o", color="0.65", markersize=4, zorder=2)
            axes.errorbar(value.mean, y, xerr=value.half_width, fmt="D", color="C0", capsize=3, markersize=5, zorder=3)
    axes.set_yticks(range(len(summaries)), [plot_text(summary.name, _MAX_NAME) for summary in summaries])
    axes.set_ylim(-0.6, len(summaries) - 0.4)
    axes.set_xlabel(
        f"test {plot_text(metric.upper())}\ndiamond: mean, bar: 95 % interval over test events, dots: seeds"
    )
    axes.set_title(plot_text(results[0].dataset, _MAX_NAME), fontsize="medium")
    axes.grid(axis="x", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    file = table_path(path, ".png")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph ")  # letters that the font lacks are drawn as boxes
        write_atomically(file, lambda out: figure.savefig(out, format="png", dpi=150), _OTHER_PATH_HINT)
    return file


def _numbers(summary: VariantSummary, metrics: Sequence[str], has_tests: bool) -> list[str]:
    runs = summary.runs
    return [
        *(_mean_and_deviation(summary.values(metric)) for metric in metrics),
        *([_p_value(summary.p_value)] if has_tests else []),
        _mean([run.epochs for run in runs], ".0f") if runs[0].epochs else "-",
        _mean([run.seconds_per_epoch for run in runs if run.seconds_per_epoch is not None], ".2f"),
        f"{runs[0].parameters:,}",
    ]


def _mean_and_deviation(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):.4f}"
    deviation = statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan
    return mean if len(values) == 1 else f"{mean} ± {deviation:.4f}"


def _mean(values: Sequence[float], style: str) -> str:
    return format(statistics.fmean(values), style) if values else "-"


def _p_value(value: float | None) -> str:
    if value is None:
        return "-"
    return "<.001" if value < 0.001 else f"{value:.3f}"


def _comparability(results: Sequence[RunResult]) -> str:
    """Say which events all variants were tested on, or that these differ."""
    first = results[0]
    if len({result.test_digest for result in results}) > 1:
        tests = {result.variant: f"{result.test_events} among {result.candidates}" for result in results}
        listed = "; ".join(f"{name}: {test}" for name, test in tests.items())
        return (
            f"{first.dataset}: the rows are NOT tested on the same events ({listed}): do not compare them"
            f"{_commits(results)}."
        )
    is_validated = all(result.best_valid is not None for result in results)
    metrics = " or ".join(dict.fromkeys(result.valid_metric for result in results))
    epoch = f"best epoch by validation {metrics}; " if is_validated else ""
    seeds = sorted({result.seed for result in results})
    return (
        f"{first.dataset}: {first.test_events} test events, the same for every row, each ranked among "
        f"{first.candidates}; {epoch}{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
        f"{_commits(results)}."
    )


def _changed_data(results: Sequence[RunResult]) -> list[str]:
    """Say if rows are not of the same data, of which one file is named."""
    known = [result.files for result in results if result.files]
    changed = next(filter(None, (changed_file(known[0], files) for files in known)), None)
    if changed is None:
        return []
    return [f"{results[0].dataset}: the rows are NOT on the same data ({changed} differs): do not compare them."]


def _commits(results: Sequence[RunResult]) -> str:
    commits = list(dict.fromkeys(str(result.environment_info.get("commit") or "unknown") for result in results))
    if commits == ["unknown"]:
        return ""
    return f"; {'commit' if len(commits) == 1 else 'commits'} {', '.join(commits)}"


def _notes(summaries: Sequence[VariantSummary], has_tests: bool) -> list[str]:
    lines = []
    first = summaries[0]
    seeds = len(first.runs)
    if seeds > 1:
        lines.append("Values are means ± standard deviations over seeds.")
    if has_tests:
        lines.append(
            f"p: difference from {first.name} in {first.runs[0].valid_metric}, paired t-test over the test events"
            f"{', each with its mean over seeds' if seeds > 1 else ''}, Holm's correction."
        )
    incomplete = [summary for summary in summaries if len(summary.runs) < seeds]
    lines += [f"{summary.name}: only {len(summary.runs)} of {seeds} seeds." for summary in incomplete]
    lines += [f"{summary.name}: {summary.runs[0].note}" for summary in summaries if summary.runs[0].note]
    return lines
