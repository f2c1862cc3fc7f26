"""Training curves: each part of the loss, and the validation score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recbole_llm_interest.io.escaping import plot_text
from recbole_llm_interest.report.plots.curves import curve_panels, draw_curve
from recbole_llm_interest.report.plots.style import INK, WARM, set_title


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
    figure, panels = curve_panels(len(losses) + bool(valid), width)
    for panel, (name, values) in zip(panels, losses.items(), strict=False):
        draw_curve(panel, range(1, len(values) + 1), values, "epoch")
        set_title(panel, f"loss: {plot_text(name, 24)}")
    if valid:
        _validation(panels[len(losses)], valid, metric)
    return figure


def _validation(panel: Axes, valid: Sequence[Sequence[float]], metric: str) -> None:
    epochs, scores = zip(*valid, strict=True)
    draw_curve(panel, epochs, scores, "epoch")
    best = int(np.argmax(scores))
    panel.plot(epochs[best], scores[best], "*", color=WARM, markersize=13, markeredgecolor=INK, zorder=4)
    set_title(panel, f"validation {plot_text(metric, 24)}")
    panel.set_xlabel(f"epoch (star: best, {scores[best]:.4f}\nat epoch {epochs[best]:.0f})")
