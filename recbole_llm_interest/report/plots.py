"""The report's figures: numbers in, a matplotlib figure out.

Each is drawn at a given width in inches, so that a page can have one for a wide screen and one for a phone with text of
the same size. All hold in black and white: bands differ by hatch, marks by shape, and names stand where they belong.
"""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from recbole_llm_interest.evaluation.comparison import Estimate
from recbole_llm_interest.report.statistics import ItemMap, Journey, ModalityWeight

#: widths in inches
WIDE, NARROW = 9.5, 4.0
#: interests, and categories of a map, that are told apart; the others are one
_TOLD_APART = 6
#: events of a journey on a phone
_FEW_EVENTS = 15
#: events of a path over the map
_STEPS = 8
_DARK, _GREY, _PALE = "0.1", "0.55", "0.88"
#: differ in lightness too (after Okabe and Ito, 2008), the first the darkest
_COLOURS = ["#0072B2", "#E69F00", "#7A3B69", "#56B4E9", "#B8442B", "#F0E442", "#009E73"]
_HATCHES = ["///", "...", "xxx", "", "\\\\\\", "ooo", "---"]
_MARKERS = ["o", "^", "s", "D", "v", "P", "X"]
#: times of events before this are no seconds since 1970 that anyone recorded
_EARLIEST = 1e8
_OTHERS = "all others"


@contextmanager
def style() -> Iterator[None]:
    """How figures are drawn and written: no date and no chance in the files, letters as outlines."""
    with mpl.rc_context({
        "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8,
        "axes.spines.top": False, "axes.spines.right": False, "hatch.linewidth": 0.5,
        "svg.fonttype": "path", "svg.hashsalt": "report",
    }):  # fmt: skip
        yield


def draw_training(losses: Mapping[str, Sequence[float]], valid: Sequence[Sequence[float]], metric: str,
                  width: float) -> Figure:  # fmt: skip
    """A panel for each part of the loss by epoch, and one for the validation score with its best epoch.

    Args:
        losses: one value an epoch, by part.
        valid: pairs of epochs trained and score.
        metric: what the score is.
        width: in inches.
    """
    count = len(losses) + bool(valid)
    wide = min((3, 4), key=lambda columns: -count % columns)  # which leaves fewer places empty
    columns = min(count, 2 if width < WIDE else wide)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width, 0.3 + (2.1 if width < WIDE else 2.5) * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel in panels[count:]:
        panel.set_visible(False)
    for panel, (name, values) in zip(panels, losses.items(), strict=False):
        _curve(panel, list(range(1, len(values) + 1)), values)
        panel.set_title(f"loss: {name}", loc="left", fontweight="bold")
    if valid:
        epochs, scores = zip(*valid, strict=True)
        panel = panels[count - 1]
        _curve(panel, epochs, scores)
        best = int(np.argmax(scores))
        panel.plot(epochs[best], scores[best], "*", color="#B8442B", markersize=13, markeredgecolor="white", zorder=4)
        panel.set_title(f"validation {metric}", loc="left", fontweight="bold")
        panel.set_xlabel(f"epoch (star: best, {scores[best]:.4f}\nat epoch {epochs[best]:.0f})")
    return figure


def _curve(panel: Axes, epochs: Sequence[float], values: Sequence[float]) -> None:
    panel.plot(epochs, values, "-o" if len(values) <= 30 else "-", color=_DARK, markersize=3, linewidth=1.3)
    panel.set_xlabel("epoch")
    panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    panel.yaxis.set_major_locator(MaxNLocator(4))
    panel.grid(axis="y", color=_PALE)
    panel.margins(x=0.06, y=0.12)


def draw_estimates(
    panels: Mapping[str, Mapping[str, Estimate | None]], width: float, one_scale: bool = False
) -> Figure:
    """A panel for each metric or group, and in it a line for each row of the table, the first one on top.

    Args:
        panels: title -> row's name -> its value; None where there is none.
        width: in inches.
        one_scale: whether values of different panels are of one kind.
    """
    names = list(next(iter(panels.values())))
    is_narrow = width < WIDE
    columns = 1 if is_narrow else min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    labels = [textwrap.fill(_plain(name, 60), 16 if is_narrow else 22) for name in names]
    height = 0.75 + sum(0.24 + 0.15 * label.count("\n") + 0.12 for label in labels)
    figure = Figure(figsize=(width, height * rows + 0.1), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=one_scale, sharey=True)
    for axes in grid.flatten()[len(panels):]:  # fmt: skip
        axes.set_visible(False)
    for axes, (title, by_row) in zip(grid.flatten(), panels.items(), strict=False):
        for place, estimate in enumerate(by_row.values()):
            _estimate(axes, place, estimate)
        lines = [textwrap.fill(_plain(line, 60), 44 if is_narrow else 28) for line in title.splitlines()]
        axes.set_title("\n".join(lines), loc="left", fontweight="bold")
        axes.set_yticks(range(len(names)), labels)
        axes.set_ylim(len(names) - 0.5, -0.6)
        axes.tick_params(labelbottom=True)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="x", color=_PALE)
        axes.tick_params(axis="y", length=0)
    ends = {title: max((_end(value) for value in by_row.values()), default=0) for title, by_row in panels.items()}
    for axes, end in zip(grid.flatten(), ends.values(), strict=False):
        right = (max(ends.values()) if one_scale else end) or 1
        axes.set_xlim(-0.14 * right, 1.16 * right)
    return figure


def _end(estimate: Estimate | None) -> float:
    return 0.0 if estimate is None else estimate.mean + (estimate.half or 0.0)


def _estimate(axes: Axes, place: int, estimate: Estimate | None) -> None:
    if estimate is None:
        axes.text(0, place, " no value", va="center", color=_GREY, fontsize=8)
        return
    is_first = place == 0
    if len(estimate.values) > 1:
        axes.plot(estimate.values, [place + 0.24] * len(estimate.values), "|", color=_GREY, markersize=5, zorder=2)
    axes.errorbar(
        estimate.mean, place, xerr=estimate.half, fmt="D" if is_first else "o", markersize=6, capsize=3, zorder=3,
        color=_DARK, markerfacecolor="#0072B2" if is_first else "white", markeredgecolor=_DARK, elinewidth=1.2,
    )  # fmt: skip
    axes.annotate(
        f"{estimate.mean:.4f}", (estimate.mean, place), (0, 7), textcoords="offset points", ha="center", fontsize=8,
        fontweight="bold" if is_first else "normal",
    )  # fmt: skip


def draw_modalities(weights: Mapping[str, Sequence[ModalityWeight]], width: float) -> Figure:
    """A bar for each modality's mean weight in items, and in users; the line is where the middle four fifths lie."""
    is_narrow = width < WIDE
    counts = [len(of_kind) for of_kind in weights.values()]
    shape = (len(weights), 1) if is_narrow else (1, len(weights))
    tallest = sum(counts) if is_narrow else max(counts)
    figure = Figure(figsize=(width, 0.5 * tallest + 0.75 * shape[0]), layout="constrained")
    ratios = {"height_ratios": [count + 0.8 for count in counts]} if is_narrow else {}
    grid = figure.subplots(*shape, squeeze=False, sharex=True, gridspec_kw=ratios).flatten()
    names = sorted({weight.name for of_kind in weights.values() for weight in of_kind})
    for axes, (kind, of_kind) in zip(grid, weights.items(), strict=True):
        for place, weight in enumerate(of_kind):
            number = names.index(weight.name)
            axes.barh(place, weight.mean, 0.62, facecolor=_COLOURS[number % len(_COLOURS)], alpha=0.55,
                      hatch=_HATCHES[number % len(_HATCHES)], edgecolor=_DARK)  # fmt: skip
            axes.errorbar((weight.low + weight.high) / 2, place, xerr=(weight.high - weight.low) / 2, color="black",
                          capsize=3, linewidth=1.3)  # fmt: skip
            end = max(weight.mean, weight.high)
            axes.annotate(f"{weight.mean:.2f}", (end, place), (6, 0), textcoords="offset points", va="center",
                          fontweight="bold")  # fmt: skip
        axes.set_title(f"{kind}", loc="left", fontweight="bold")
        axes.set_yticks(range(len(of_kind)), [f"{w.name}\n{w.present:,} of {w.rows:,}" for w in of_kind])
        axes.set_ylim(len(of_kind) - 0.4, -0.6)
        axes.set_xlim(0, 1.14)
        axes.set_xlabel("mean weight")
        axes.tick_params(axis="y", length=0)
    return figure


def told_apart(found: Journey) -> tuple[list[str], NDArray[np.float64]]:
    """The heaviest interests of a journey by name, and all others as one; and their weights, ``[T, K]``."""
    best = np.argsort(-found.weights.mean(axis=0), kind="stable")[:_TOLD_APART]
    rest = 1 - found.weights[:, best].sum(axis=1)
    names = [found.names[place] for place in best]
    if len(found.names) <= _TOLD_APART:
        return names, found.weights[:, best]
    return [*names, _OTHERS], np.column_stack([found.weights[:, best], rest])


def draw_journey(found: Journey, width: float) -> Figure:
    """Stacked areas of the interest after each event, and below them the events in the line of their own interest."""
    names, weights = told_apart(found)
    is_narrow = width < WIDE
    shown = min(len(weights), _FEW_EVENTS) if is_narrow else len(weights)
    end = found.before + len(weights)
    numbers = list(range(end - shown + 1, end + 1))
    figure = Figure(figsize=(width, 7.4 if is_narrow else 6.6), layout="constrained")
    areas, events = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [1.5, 1]})
    _stack(areas, numbers, names, weights[-shown:])
    if is_narrow:
        bands = [
            Patch(label=textwrap.fill(_plain(name, 60), 44), **_band(place, name)) for place, name in enumerate(names)
        ]
        figure.legend(handles=bands[::-1], loc="outside upper left", frameon=False, fontsize=8, handlelength=2.4)
    else:
        _name_at_the_end(areas, names, weights[-1], numbers[-1] + 0.5)
    lines = [
        names.index(name) if name in names else len(names) - 1 for name in map(found.names.__getitem__, found.group)
    ]
    for number, line in zip(numbers, lines[-shown:], strict=True):
        colour = "white" if names[line] == _OTHERS else _COLOURS[line]
        events.plot(number, line, _MARKERS[line], color=colour, markeredgecolor=_DARK, markersize=7, zorder=3)
    events.set_ylim(-0.6, len(names) - 0.4)
    length = 16 if is_narrow else 24
    events.set_yticks(range(len(names)), [_plain(name, length) for name in names])
    events.tick_params(axis="y", length=0)
    events.grid(axis="y", color=_PALE)
    labels = zip(found.labels[-shown:], numbers, strict=True)
    events.set_xticks(numbers, [f"{_plain(label, 24)}  {number}" for label, number in labels], rotation=90)
    events.set_xlabel(f"event{_span(found.times[-shown:])}")
    return figure


def _stack(areas: Axes, numbers: Sequence[int], names: Sequence[str], weights: NDArray[np.float64]) -> None:
    """A column for each event, so that what it changed is seen where it stands."""
    edges = np.arange(numbers[0] - 0.5, numbers[-1] + 1)
    levels = np.cumsum(np.column_stack([np.zeros(len(weights)), weights]), axis=1)
    levels = np.vstack([levels, levels[-1]])
    for place, name in enumerate(names):
        areas.fill_between(edges, levels[:, place], levels[:, place + 1], step="post", **_band(place, name))
    areas.set_xlim(edges[0], edges[-1])
    areas.set_ylim(0, 1)
    areas.set_ylabel("share of the next event")


def _name_at_the_end(areas: Axes, names: Sequence[str], weights: NDArray[np.float64], end: float) -> None:
    """Each band's name beside where it ends."""
    heights = np.cumsum(weights) - weights / 2
    margin = end + 0.03 * (end - areas.get_xlim()[0])
    for name, height, placed in zip(names, heights, _apart(heights, 0.085), strict=True):
        areas.annotate(
            _plain(name, 28), (end, height), (margin, placed), va="center", fontsize=8,
            annotation_clip=False, arrowprops={"arrowstyle": "-", "color": _GREY, "lw": 0.7},
        )  # fmt: skip


def _band(place: int, name: str) -> dict[str, Any]:
    is_rest = name == _OTHERS
    return {
        "facecolor": "white" if is_rest else _light(_COLOURS[place]),
        "hatch": "" if is_rest else _HATCHES[place],
        "edgecolor": _DARK,
        "linewidth": 0.8,
    }


def _light(colour: str) -> tuple[float, ...]:
    return tuple(0.45 + 0.55 * part for part in mpl.colors.to_rgb(colour))


def _apart(heights: Sequence[float] | NDArray[np.float64], gap: float) -> list[float]:
    """``heights``, ascending, moved as little as it takes to lie ``gap`` apart within 0 and 1."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(float(height), placed[-1] + gap if placed else gap / 2))
    top = 1 - gap / 2
    for place in reversed(range(len(placed))):
        placed[place] = min(placed[place], top)
        top = placed[place] - gap
    return placed


def _span(times: Sequence[float]) -> str:
    """From when to when, where times can be read as seconds since 1970."""
    known = [time for time in times if time == time]
    if not known or min(known) < _EARLIEST or max(known) > 1e10:
        return ""
    first, last = (f"{datetime.fromtimestamp(time, UTC):%d %b %Y}" for time in (min(known), max(known)))
    return f" ({first})" if first == last else f" ({first} to {last})"


def draw_map(found: ItemMap, width: float) -> Figure:
    """The items as dots by category with the numbered path of the user's last events, and each category by itself."""
    is_narrow = width < WIDE
    shown = _categories(found)
    lines = math.ceil(len(shown) / 2)
    figure = Figure(figsize=(width, 5.0 + 1.3 * lines if is_narrow else 6.4), layout="constrained")
    if is_narrow:
        grid = figure.add_gridspec(2, 1, height_ratios=[3.4, 1.3 * lines])
    else:
        grid = figure.add_gridspec(1, 2, width_ratios=[2, 1])
    parts = grid[1].subgridspec(lines, 2)
    whole = figure.add_subplot(grid[0])
    for place, (name, rows) in enumerate(shown.items()):
        dots = found.coordinates[rows]
        _scatter(whole, dots, s=12, **_dots(place, name))
        alone = figure.add_subplot(parts[place // 2, place % 2])
        _scatter(alone, found.coordinates, s=2, color="0.82", linewidth=0)
        _scatter(alone, dots, s=8, **{**_dots(place, name), "edgecolors": _DARK})
        title = textwrap.fill(_plain(name, 34), 19)
        alone.set_title(f"{title} ({len(dots):,})", fontsize=8, pad=2)
        _without_scale(alone)
    path = found.path[-_STEPS:]
    if path:
        _path(whole, found.coordinates[path], 8 if is_narrow else 11)
        steps = enumerate(found.labels[-_STEPS:], start=1)
        listed = "\n".join(f"{number}  {_plain(label, 44)}" for number, label in steps)
        figure.supxlabel(listed, x=0.02, ha="left", fontsize=8)
    whole.set_xlabel(found.axes[0])
    whole.set_ylabel(found.axes[1])
    _without_scale(whole)
    return figure


def _categories(found: ItemMap) -> dict[str, NDArray[np.bool_]]:
    """The commonest categories, the first the largest, and all others as one: which items are of each."""
    counted = Counter(found.categories)
    kept = len(counted) if len(counted) <= _TOLD_APART + 1 else _TOLD_APART
    categories = np.array(found.categories)
    shown = {name: categories == name for name, _ in counted.most_common(kept)}
    rest = ~np.logical_or.reduce(list(shown.values()))
    return {**shown, _OTHERS: rest} if rest.any() else shown


def _dots(place: int, name: str) -> dict[str, Any]:
    look = (
        {"marker": ".", "color": "0.35"} if name == _OTHERS else {"marker": _MARKERS[place], "color": _COLOURS[place]}
    )
    return {**look, "edgecolors": "white", "linewidth": 0.2, "alpha": 0.85}


def _scatter(axes: Axes, points: NDArray[np.float64], **look: Any) -> None:
    axes.scatter(points[:, 0], points[:, 1], rasterized=True, **look)


def _without_scale(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])


def _path(axes: Axes, steps: NDArray[np.float64], size: float) -> None:
    outline = [withStroke(linewidth=3, foreground="white")]
    axes.plot(steps[:, 0], steps[:, 1], "-", color="black", linewidth=1.3, path_effects=outline, zorder=4)
    for number, (x, y) in enumerate(steps, start=1):
        axes.plot(x, y, "o", color="black", markersize=size, markeredgecolor="white", zorder=5)
        axes.text(
            x,
            y,
            str(number),
            color="white",
            ha="center",
            va="center",
            fontsize=0.64 * size,
            fontweight="bold",
            zorder=6,
        )


def _plain(text: str, length: int) -> str:
    """Words as they are, which matplotlib would read as formulas between dollar signs; cut where they are longer."""
    text = " ".join(text.split())
    return (text if len(text) <= length else f"{text[: length - 1].rstrip()}…").replace("$", r"\$")
