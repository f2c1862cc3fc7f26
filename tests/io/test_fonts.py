"""Fonts for a figure's letters: none is drawn as a box where the machine has a font, and one line says so where not."""

from __future__ import annotations

import shutil
import warnings

import matplotlib
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

from recbole_llm_interest.io import fonts

TITLES = {"zh": "卧虎藏龙", "ja": "千と千尋の神隠し", "ko": "살인의 추억"}


def installed_letters():
    """The letters of all fonts of the machine."""
    found = set()
    for path in font_manager.findSystemFonts():
        try:
            found.update(map(chr, FT2Font(path).get_charmap()))
        except (OSError, RuntimeError):
            continue
    return found


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine whose only fonts are matplotlib's; returns a folder of which fonts can be installed."""
    own = [font for font in font_manager.fontManager.ttflist if matplotlib.get_data_path() in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: list(map(str, tmp_path.iterdir())))
    return tmp_path


@pytest.mark.parametrize("title", TITLES.values(), ids=TITLES)
def test_titles_have_no_boxes_where_a_font_has_them(title):
    if not set(title.replace(" ", "")) <= installed_letters():
        pytest.skip("no font of this machine has these letters")
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.set_title(f"{title} (2001)")
    axes.set_xticks([0, 1], [title, "Dune"])
    assert fonts.use_fonts_for(figure) == ""
    with warnings.catch_warnings(action="error"):
        figure.draw_without_rendering()  # matplotlib warns of each letter that it draws as a box
    assert axes.title.get_fontfamily()[0] == "sans-serif"  # other letters look as before


def test_letters_that_no_font_has_are_named_with_the_package(bare):
    figure = Figure()
    figure.suptitle("Dune 卧虎")
    assert fonts.use_fonts_for(figure) == "卧虎"
    (line,) = fonts.font_advice("卧虎")
    assert "apt-get install fonts-noto-cjk" in line
    for letters, package in (("살", "fonts-noto-cjk"), ("ไ", "fonts-noto-core"), ("☃", "fonts-symbola")):
        assert f"no font for 1 letter ({letters})" in fonts.font_advice(letters)[0]
        assert package in fonts.font_advice(letters)[0]


def test_latin_greek_and_cyrillic_need_nothing():
    assert fonts.fonts_for("Amélie, Ψυχώ, Солярис\n\t\x07") == ([], "")
    assert fonts.font_advice("") == []


def test_fonts_installed_after_matplotlibs_list_are_found(bare):
    """matplotlib keeps its list of fonts in a file, which a new font is not in."""
    dejavu = font_manager.findfont("DejaVu Sans")
    font_manager.fontManager.ttflist[:] = [font for font in font_manager.fontManager.ttflist if font.name == "cmr10"]
    with matplotlib.rc_context({"font.family": "cmr10"}):
        assert fonts.fonts_for("я") == ([], "я")
        shutil.copy(dejavu, bare / "new.ttf")
        (bare / "damaged.ttf").write_bytes(b"no font")
        assert fonts.fonts_for("я") == (["DejaVu Sans"], "")
