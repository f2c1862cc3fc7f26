"""A figure that notebooks show."""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure

from recbole_llm_interest.report.plots.style import style

#: dots per inch in a notebook
_DPI = 90


class Picture(Figure):
    """A figure that a notebook shows where it is the value of a cell, without pyplot."""

    def _repr_png_(self) -> bytes:
        """The figure as a PNG file."""
        written = BytesIO()
        with style():
            self.savefig(written, format="png", dpi=_DPI)
        return written.getvalue()
