"""The tables of a comparison, as text and as files: accuracy, and below it what else the lists and the runs are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tabulate import tabulate

from recbole_llm_interest.evaluation.collector import FILTERED
from recbole_llm_interest.evaluation.comparison import PValues, VariantSummary, base_metric, summarize
from recbole_llm_interest.evaluation.list_metrics import is_list_metric, short_name
from recbole_llm_interest.evaluation.notes import notes_on
from recbole_llm_interest.evaluation.results import RunResult
from recbole_llm_interest.io.escaping import (
    json_text,
    latex_comment,
    latex_rows,
    markdown_cell,
    markdown_line,
    one_line,
)
from recbole_llm_interest.io.files import write_text

#: end of the error message if the files cannot be written
OTHER_PATH_HINT = "give another place by --table"
#: suffixes of a table's files
_SUFFIXES = (".json", ".md", ".tex", ".png")
#: columns of costs, by the field of ``RunResult``, and how their means are written
_COSTS = {
    "seconds_per_epoch": ("s/epoch", ".2f"),
    "cpu_seconds_per_epoch": ("CPU s/epoch", ".2f"),
    "seconds_to_best": ("s to best", ".0f"),
    "peak_memory_mb": ("peak MiB", ",.0f"),
}
#: head of the table, then its rows
_Columns = list[list[str]]


def as_table(results: Sequence[RunResult], style: str = "github", width: int | None = None) -> str:
    """Return the two tables, and below them what the variants have in common and how they were tested.

    The first has the accuracy, with seen items kept and filtered. The second has what the lists are beyond that, and
    what the runs cost.

    Args:
        results: runs in the order of the rows; the first variant is the reference of the tests.
        style: table format of ``tabulate``, such as ``github`` for Markdown or ``latex_booktabs``.
        width: characters of a line; a wider table becomes two, with some of the columns each. None for any.
    """
    summaries = summarize(results)
    names = [["model"], *([summary.name] for summary in summaries)]
    metrics = list(dict.fromkeys(metric for result in results for metric in result.test))
    accuracy = _accuracy(summaries, [metric for metric in metrics if not is_list_metric(metric)])
    lists = _list_metrics(summaries, [metric for metric in metrics if is_list_metric(metric)])
    tables = [
        *_fitting(names, accuracy, style, width),
        *_fitting(names, [lists, _costs(summaries)], style, width),
    ]
    lines = notes_on(results, summaries)
    if style.startswith("latex"):
        return "\n\n".join(map(latex_rows, tables)) + "\n" + "".join(f"{latex_comment(line)}\n" for line in lines)
    return "\n\n".join([*tables, "\n".join(map(markdown_line, lines))]) + "\n"


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
    """Write the tables as Markdown, LaTeX and JSON; the JSON file has all fields of the results.

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
    write_text(data, f"[{runs}]\n", OTHER_PATH_HINT)
    write_text(markdown, as_table(results), OTHER_PATH_HINT)
    write_text(latex, as_table(results, "latex_booktabs"), OTHER_PATH_HINT)
    return [markdown, latex, data]


def table_files(path: Path) -> list[Path]:
    """Return the files that a table and its plot may have.

    Args:
        path: as for ``table_path``.
    """
    return [table_path(path, suffix) for suffix in _SUFFIXES]


def p_values_text(values: PValues | None) -> str:
    """Return the p-values of both tests for a cell, such as ``0.012 / <.001``; a dash without tests.

    >>> p_values_text(PValues(t=0.0123, wilcoxon=0.0001))
    '0.012 / <.001'
    """
    if values is None:
        return "-"
    return " / ".join("<.001" if value < 0.001 else f"{value:.3f}" for value in (values.t, values.wilcoxon))


def _accuracy(summaries: Sequence[VariantSummary], metrics: Sequence[str]) -> tuple[_Columns, _Columns]:
    """Return the columns of accuracy with seen items kept, and those with seen items filtered."""
    filtered = [metric for metric in metrics if metric.startswith(FILTERED)]
    kept = [metric for metric in metrics if metric not in filtered]
    return (
        _with_tests(summaries, kept, [summary.p_values for summary in summaries]),
        _with_tests(summaries, filtered, [summary.filtered_p_values for summary in summaries]),
    )


def _with_tests(
    summaries: Sequence[VariantSummary], metrics: Sequence[str], tests: Sequence[PValues | None]
) -> _Columns:
    """Return a column for each metric, and one of the p-values if there are metrics and tests."""
    values = [[_mean_and_deviation(summary.values(metric)) for metric in metrics] for summary in summaries]
    columns = [[_accuracy_name(metric) for metric in metrics], *values]
    if not metrics or not any(tests):
        return columns
    return _side_by_side(columns, [["p (t / W)"], *([p_values_text(test)] for test in tests)])


def _list_metrics(summaries: Sequence[VariantSummary], metrics: Sequence[str]) -> _Columns:
    """Return a column for each metric of the lists, with its value for seen items kept and for seen items filtered."""
    shown = list(dict.fromkeys(map(base_metric, metrics)))
    parts = [[part for part in (metric, FILTERED + metric) if part in metrics] for metric in shown]
    rows = [[_kept_and_filtered(summary, of_metric) for of_metric in parts] for summary in summaries]
    return [[short_name(metric) for metric in shown], *rows]


def _kept_and_filtered(summary: VariantSummary, metrics: Sequence[str]) -> str:
    values = [summary.values(metric) for metric in metrics]
    return " / ".join(_mean(of_metric, ".3f") for of_metric in values) if any(values) else "-"


def _costs(summaries: Sequence[VariantSummary]) -> _Columns:
    """Return the columns of costs, without those that no run has but the time of an epoch."""
    runs = [run for summary in summaries for run in summary.runs]
    shown = [name for name in _COSTS if name == "seconds_per_epoch" or _known(runs, name)]
    head = ["epochs", *(_COSTS[name][0] for name in shown), "parameters"]
    return [head, *(_costs_of(summary.runs, shown) for summary in summaries)]


def _costs_of(runs: Sequence[RunResult], names: Sequence[str]) -> list[str]:
    epochs = _mean(_known(runs, "epochs"), ".0f") if runs[0].epochs else "-"
    return [epochs, *(_mean(_known(runs, name), _COSTS[name][1]) for name in names), f"{runs[0].parameters:,}"]


def _fitting(names: _Columns, parts: Sequence[_Columns], style: str, width: int | None) -> list[str]:
    """Return one table with all columns, or one for each part if that one is wider than ``width``."""
    table = _written(_side_by_side(names, *parts), style)
    if width is None or max(map(len, table.splitlines())) <= width:
        return [table]
    return [_written(_side_by_side(names, part), style) for part in parts if part[0]]


def _side_by_side(*parts: _Columns) -> _Columns:
    return [[cell for line in lines for cell in line] for lines in zip(*parts, strict=True)]


def _written(lines: _Columns, style: str) -> str:
    cell = one_line if style.startswith("latex") else markdown_cell  # tabulate escapes LaTeX's special characters
    header, *body = [[cell(text) for text in line] for line in lines]
    alignment = ("left", *["right"] * (len(header) - 1))
    return tabulate(body, header, tablefmt=style, disable_numparse=True, colalign=alignment)


def _accuracy_name(metric: str) -> str:
    return metric.replace(FILTERED, "filtered ", 1) if metric.startswith(FILTERED) else metric


def _mean_and_deviation(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):.4f}"
    deviation = statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan
    return mean if len(values) == 1 else f"{mean} ± {deviation:.4f}"


def _mean(values: Sequence[float], style: str) -> str:
    return format(statistics.fmean(values), style) if values else "-"


def _known(runs: Sequence[RunResult], name: str) -> list[float]:
    """Return a field of the runs that have it."""
    return [value for run in runs if (value := getattr(run, name)) is not None]
