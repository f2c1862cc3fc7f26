"""The item map: items as dots on a plane, coloured by category."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from recbole_llm_interest.io.escaping import plot_text
from recbole_llm_interest.report.plots.style import COLOURS, DARK, MARKERS, MAX_GROUPS, OTHERS, WIDE
from recbole_llm_interest.report.statistics import ItemMap

#: events of the path that is drawn
_PATH_EVENTS = 8


def draw_map(items: ItemMap, width: float) -> Figure:
    """All items as dots by category, with the numbered path of a user's last events; and each category alone.

    Args:
        items: their places on the plane.
        width: in inches.
    """
    is_narrow = width < WIDE
    categories = _largest_categories(items.categories)
    rows = math.ceil(len(categories) / 2)
    figure = Figure(figsize=(width, 5.0 + 1.3 * rows if is_narrow else 6.4), layout="constrained")
    if is_narrow:
        grid = figure.add_gridspec(2, 1, height_ratios=[3.4, 1.3 * rows])
    else:
        grid = figure.add_gridspec(1, 2, width_ratios=[2, 1])
    small = grid[1].subgridspec(rows, 2)
    whole = figure.add_subplot(grid[0])
    for index, (name, members) in enumerate(categories.items()):
        _scatter(whole, items.coordinates[members], s=12, **_dots(index, name))
        _draw_category(figure.add_subplot(small[index // 2, index % 2]), items, index, name, members)
    if items.path:
        _draw_path(whole, items.coordinates[items.path[-_PATH_EVENTS:]], 8 if is_narrow else 11)
        steps = enumerate(items.labels[-_PATH_EVENTS:], start=1)
        legend = "\n".join(f"{number}  {plot_text(label, 44)}" for number, label in steps)
        figure.supxlabel(legend, x=0.02, ha="left", fontsize=8)
    whole.set_xlabel(items.axes[0])
    whole.set_ylabel(items.axes[1])
    _hide_ticks(whole)
    return figure


def _largest_categories(names: list[str]) -> dict[str, NDArray[np.bool_]]:
    """The members of the largest categories, the largest first, and of one for all others, each ``[n]``."""
    counts = Counter(names)
    kept = len(counts) if len(counts) <= MAX_GROUPS + 1 else MAX_GROUPS
    of_item = np.array(names)
    categories = {name: of_item == name for name, _ in counts.most_common(kept)}
    others = ~np.logical_or.reduce(list(categories.values()))
    return {**categories, OTHERS: others} if others.any() else categories


def _draw_category(axes: Axes, items: ItemMap, index: int, name: str, members: NDArray[np.bool_]) -> None:
    """One category on the grey shape of all items; ``members`` is ``[n]``."""
    dots = items.coordinates[members]
    _scatter(axes, items.coordinates, s=2, color="0.82", linewidth=0)
    _scatter(axes, dots, s=8, **{**_dots(index, name), "edgecolors": DARK})
    axes.set_title(f"{plot_text(name, 34, width=19)} ({len(dots):,})", fontsize=8, pad=2)
    _hide_ticks(axes)


def _dots(index: int, name: str) -> dict[str, Any]:
    marker, colour = (".", "0.35") if name == OTHERS else (MARKERS[index], COLOURS[index])
    return {"marker": marker, "color": colour, "edgecolors": "white", "linewidth": 0.2, "alpha": 0.85}


def _scatter(axes: Axes, points: NDArray[np.float64], **look: Any) -> None:
    axes.scatter(points[:, 0], points[:, 1], rasterized=True, **look)


def _hide_ticks(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_path(axes: Axes, points: NDArray[np.float64], size: float) -> None:
    """A line through points ``[P, 2]``, each of which has its number."""
    outline = [withStroke(linewidth=3, foreground="white")]
    axes.plot(points[:, 0], points[:, 1], "-", color="black", linewidth=1.3, path_effects=outline, zorder=4)
    for number, (x, y) in enumerate(points, start=1):
        axes.plot(x, y, "o", color="black", markersize=size, markeredgecolor="white", zorder=5)
        text: dict[str, Any] = {"color": "white", "fontsize": 0.64 * size, "fontweight": "bold"}
        axes.text(x, y, str(number), ha="center", va="center", zorder=6, **text)
