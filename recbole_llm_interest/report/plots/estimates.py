"""Metrics of several variants, with the values of each seed and confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recbole_llm_interest.evaluation.comparison import Estimate
from recbole_llm_interest.io.escaping import plot_text
from recbole_llm_interest.report.plots.style import ACCENT, GREY, INK, PALE, PAPER, WIDE, label_lines, set_title


def draw_estimates(
    panels: Mapping[str, Mapping[str, Estimate | None]], width: float, share_x: bool = False, columns: int = 3
) -> Figure:
    """One panel for each metric or group, and in it one line for each variant, the first on top.

    Args:
        panels: title -> variant's name -> its value; None where it has none.
        width: in inches.
        share_x: whether all panels have the same scale.
        columns: panels side by side, at most three.
    """
    is_narrow = width < WIDE
    labels = [plot_text(name, 60, width=16 if is_narrow else 22) for name in next(iter(panels.values()))]
    figure, grid = _grid(len(panels), min(columns, 3), labels, width, share_x)
    ends = [_end(by_variant.values()) for by_variant in panels.values()]
    for axes, (title, by_variant), end in zip(grid, panels.items(), ends, strict=False):
        for line, estimate in enumerate(by_variant.values()):
            _draw_estimate(axes, line, estimate)
        set_title(axes, _wrap(title, 44 if is_narrow else 28))
        _style_axes(axes, labels, right=(max(ends) if share_x else end) or 1)
    return figure


def number_text(value: float) -> str:
    """Return a number with four decimals, with two from 2 on, and with none from 100 on.

    >>> [number_text(value) for value in (0.19724, 79.512, 1843.2)]
    ['0.1972', '79.51', '1,843']
    """
    return f"{value:.4f}" if value < 2 else f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def _grid(count: int, columns: int, labels: Sequence[str], width: float, share_x: bool) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` visible panels, high enough for the labels."""
    columns = 1 if width < WIDE else min(count, columns)
    rows = math.ceil(count / columns)
    height = 0.75 + sum(0.24 + 0.15 * label.count("\n") + 0.12 for label in labels)
    figure = Figure(figsize=(width, height * rows + 0.1), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False, sharex=share_x, sharey=True).flatten())
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, grid


def _style_axes(axes: Axes, labels: list[str], right: float) -> None:
    label_lines(axes, labels)
    axes.set_ylim(len(labels) - 0.5, -0.6)
    axes.tick_params(labelbottom=True)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="x", color=PALE)
    axes.set_xlim(-0.14 * right, 1.16 * right)


def _wrap(title: str, width: int) -> str:
    return "\n".join(plot_text(line, 60, width) for line in title.splitlines())


def _end(estimates: Iterable[Estimate | None]) -> float:
    """The right end of the panel's intervals."""
    known = [estimate for estimate in estimates if estimate is not None]
    return max((max(estimate.mean, *(estimate.interval or (0.0,))) for estimate in known), default=0.0)


def _draw_estimate(axes: Axes, line: int, estimate: Estimate | None) -> None:
    if estimate is None:
        axes.text(0, line, " no value", va="center", color=GREY, fontsize=8)
        return
    is_first = line == 0
    if len(estimate.values) > 1:
        axes.plot(estimate.values, [line + 0.24] * len(estimate.values), "|", color=GREY, markersize=5, zorder=2)
    if estimate.interval is not None:
        axes.plot(estimate.interval, [line, line], "|-", color=INK, markersize=6, linewidth=1.2, zorder=3)
    axes.plot(
        estimate.mean, line, "D" if is_first else "o", markersize=6, zorder=4, markeredgecolor=INK,
        markerfacecolor=ACCENT if is_first else PAPER,
    )  # fmt: skip
    axes.annotate(
        number_text(estimate.mean), (estimate.mean, line), (0, 7), textcoords="offset points", ha="center", fontsize=8,
        fontweight="bold" if is_first else "normal",
    )  # fmt: skip
