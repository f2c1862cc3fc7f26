"""What a user may turn to next: one bar for each interest."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_llm_interest.io.escaping import plot_text
from recbole_llm_interest.recommender import Interest
from recbole_llm_interest.report.plots.picture import Picture
from recbole_llm_interest.report.plots.style import ACCENT, GREY, INK, OTHERS, PAPER, label_lines


def draw_live_interests(interests: Sequence[Interest], width: float) -> Picture:
    """A bar for each interest, the heaviest above, and one for those that are not given.

    Args:
        interests: of one user, the heaviest first. Beside each bar stand the probability and how many of the items
            carry the name.
        width: in inches.
    """
    names = [plot_text(interest.name, 90, width=34) for interest in interests]
    notes = [_note(interest) for interest in interests]
    weights = [interest.weight for interest in interests]
    if (rest := 1 - sum(weights)) > 5e-4:
        names, notes, weights = [*names, OTHERS], [*notes, f"{rest:.1%}"], [*weights, rest]
    height = 0.8 + sum(0.28 + 0.15 * name.count("\n") for name in names)
    figure = Picture(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    colours = [PAPER if name == OTHERS else ACCENT for name in names]
    bars = axes.barh(range(len(weights)), weights, 0.62, color=colours, edgecolor=INK, linewidth=0.8)
    axes.bar_label(bars, notes, padding=5, color=GREY)
    label_lines(axes, names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1.6 * max(weights))  # room for the text beside the longest bar
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_xlabel("how likely the next item is of this interest")
    return figure


def _note(interest: Interest) -> str:
    carried = "" if interest.share is None else f" ({interest.share:.0%} of its items carry the name)"
    return f"{interest.weight:.1%}{carried}"
