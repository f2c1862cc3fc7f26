"""Widths, colours, hatches and markers that the report's figures share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes

#: widths of a figure in inches
WIDE, NARROW = 9.5, 4.0
#: interests, or categories of the map, with a colour of their own; the others share one
MAX_GROUPS = 6
#: name of the group that holds the others
OTHERS = "all others"
#: colours of text and lines, of less important ones, of grids, and of the background; those of dark screens are beside
INK, GREY, PALE, PAPER = "#1a1a1a", "#6a6a6a", "#dededf", "#ffffff"
ON_DARK = {INK: "#ececec", GREY: "#a6a6a6", PALE: "#3d4048", PAPER: "#16181d"}
#: outlines and hatches on an area of a colour, which is the same on light and dark screens
EDGE = "#111111"
ACCENT, WARM = "#0072B2", "#B8442B"
#: differ in lightness too (after Okabe and Ito, 2008); the first is the darkest
COLOURS = [ACCENT, "#E69F00", "#7A3B69", "#56B4E9", WARM, "#F0E442", "#009E73"]
HATCHES = ["///", "...", "xxx", "", "\\\\\\", "ooo", "---"]
MARKERS = ["o", "^", "s", "D", "v", "P", "X"]


@contextmanager
def style() -> Iterator[None]:
    """Set matplotlib's style: small text, letters as outlines, and files that are equal for equal figures.

    There is no warning for each letter that no font has: see ``io/fonts.py``.
    """
    with warnings.catch_warnings(), mpl.rc_context({
        "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8,
        "axes.spines.top": False, "axes.spines.right": False, "hatch.linewidth": 0.5,
        "svg.fonttype": "path", "svg.hashsalt": "report", "text.usetex": False,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
        "hatch.color": EDGE, "figure.facecolor": PAPER, "axes.facecolor": PAPER, "savefig.facecolor": PAPER,
    }):  # fmt: skip
        warnings.filterwarnings("ignore", "Glyph ")
        yield


def set_title(axes: Axes, title: str) -> None:
    """A panel's title: bold, at the left."""
    axes.set_title(title, loc="left", fontweight="bold")


def label_lines(axes: Axes, labels: list[str]) -> None:
    """Name the horizontal lines at 0, 1, … of a panel, without ticks."""
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0)


def band(index: int, name: str) -> dict[str, Any]:
    """Colour and hatch of a group's area; the background's without hatch for the others."""
    is_others = name == OTHERS
    return {
        "facecolor": PAPER if is_others else _lighten(COLOURS[index]),
        "hatch": "" if is_others else HATCHES[index],
        "edgecolor": INK if is_others else EDGE,
        "linewidth": 0.8,
    }


def _lighten(colour: str) -> tuple[float, ...]:
    return tuple(0.45 + 0.55 * part for part in mpl.colors.to_rgb(colour))
