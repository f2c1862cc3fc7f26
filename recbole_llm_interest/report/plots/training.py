"""Training curves: each part of the loss, and the validation score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recbole_llm_interest.io.escaping import plot_text
from recbole_llm_interest.report.plots.style import INK, PALE, WARM, WIDE, set_title


def draw_training(
    losses: Mapping[str, Sequence[float]], valid: Sequence[Sequence[float]], metric: str, width: float
) -> Figure:
    """One panel for each part of the loss by epoch, and one for the validation score with its best epoch.

    Args:
        losses: one value per epoch, by part.
        valid: pairs of epochs trained and score; may be empty.
        metric: name of the score.
        width: in inches.
    """
    figure, panels = _panels(len(losses) + bool(valid), width)
    for panel, (name, values) in zip(panels, losses.items(), strict=False):
        _curve(panel, range(1, len(values) + 1), values)
        set_title(panel, f"loss: {plot_text(name, 24)}")
    if valid:
        _validation(panels[len(losses)], valid, metric)
    return figure


def _panels(count: int, width: float) -> tuple[Figure, list[Axes]]:
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


def _validation(panel: Axes, valid: Sequence[Sequence[float]], metric: str) -> None:
    epochs, scores = zip(*valid, strict=True)
    _curve(panel, epochs, scores)
    best = int(np.argmax(scores))
    panel.plot(epochs[best], scores[best], "*", color=WARM, markersize=13, markeredgecolor=INK, zorder=4)
    set_title(panel, f"validation {plot_text(metric, 24)}")
    panel.set_xlabel(f"epoch (star: best, {scores[best]:.4f}\nat epoch {epochs[best]:.0f})")


def _curve(panel: Axes, epochs: Sequence[float], values: Sequence[float]) -> None:
    panel.plot(epochs, values, "-o" if len(values) <= 30 else "-", color=INK, markersize=3, linewidth=1.3)
    panel.set_xlabel("epoch")
    panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    panel.yaxis.set_major_locator(MaxNLocator(4))
    panel.grid(axis="y", color=PALE)
    panel.margins(x=0.06, y=0.12)
