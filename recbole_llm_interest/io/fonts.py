"""Chooses fonts of the machine for a figure's text, so that no letter is drawn as a box.

matplotlib's own font has Latin, Greek and Cyrillic letters. For others, each text is given fonts to fall back on.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from matplotlib import font_manager
from matplotlib.axis import Axis
from matplotlib.font_manager import FontEntry, FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: words in names of fonts that are for reading, the best first; any other font comes after them
_PREFERRED = ("noto sans cjk sc", "noto sans cjk", "source han sans", "noto sans", "pingfang", "hiragino", "yahei")
#: Debian's package with a font of a script, by the first word of its letters' names in Unicode
_PACKAGES = dict.fromkeys(
    ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH"), "fonts-noto-cjk"
)
_SYMBOLS, _OTHERS = "fonts-symbola", "fonts-noto-core"
#: fonts that are not for reading: letters are boxes, blanks or signs of formulas; matplotlib brings some of them
_SKIPPED = ("last resort", "adobe blank", "stix")


def use_fonts_for(figure: Figure) -> str:
    """Give each text of a figure the fonts that have its letters.

    Args:
        figure: with all its text.

    Returns:
        The letters that no font of the machine has, in order; they are drawn as boxes.
    """
    for axis in figure.findobj(Axis):
        axis.get_ticklabels()  # makes them
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    families, absent = fonts_for("".join(text.get_text() for text in texts))
    for text in texts if families else []:
        text.set_fontfamily([*text.get_fontfamily(), *families])
    return absent


def fonts_for(text: str) -> tuple[list[str], str]:
    """Choose fonts for the letters that matplotlib's own font lacks.

    Args:
        text: any; spaces and control characters need no font.

    Returns:
        Names of the fonts, to be used after matplotlib's own; and the letters that no font of the machine has.
    """
    lacking = {letter for letter in text if letter.isprintable() and not letter.isspace()}
    lacking -= _letters(font_manager.findfont(FontProperties()))
    families: list[str] = []
    for fonts in _machine_fonts() if lacking else ():
        ordered = sorted(fonts, key=_rank)
        while best := max(ordered, key=lambda font: len(lacking & _letters(font.fname)), default=None):
            if not lacking & _letters(best.fname):
                break
            families.append(best.name)
            lacking -= _letters(best.fname)
    return families, "".join(sorted(lacking))


def font_advice(letters: Iterable[str]) -> list[str]:
    """Say in one line what to install for letters that are drawn as boxes; nothing without any.

    >>> font_advice("千と")
    ['no font for 2 letters (such as と): figures show boxes; install one (Debian: apt-get install fonts-noto-cjk)']
    """
    absent = sorted(set(letters))
    if not absent:
        return []
    packages = " ".join(sorted({_package(letter) for letter in absent}))
    counted = "1 letter (" if len(absent) == 1 else f"{len(absent):,} letters (such as "
    return [
        f"no font for {counted}{_example(absent)}): figures show boxes; install one "
        f"(Debian: apt-get install {packages})"
    ]


def _example(letters: list[str]) -> str:
    """A letter of the script that most are of."""
    packages = [_package(letter) for letter in letters]
    return max(letters, key=lambda letter: packages.count(_package(letter)))


def _package(letter: str) -> str:
    script = unicodedata.name(letter, "").partition(" ")[0]
    return _PACKAGES.get(script) or (_SYMBOLS if unicodedata.category(letter).startswith("S") else _OTHERS)


def _machine_fonts() -> Iterator[list[FontEntry]]:
    """The fonts that matplotlib knows; then those that were installed after it made its list of them."""
    manager = font_manager.fontManager
    known = list(manager.ttflist)
    yield known
    for path in sorted({*font_manager.findSystemFonts()} - {font.fname for font in known}):
        with suppress(OSError, RuntimeError):  # matplotlib cannot read it
            manager.addfont(path)
    yield manager.ttflist[len(known) :]


def _rank(font: FontEntry) -> tuple[int, bool, bool, str]:
    """Fonts for reading come first, upright and of regular weight."""
    name = font.name.lower()
    preference = next((place for place, word in enumerate(_PREFERRED) if word in name), len(_PREFERRED))
    return preference, font.style != "normal", str(font.weight) not in ("400", "normal"), name


@cache
def _letters(path: str) -> frozenset[str]:
    """The letters of a font; none if it cannot be read, as those of colored bitmaps, or is not for reading."""
    with suppress(OSError, RuntimeError):
        font = FT2Font(path)
        if not font.family_name.lower().startswith(_SKIPPED):
            return frozenset(map(chr, font.get_charmap()))
    return frozenset()
