"""The item map: items as dots on a plane, coloured by category."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from recbole_llm_interest.io.escaping import plot_text
from recbole_llm_interest.report.plots.style import COLOURS, GREY, INK, MARKERS, MAX_GROUPS, OTHERS, PAPER, WIDE
from recbole_llm_interest.report.statistics import ItemMap

#: events of the path that is drawn
_PATH_EVENTS = 8
#: area of all marks together in square points, from which each has its own
_INK_AREA = 6000
#: all items behind those of a category; it is drawn as pixels, and is visible on light and dark screens
_CLOUD = "#8c8c8c55"


def draw_map(items: ItemMap, width: float) -> Figure:
    """All items as dots by category, with the numbered path of a user's last events; and each category alone.

    Args:
        items: their places on the plane.
        width: in inches.
    """
    is_narrow = width < WIDE
    categories = _largest_categories(items.categories)
    rows = math.ceil(len(categories) / (2 if is_narrow else 1))
    figure = Figure(figsize=(width, 5.4 + 1.4 * rows if is_narrow else 7.4), layout="constrained")
    if is_narrow:
        grid = figure.add_gridspec(2, 1, height_ratios=[3.6, 1.4 * rows])
        small = grid[1].subgridspec(rows, 2)
    else:
        grid = figure.add_gridspec(1, 2, width_ratios=[4.6, 1])
        small = grid[1].subgridspec(rows, 1)
    whole = figure.add_subplot(grid[0])
    area = min(max(_INK_AREA / len(items.coordinates), 16), 60)
    for index, (name, members) in enumerate(categories.items()):
        _scatter(whole, items.coordinates[members], s=area, **_dots(index, name))
        _draw_category(figure.add_subplot(small[divmod(index, small.ncols)]), items, index, name, members)
    if items.path:
        _draw_path(whole, items.coordinates[items.path[-_PATH_EVENTS:]], 8 if is_narrow else 11)
    _add_legends(figure, items, categories, is_narrow)
    whole.set_xlabel(items.axes[0])
    whole.set_ylabel(items.axes[1])
    _hide_ticks(whole)
    return figure


def _add_legends(figure: Figure, items: ItemMap, categories: Mapping[str, NDArray[np.bool_]], is_narrow: bool) -> None:
    """Above the map, the marker, name and size of each category; below it, the items of the path by number."""
    columns, length = (1, 44) if is_narrow else (2, 60)
    look: dict[str, Any] = {"frameon": False, "fontsize": 8, "alignment": "left", "ncols": columns}
    markers = [
        Line2D([], [], linestyle="", marker=marker, color=colour, markeredgecolor=INK, markersize=7,
               label=f"{plot_text(name, length)} ({categories[name].sum():,})")
        for name, (marker, colour) in zip(categories, map(_look, range(len(categories)), categories), strict=True)
    ]  # fmt: skip
    figure.legend(handles=markers, loc="outside upper left", **look)
    steps = enumerate(items.labels[-_PATH_EVENTS:], start=1)
    texts = [Line2D([], [], linestyle="", label=f"{number}  {plot_text(label, length)}") for number, label in steps]
    if texts:
        figure.legend(handles=texts, loc="outside lower left", handlelength=0, handletextpad=0, **look)


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
    _scatter(axes, items.coordinates, s=2, color=_CLOUD, linewidth=0, rasterized=True)
    _scatter(axes, items.coordinates[members], s=7, **_dots(index, name))
    axes.set_title(plot_text(name, 34, width=19), fontsize=7, pad=2)
    _hide_ticks(axes)


def _dots(index: int, name: str) -> dict[str, Any]:
    marker, colour = _look(index, name)
    return {"marker": marker, "color": colour, "edgecolors": INK, "linewidth": 0.35}


def _look(index: int, name: str) -> tuple[str, str]:
    """Marker and colour of a category."""
    return (".", GREY) if name == OTHERS else (MARKERS[index], COLOURS[index])


def _scatter(axes: Axes, points: NDArray[np.float64], **look: Any) -> None:
    axes.scatter(points[:, 0], points[:, 1], **look)


def _hide_ticks(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_path(axes: Axes, points: NDArray[np.float64], size: float) -> None:
    """A line through points ``[P, 2]``, each of which has its number."""
    outline = [withStroke(linewidth=3, foreground=PAPER)]
    axes.plot(points[:, 0], points[:, 1], "-", color=INK, linewidth=1.3, path_effects=outline, zorder=4)
    for number, (x, y) in enumerate(points, start=1):
        axes.plot(x, y, "o", color=INK, markersize=size, markeredgecolor=PAPER, zorder=5)
        text: dict[str, Any] = {"color": PAPER, "fontsize": 0.64 * size, "fontweight": "bold"}
        axes.text(x, y, str(number), ha="center", va="center", zorder=6, **text)
