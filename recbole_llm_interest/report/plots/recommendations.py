"""What the scores of a user's recommendations consist of."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from recbole_llm_interest.io.escaping import plot_text
from recbole_llm_interest.report.plots.style import COLOURS, INK, OTHERS, PALE, WIDE, band, label_lines
from recbole_llm_interest.report.statistics import Suggestion


def draw_recommendations(suggestions: Sequence[Suggestion], names: Sequence[str], width: float) -> Figure:
    """One line for each item: parts that raise its score to the right of zero, those that lower it to the left.

    Args:
        suggestions: one user's, the best first.
        names: of the parts, the largest first; those without a colour of their own are drawn as one.
        width: in inches.
    """
    is_narrow = width < WIDE
    shown = list(names[: len(COLOURS)])
    labels = [plot_text(f"{suggestion.rank}. {suggestion.title}", 60, 22 if is_narrow else 36)
              for suggestion in suggestions]  # fmt: skip
    height = 1.0 + sum(0.3 + 0.13 * label.count("\n") for label in labels)
    figure = Figure(figsize=(width, height + (0.2 * len(shown) if is_narrow else 0.3)), layout="constrained")
    axes = figure.subplots()
    for line, suggestion in enumerate(suggestions):
        _draw_parts(axes, line, suggestion, shown)
    label_lines(axes, labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlabel("points of the score")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.grid(axis="x", color=PALE)
    axes.set_axisbelow(True)
    has_others = len(names) > len(shown)
    patches = [Patch(label=plot_text(name, 44), **band(index, name)) for index, name in enumerate(shown)]
    patches += [Patch(label=OTHERS, **band(0, OTHERS))] if has_others else []
    columns = 1 if is_narrow else 4
    figure.legend(handles=patches, loc="outside upper left", ncols=columns, frameon=False, fontsize=8, handlelength=2.4)
    return figure


def _draw_parts(axes: Axes, line: int, suggestion: Suggestion, names: Sequence[str]) -> None:
    values = {name: suggestion.parts.get(name, 0.0) for name in names}
    values[OTHERS] = sum(suggestion.parts.values()) - sum(values.values())
    ends = {True: 0.0, False: 0.0}
    for index, (name, value) in enumerate(values.items()):
        if value:
            axes.barh(line, value, 0.66, left=ends[value > 0], **band(index, name))
            ends[value > 0] += value
