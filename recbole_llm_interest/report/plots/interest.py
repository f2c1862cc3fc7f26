"""One user's interest over time, above the events that changed it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from recbole_llm_interest.io.escaping import plot_text
from recbole_llm_interest.report.plots.picture import Picture
from recbole_llm_interest.report.plots.style import (
    COLOURS,
    GREY,
    INK,
    MARKERS,
    MAX_GROUPS,
    OTHERS,
    PALE,
    PAPER,
    WIDE,
    band,
    label_lines,
)
from recbole_llm_interest.report.statistics import InterestTrajectory

#: events that a narrow figure shows
_MAX_NARROW_EVENTS = 15
#: times outside of this range are not seconds since 1970
_EARLIEST, _LATEST = 1e8, 1e10
#: least vertical distance of two names
_NAME_GAP = 0.085


def largest_interests(trajectory: InterestTrajectory) -> tuple[list[str], NDArray[np.float64]]:
    """The interests with the largest mean weights, and one for all others.

    Returns:
        Their names, and their weights after each event, ``[T, K]``.
    """
    largest = np.argsort(-trajectory.weights.mean(axis=0), kind="stable")[:MAX_GROUPS]
    names, weights = [trajectory.names[group] for group in largest], trajectory.weights[:, largest]
    if len(trajectory.names) <= MAX_GROUPS:
        return names, weights
    return [*names, OTHERS], np.column_stack([weights, 1 - weights.sum(axis=1)])


def draw_interest(trajectory: InterestTrajectory, width: float) -> Picture:
    """Stacked areas of the interest after each event; below, each event on the line of the interest that it is of.

    Args:
        trajectory: one user's; a narrow figure shows its last events.
        width: in inches.
    """
    names, weights = largest_interests(trajectory)
    is_narrow = width < WIDE
    shown = min(len(weights), _MAX_NARROW_EVENTS) if is_narrow else len(weights)
    end = trajectory.before + len(weights)
    numbers = range(end - shown + 1, end + 1)
    figure = Picture(figsize=(width, 7.4 if is_narrow else 6.6), layout="constrained")
    areas, events = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [1.5, 1]})
    _draw_areas(areas, numbers, names, weights[-shown:])
    if is_narrow:
        _add_legend(figure, names)
    else:
        _name_areas(areas, names, weights[-1], numbers[-1] + 0.5)
    _draw_events(events, numbers, names, trajectory)
    label_lines(events, [plot_text(name, 16 if is_narrow else 24) for name in names])
    return figure


def _draw_areas(areas: Axes, numbers: range, names: Sequence[str], weights: NDArray[np.float64]) -> None:
    """One column for each event, ``weights`` ``[T, K]``."""
    edges = np.arange(numbers[0] - 0.5, numbers[-1] + 1)
    levels = np.cumsum(np.column_stack([np.zeros(len(weights)), weights]), axis=1)
    levels = np.vstack([levels, levels[-1]])
    for index, name in enumerate(names):
        areas.fill_between(edges, levels[:, index], levels[:, index + 1], step="post", **band(index, name))
    areas.set_xlim(edges[0], edges[-1])
    areas.set_ylim(0, 1)
    areas.set_ylabel("how likely the next item is")


def _add_legend(figure: Figure, names: Sequence[str]) -> None:
    """The areas' names above the figure, in the order in which they are stacked."""
    patches = [Patch(label=plot_text(name, 60, width=44), **band(index, name)) for index, name in enumerate(names)]
    figure.legend(handles=patches[::-1], loc="outside upper left", frameon=False, fontsize=8, handlelength=2.4)


def _name_areas(areas: Axes, names: Sequence[str], weights: NDArray[np.float64], end: float) -> None:
    """Each area's name at its right end, at ``end``; ``weights`` ``[K]`` are those after the last event."""
    heights = np.cumsum(weights) - weights / 2
    x = end + 0.03 * (end - areas.get_xlim()[0])
    for name, height, y in zip(names, heights, _spread(heights, _NAME_GAP), strict=True):
        areas.annotate(
            plot_text(name, 28), (end, height), (x, y), va="center", fontsize=8,
            annotation_clip=False, arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.7},
        )  # fmt: skip


def _spread(heights: NDArray[np.float64], gap: float) -> list[float]:
    """Ascending ``heights``, moved as little as needed to be ``gap`` apart between 0 and 1."""
    spread: list[float] = []
    for height in heights:
        spread.append(max(float(height), spread[-1] + gap if spread else gap / 2))
    top = 1 - gap / 2
    for index in reversed(range(len(spread))):
        spread[index] = min(spread[index], top)
        top = spread[index] - gap
    return spread


def _draw_events(events: Axes, numbers: range, names: Sequence[str], trajectory: InterestTrajectory) -> None:
    """A marker for each of the last events, on the line of its interest or of the others."""
    line_of = {name: line for line, name in enumerate(names)}
    shown = slice(-len(numbers), None)
    for number, group in zip(numbers, trajectory.groups[shown], strict=True):
        line = line_of.get(trajectory.names[group], len(names) - 1)
        colour = PAPER if names[line] == OTHERS else COLOURS[line]
        events.plot(number, line, MARKERS[line], color=colour, markeredgecolor=INK, markersize=7, zorder=3)
    events.set_ylim(-0.6, len(names) - 0.4)
    events.grid(axis="y", color=PALE)
    labels = zip(trajectory.labels[shown], numbers, strict=True)
    events.set_xticks(numbers, [f"{plot_text(label, 24)}  {number}" for label, number in labels], rotation=90)
    events.set_xlabel(f"event{_dates(trajectory.times[shown])}")


def _dates(times: Sequence[float]) -> str:
    """The first and the last date in brackets, or nothing where times are not seconds since 1970."""
    known = [time for time in times if time == time]  # NaN: not known
    if not known or min(known) < _EARLIEST or max(known) > _LATEST:
        return ""
    first, last = (f"{datetime.fromtimestamp(time, UTC):%d %b %Y}" for time in (min(known), max(known)))
    return f" ({first})" if first == last else f" ({first} to {last})"
