"""Weights of the modalities in the representations of items and users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from recbole_llm_interest.report.plots.style import COLOURS, INK, PAPER, WIDE, band, label_lines, set_title
from recbole_llm_interest.report.statistics import ModalityWeight


def draw_modalities(weights: Mapping[str, Sequence[ModalityWeight]], width: float) -> Figure:
    """A bar for each modality's mean weight, with a line from the 10th to the 90th percentile.

    Args:
        weights: of items and of users, by these words.
        width: in inches.
    """
    counts = [len(of_kind) for of_kind in weights.values()]
    if width < WIDE:
        size = (width, 0.5 * sum(counts) + 0.75 * len(weights))
        shape, ratios = (len(weights), 1), {"height_ratios": [count + 0.8 for count in counts]}
    else:
        size = (width, 0.5 * max(counts) + 0.75)
        shape, ratios = (1, len(weights)), {}
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(*shape, squeeze=False, sharex=True, gridspec_kw=ratios).flatten()
    names = sorted({weight.name for of_kind in weights.values() for weight in of_kind})
    for axes, (kind, of_kind) in zip(panels, weights.items(), strict=True):
        for line, weight in enumerate(of_kind):
            _draw_weight(axes, line, weight, names.index(weight.name) % len(COLOURS))
        _style_axes(axes, kind, of_kind)
    return figure


def _draw_weight(axes: Axes, line: int, weight: ModalityWeight, look: int) -> None:
    axes.barh(line, weight.mean, 0.62, **band(look, weight.name))
    centre, half = (weight.low + weight.high) / 2, (weight.high - weight.low) / 2
    outline = [withStroke(linewidth=3.5, foreground=PAPER)]  # the line is over the bar and beyond it
    axes.errorbar(centre, line, xerr=half, color=INK, capsize=3, linewidth=1.3, path_effects=outline)
    axes.annotate(
        f"{weight.mean:.2f}", (max(weight.mean, weight.high), line), (6, 0), textcoords="offset points", va="center",
        fontweight="bold",
    )  # fmt: skip


def _style_axes(axes: Axes, kind: str, weights: Sequence[ModalityWeight]) -> None:
    set_title(axes, kind)
    label_lines(axes, [f"{weight.name}\n{weight.present:,} of {weight.total:,}" for weight in weights])
    axes.set_ylim(len(weights) - 0.4, -0.6)
    axes.set_xlim(0, 1.14)
    axes.set_xlabel("mean weight")
