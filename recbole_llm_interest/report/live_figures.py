"""Figures of one user's state in live use, for notebooks and files."""

from __future__ import annotations

import logging

from matplotlib.figure import Figure

from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.io.fonts import font_advice, use_fonts_for
from recbole_llm_interest.recommender import Recommender, UserState
from recbole_llm_interest.recommender.inputs import check_single
from recbole_llm_interest.report.plots import WIDE, draw_interest, draw_live_interests, style
from recbole_llm_interest.report.statistics import trajectory_of

_logger = logging.getLogger(__name__)


def plot_interests(recommender: Recommender, state: UserState, k: int = 8) -> Figure:
    """Draw how likely the next item is of each of a user's interests.

    Args:
        recommender: that made the state.
        state: of one user.
        k: number of interests; the others are one bar.

    Returns:
        The figure. It is not shown: a notebook shows the value of a cell, and ``savefig`` writes a file.

    Raises:
        RequestError: ``state`` is no state, or of several users; or ``k`` is less than 1.
        StateError: the state is of another model.

    Example:
        >>> figure = plot_interests(recommender, recommender.start("u1"), k=2)
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()][-1]
        'all others'
        >>> figure.savefig(folder / "interests.png")
    """
    check_single(state, recommender.version, "plot_interests")
    if k < 1:
        raise RequestError(f"k={k}: give 1 or more interests")
    with style():
        return _with_fonts(draw_live_interests(recommender.interests(state[0], k), WIDE))


def plot_history(recommender: Recommender, state: UserState, events: int = 30) -> Figure:
    """Draw a user's last events in order, and how each of them changed the interest.

    Args:
        recommender: that made the state.
        state: of one user with events.
        events: how many of the last events.

    Returns:
        The figure, as of ``plot_interests``: above, the interest after each event; below, the events by their titles,
        each on the line of the interest that its item is of.

    Raises:
        RequestError: ``state`` is no state, is of several users or has no events; or ``events`` is less than 1.
        StateError: the state is of another model.

    Example:
        >>> figure = plot_history(recommender, recommender.start("u1", history=["i1", "i2"]))
        >>> [label.get_text() for label in figure.axes[1].get_xticklabels()]
        ['A film about space  1', 'A film about whales  2']
    """
    check_single(state, recommender.version, "plot_history")
    if events < 1:
        raise RequestError(f"events={events}: give 1 or more")
    if not int(state.length):
        raise RequestError("plot_history: the state has no events: give one after start(history=…) or update")
    with style():
        return _with_fonts(draw_interest(trajectory_of(recommender, state[0], events), WIDE))


def _with_fonts(figure: Figure) -> Figure:
    """The figure with fonts that have its letters; a warning names those that no font has."""
    for line in font_advice(use_fonts_for(figure)):
        _logger.warning("%s", line)
    return figure
