"""The report's figures: numbers in, a matplotlib figure out.

Each function draws at a given width in inches, because the page has a figure for wide screens and one for phones with
text of the same size. Every figure is readable in black and white: bands differ by hatch, markers by shape. The colours
of text, lines and background are those of ``ON_DARK``, which the page exchanges on dark screens.
"""

from recbole_llm_interest.report.plots.estimates import draw_estimates, number_text
from recbole_llm_interest.report.plots.interest import draw_interest, largest_interests
from recbole_llm_interest.report.plots.item_map import draw_map
from recbole_llm_interest.report.plots.live_interests import draw_live_interests
from recbole_llm_interest.report.plots.modalities import draw_modalities
from recbole_llm_interest.report.plots.recommendations import draw_recommendations
from recbole_llm_interest.report.plots.stream import draw_stream
from recbole_llm_interest.report.plots.style import NARROW, ON_DARK, WIDE, style
from recbole_llm_interest.report.plots.training import draw_training

__all__ = [
    "NARROW",
    "ON_DARK",
    "WIDE",
    "draw_estimates",
    "draw_interest",
    "draw_live_interests",
    "draw_map",
    "draw_modalities",
    "draw_recommendations",
    "draw_stream",
    "draw_training",
    "largest_interests",
    "number_text",
    "style",
]
