"""Writes the report: one self-contained HTML file, and its figures as PNG beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from tqdm import tqdm

from recbole_llm_interest.io.escaping import several_lines
from recbole_llm_interest.io.files import write_atomically, write_text
from recbole_llm_interest.io.fonts import font_advice, use_fonts_for
from recbole_llm_interest.report import plots
from recbole_llm_interest.report.assembly import Report
from recbole_llm_interest.report.sections import Section

#: advice for where a file cannot be written
_OTHER_FOLDER = "give another folder by --output"


def write_report(folder: Path, title: str, report: Report) -> tuple[list[Path], list[str]]:
    """Draw every section for a wide screen and for a phone, and write ``report.html`` and one PNG per section.

    Args:
        folder: is created if it does not exist.
        title: the page's heading.
        report: what it shows.

    Returns:
        The paths of the files, the page first; and lines on letters that the figures cannot show.

    Raises:
        StorageError: a file cannot be written.
    """
    page, *pictures = files = report_files(folder, report.sections)
    shown, absent = [], set[str]()
    drawn = tqdm(
        zip(report.sections, pictures, strict=True), total=len(pictures), desc="figures", unit="figure", leave=False
    )
    for section, picture in drawn:
        with plots.style():
            wide, narrow = section.draw(plots.WIDE), section.draw(plots.NARROW)
            boxes = {*use_fonts_for(wide), *use_fonts_for(narrow)}
            write_atomically(picture, partial(wide.savefig, format="png", dpi=150), _OTHER_FOLDER)
            figures = {"wide": _data_url(wide), "narrow": _data_url(narrow)}
        shown.append({**vars(section), **figures, "font_advice": font_advice(boxes)})
        absent |= boxes
    environment = Environment(
        loader=PackageLoader(__package__, "."), autoescape=True, finalize=several_lines, undefined=StrictUndefined
    )
    template = environment.get_template("report.html.j2")
    write_text(page, template.render({**vars(report), "title": title, "sections": shown}), _OTHER_FOLDER)
    return files, font_advice(absent)


def report_files(folder: Path, sections: Sequence[Section]) -> list[Path]:
    """Return the paths of a report's files: the page, then one picture for each section."""
    return [folder / "report.html", *(folder / f"{section.name}.png" for section in sections)]


def _data_url(figure: Figure) -> str:
    """A figure as SVG in a data URL."""
    svg = io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(_adaptive(svg.getvalue().decode()).encode()).decode()}"


def _adaptive(svg: str) -> str:
    """A drawing whose text, lines and background have other colours where the reader asks for a dark screen."""
    names = {colour: f"--c{number}" for number, colour in enumerate(plots.ON_DARK)}
    light = "".join(f"{name}:{colour};" for colour, name in names.items())
    dark = "".join(f"{names[colour]}:{on_dark};" for colour, on_dark in plots.ON_DARK.items())
    for colour, name in names.items():
        svg = svg.replace(colour, f"var({name})")
    style = f"<style>:root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    return svg.replace("<defs>", f"{style}<defs>", 1)
