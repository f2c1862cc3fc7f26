"""How well the events of a stream were predicted before they were read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from recbole_llm_interest.report.plots.curves import curve_panels, draw_curve
from recbole_llm_interest.report.plots.style import set_title


def draw_stream(events: Sequence[int], metrics: Mapping[str, Sequence[float]], width: float) -> Figure:
    """One panel for each metric.

    Args:
        events: evaluated up to the end of each window, ``[W]``.
        metrics: means of the windows by metric, ``[W]`` each.
        width: in inches.
    """
    figure, panels = curve_panels(len(metrics), width)
    for panel, (name, values) in zip(panels, metrics.items(), strict=True):
        draw_curve(panel, events, values, "events evaluated")
        panel.set_ylim(bottom=0)
        set_title(panel, name)
    return figure
