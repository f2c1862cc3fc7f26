"""Writes the report: one self-contained HTML file, and its figures as PNG beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from tqdm import tqdm

from recbole_llm_interest.io.escaping import several_lines
from recbole_llm_interest.io.files import write_atomically, write_text
from recbole_llm_interest.report import plots
from recbole_llm_interest.report.sections import Section

#: advice for where a file cannot be written
_OTHER_FOLDER = "give another folder by --output"


def write_report(
    folder: Path, title: str, facts: Mapping[str, str], sections: Sequence[Section], absent: Sequence[str]
) -> list[Path]:
    """Draw every section for a wide screen and for a phone, and write ``report.html`` and one PNG per section.

    Args:
        folder: is created if it does not exist.
        title: the page's heading.
        facts: what the report is about, by name.
        sections: in the order of the page.
        absent: for each part that the report lacks, one line on how to get it.

    Returns:
        The paths of the files, the page first.

    Raises:
        StorageError: a file cannot be written.
    """
    page, *pictures = files = report_files(folder, sections)
    shown = []
    drawn = tqdm(zip(sections, pictures, strict=True), total=len(pictures), desc="figures", unit="figure", leave=False)
    for section, picture in drawn:
        with plots.style():
            wide, narrow = section.draw(plots.WIDE), section.draw(plots.NARROW)
            write_atomically(picture, partial(wide.savefig, format="png", dpi=150), _OTHER_FOLDER)
            shown.append({**vars(section), "wide": _data_url(wide), "narrow": _data_url(narrow)})
    environment = Environment(
        loader=PackageLoader(__package__, "."), autoescape=True, finalize=several_lines, undefined=StrictUndefined
    )
    template = environment.get_template("report.html.j2")
    write_text(page, template.render(title=title, facts=facts, sections=shown, absent=absent), _OTHER_FOLDER)
    return files


def report_files(folder: Path, sections: Sequence[Section]) -> list[Path]:
    """Return the paths of a report's files: the page, then one picture for each section."""
    return [folder / "report.html", *(folder / f"{section.name}.png" for section in sections)]


def _data_url(figure: Figure) -> str:
    """A figure as SVG in a data URL."""
    svg = io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.getvalue()).decode()}"
