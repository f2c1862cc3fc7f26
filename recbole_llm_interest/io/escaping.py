r"""Escapes text for each output format: terminals, logs, Markdown, LaTeX, HTML and matplotlib.

Titles, ids, names and notes come from untrusted files. Each function escapes the special characters of one format, so
that tables, lines and figures keep their structure. Other text is unchanged.

In all formats, control characters, bidirectional marks, line separators and noncharacters become escapes such as
``\x1b``. Backslashes are not doubled, so ``\x1b`` may also stand for these four characters.
"""

from __future__ import annotations

import copy
import json
import logging
import re
import textwrap
from typing import Any

#: control characters (C0, C1, delete), bidirectional marks, line and paragraph separators, surrogates, interlinear
#: annotation, byte order marks, and noncharacters, which XML excludes
_UNSAFE = (
    "\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff\\ufdd0-\\ufdef\\ufeff"
    "\\ufff9-\\ufffb\\ufffe\\uffff"
)
_UNSAFE_CHARACTER = re.compile(f"[{_UNSAFE}]")
_UNSAFE_BESIDE_LINES = re.compile(f"(?!\n)[{_UNSAFE}]")
#: color codes of RecBole's ``set_color``
_COLOURS = re.compile("\x1b\\[[01];3[0-7]m|\x1b\\[0m")
#: special characters within a line of Markdown: of cells, code, links, and backslashes that begin an escape or a break
_MARKDOWN = re.compile(r"""\\(?=[!-/:-@\[-`{-~]|$)|[|`]|\](?=[(\[])""")
_TAGS_AND_ENTITIES = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)")
#: characters that begin a heading, quotation, list, rule or definition at the beginning of a line of Markdown
_MARKDOWN_BLOCK = re.compile(r"^(\d{1,9}(?=[.)](?:\s|$))|(?=[\[#>+=*_~-]))")
#: the beginning of a LaTeX row that would be read as an argument of the previous ``\\\\``
_LATEX_ARGUMENT = re.compile(r"^(\s*)(?=[\[*])", re.MULTILINE)


def one_line(text: object) -> str:
    r"""Return text for one line of a terminal or any other output.

    Example:
        >>> print(one_line("two\nlines, \x1b[31mred"))
        two\nlines, \x1b[31mred
    """
    return _UNSAFE_CHARACTER.sub(_escape, str(text))


def several_lines(text: object) -> str:
    """Return text of several lines for a terminal or any other output; line feeds stay.

    Escape untrusted parts by ``one_line`` first.
    """
    return _UNSAFE_BESIDE_LINES.sub(_escape, str(text))


def markdown_cell(text: object) -> str:
    r"""Return text for a cell of a Markdown table, or within a line.

    Emphasis and formulas are not escaped: they cannot end the cell.

    Example:
        >>> print(markdown_cell("a|b, `code`, <b>, 3 < 4"))
        a\|b, \`code\`, &lt;b>, 3 < 4
    """
    escaped = _MARKDOWN.sub(lambda found: "\\" + found[0], one_line(text))
    return _TAGS_AND_ENTITIES.sub(lambda found: {"<": "&lt;", "&": "&amp;"}[found[0]], escaped)


def markdown_line(text: object) -> str:
    r"""Return text for the beginning of a line of Markdown.

    Example:
        >>> print(markdown_line("# seeds"))
        \# seeds
    """
    return _MARKDOWN_BLOCK.sub(r"\1\\", markdown_cell(text).lstrip())


def markdown_code(text: object) -> str:
    """Return text as code in a cell of a Markdown table; as plain text if it has a backtick or ``|``."""
    line = one_line(text)
    return markdown_cell(line) if re.search(r"[`|]", line) or not line.strip() else f"`{line}`"


def latex_rows(table: str) -> str:
    r"""Return a LaTeX table with rows that cannot be read as arguments of the previous ``\\``.

    Args:
        table: a table of ``tabulate``, which escapes LaTeX's special characters; each cell has one line.
    """
    return _LATEX_ARGUMENT.sub(r"\1{}", table)


def latex_comment(text: object) -> str:
    """Return text as a LaTeX comment of one line."""
    return f"% {one_line(text)}"


def plot_text(text: object, length: int | None = None, width: int | None = None) -> str:
    r"""Return text for a figure, where dollar signs would begin a formula.

    Args:
        text: any.
        length: maximum characters, including an ellipsis; None for no limit.
        width: of its lines; None for one line.

    Example:
        >>> print(plot_text("one  of $5 and $6", length=11))
        one of \$5…
    """
    line = one_line(" ".join(str(text).split()))
    cut = line if length is None or len(line) <= length else f"{line[: length - 1].rstrip()}…"
    return (cut if width is None else textwrap.fill(cut, width)).replace("$", r"\$")


def json_text(value: Any, *, ascii_only: bool = False) -> str:
    r"""Return a value as JSON in one line, with escapes in its strings.

    Args:
        value: any JSON value.
        ascii_only: whether all characters outside ASCII are escaped, as for a terminal of unknown encoding.

    Example:
        >>> print(json_text({"title": "Amélie\x7f"}))
        {"title": "Amélie\u007f"}
    """
    text = json.dumps(value, ensure_ascii=ascii_only)
    return _UNSAFE_CHARACTER.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class LogFormatter(logging.Formatter):
    r"""Formats a log line by another formatter, with escapes in its message.

    Further lines of a message, such as a traceback, are indented, so that they do not look like a new entry.

    Args:
        formatter: adds time, level and colour.

    Example:
        >>> record = logging.LogRecord("", logging.INFO, "", 1, "title %s", ("one\n5 Jan ERROR  two",), None)
        >>> print(LogFormatter(logging.Formatter("%(levelname)s  %(message)s")).format(record))
        INFO  title one
            5 Jan ERROR  two
    """

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        """Return the entry."""
        shown = copy.copy(record)
        # RecBole puts colors only into the message; its arguments may be untrusted
        shown.msg = _COLOURS.sub("", str(record.msg))
        shown.msg, shown.args = _indented(shown.getMessage()), None
        if record.exc_info:
            shown.exc_text = _indented(f"\n{self.formatException(record.exc_info)}").removeprefix("\n")
        return self._formatter.format(shown)


def _indented(text: str) -> str:
    return several_lines(text).replace("\n", "\n    ")


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
