"""Writes the report: one HTML file that needs nothing else, and its figures as PNG beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from tqdm import tqdm

from recbole_llm_interest.io.files import write_atomically, write_text
from recbole_llm_interest.report import plots
from recbole_llm_interest.report.sections import Section

_OTHERWISE = "give another folder by --output"


def write_report(
    folder: Path, title: str, facts: Mapping[str, str], sections: Sequence[Section], absent: Sequence[str]
) -> list[Path]:
    """Draw every section for a wide screen and for a phone, and write ``report.html`` and a PNG each.

    Args:
        folder: where to; it is made if it is not there.
        title: the page's heading.
        facts: what the report is about, by name.
        sections: in order.
        absent: what is not in the report, and how to get it.

    Returns:
        The files, the page first.

    Raises:
        StorageError: a file cannot be written.
    """
    page = folder / "report.html"
    shown, pictures = [], []
    for section in tqdm(sections, desc="figures", unit="figure", leave=False):
        with plots.style():
            wide, narrow = section.draw(plots.WIDE), section.draw(plots.NARROW)
            picture = folder / f"{section.name}.png"
            write_atomically(picture, partial(wide.savefig, format="png", dpi=150), _OTHERWISE)
            pictures.append(picture)
            shown.append({**vars(section), "wide": _as_data(wide), "narrow": _as_data(narrow)})
    template = Environment(
        loader=PackageLoader(__package__, "."), autoescape=True, undefined=StrictUndefined
    ).get_template("report.html.j2")
    write_text(page, template.render(title=title, facts=facts, sections=shown, absent=absent), _OTHERWISE)
    return [page, *pictures]


def _as_data(figure: Figure) -> str:
    """A figure as the address of an image that holds it."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(drawn.getvalue()).decode()}"
