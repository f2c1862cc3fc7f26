"""Panels of curves over whole numbers, such as epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recbole_llm_interest.report.plots.style import INK, PALE, WIDE


def curve_panels(count: int, width: float) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` visible panels."""
    is_narrow = width < WIDE
    fewest_gaps = min((3, 4), key=lambda columns: -count % columns)
    columns = min(count, 2 if is_narrow else fewest_gaps)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width, 0.3 + (2.1 if is_narrow else 2.5) * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flatten())
    for panel in panels[count:]:
        panel.set_visible(False)
    return figure, panels


def draw_curve(panel: Axes, places: Sequence[float], values: Sequence[float], label: str) -> None:
    """Draw values ``[P]`` at whole numbers ``[P]``, with marks if they are few."""
    panel.plot(places, values, "-o" if len(values) <= 30 else "-", color=INK, markersize=3, linewidth=1.3)
    panel.set_xlabel(label)
    panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    panel.yaxis.set_major_locator(MaxNLocator(4))
    panel.grid(axis="y", color=PALE)
    panel.margins(x=0.06, y=0.12)
