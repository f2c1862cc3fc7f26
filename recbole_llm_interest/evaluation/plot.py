"""The plot of a comparison: one metric of every variant, with seen items kept and filtered side by side."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_llm_interest.evaluation.collector import FILTERED
from recbole_llm_interest.evaluation.comparison import VariantSummary, base_metric, estimate, summarize
from recbole_llm_interest.evaluation.results import RunResult
from recbole_llm_interest.evaluation.table import OTHER_PATH_HINT, table_path
from recbole_llm_interest.io.escaping import plot_text
from recbole_llm_interest.io.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: characters of a row's name, and of a line of it
_MAX_NAME, _NAME_LINE = 60, 30
_LEGEND = "diamond: mean, bar: 95 % bootstrap interval over test events, dots: seeds"


def draw_comparison(results: Sequence[RunResult], path: Path) -> Path:
    """Draw the metric that chose the first variant's best epochs as a PNG file.

    One panel is with seen items as candidates, the other with seen items filtered; a panel that no variant has is left
    out, and so are variants that have neither.

    Args:
        results: the runs.
        path: path of the file, as for ``table_path``.

    Returns:
        The file.

    Raises:
        StorageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    metric = base_metric(results[0].valid_metric)
    panels = {metric: f"test {metric.upper()}", FILTERED + metric: f"test {metric.upper()}, seen items filtered"}
    summaries = [
        summary for summary in summarize(results)[::-1] if any(summary.values(of_panel) for of_panel in panels)
    ]
    panels = {of: title for of, title in panels.items() if any(summary.values(of) for summary in summaries)}
    names = [plot_text(summary.name, _MAX_NAME, width=_NAME_LINE) for summary in summaries]
    height = 1.3 + sum(0.27 + 0.15 * (1 + name.count("\n")) for name in names)
    figure = Figure(figsize=(4 + 3.5 * max(len(panels), 1), height), layout="constrained")
    axes = figure.subplots(1, max(len(panels), 1), sharey=True, squeeze=False)[0]
    for part, (of_panel, title) in zip(axes, panels.items(), strict=False):
        _draw_panel(part, summaries, of_panel)
        part.set_xlabel(plot_text(title))
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(-0.6, len(names) - 0.4)
    figure.suptitle(plot_text(results[0].dataset, _MAX_NAME), fontsize="medium")
    figure.supxlabel(_LEGEND, fontsize="small")
    return _write(figure, table_path(path, ".png"))


def _write(figure: Figure, file: Path) -> Path:
    """Write a figure with fonts that have its letters; a warning names the letters that no font has."""
    from recbole_llm_interest.io.fonts import font_advice, use_fonts_for

    for line in font_advice(use_fonts_for(figure)):
        logging.getLogger().warning("%s: %s", file, line)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph ")  # the warning above names all letters at once
        write_atomically(file, lambda out: figure.savefig(out, format="png", dpi=150), OTHER_PATH_HINT)
    return file


def _draw_panel(axes: Axes, summaries: Sequence[VariantSummary], metric: str) -> None:
    for y, summary in enumerate(summaries):
        value = estimate(summary.runs, metric)
        if value is None:
            axes.annotate("no value", (0.02, y), xycoords=("axes fraction", "data"), va="center", color="0.5")
            continue
        axes.plot(value.values, [y] * len(value.values), "o", color="0.65", markersize=4, zorder=2)
        if value.interval is not None:
            axes.plot(value.interval, [y, y], "|-", color="C0", markersize=7, zorder=3)
        axes.plot(value.mean, y, "D", color="C0", markersize=5, zorder=4)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="x", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
