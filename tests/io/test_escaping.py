"""Text that leaves the program: whatever it is, its reader's structure stays (hypothesis)."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from tabulate import tabulate

from recbole_llm_interest.evaluation.results import RunResult
from recbole_llm_interest.evaluation.table import as_table
from recbole_llm_interest.io.escaping import (
    LogFormatter,
    json_text,
    markdown_cell,
    markdown_code,
    markdown_line,
    one_line,
    plot_text,
    several_lines,
)
from recbole_llm_interest.report.plots import style

few_examples = settings(
    max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
many_examples = settings(few_examples, max_examples=150)
pytestmark = pytest.mark.slow

#: what some reader acts on, and surrogates, which stand for bytes that are not UTF-8
ACTIVE = "\x1b[31m", "\x07", "\r", "\n", "\x85", "\x9b2J", "\u202e", "\u2028", "\u2066", "\ud800", "\ufffe", "\x7f"
MARKUP = "|", "\\", "`", "<b>", "</table>", "&lt;", "&#124;", "](", "![x](y)", "[a]: b", "$x_$", "%", "{", "}", "^^M"
BLOCKS = "# ", "- ", "1. ", "===", "---", "> ", "\\input{x}", "[5cm]", "*", "~~~", "    ", "```"
texts = st.lists(st.one_of(st.sampled_from(ACTIVE + MARKUP + BLOCKS), st.text(max_size=4)), max_size=6).map("".join)
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u061c\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def result(name="A", note="", dataset="d"):
    return RunResult(
        variant=name, model="m", dataset=dataset, seed=1, test={"ndcg@10": 0.5}, valid_metric="NDCG@10", best_valid=0.5,
        epochs=3, seconds_per_epoch=1.0, parameters=7, test_events=4, candidates="all 9 items", test_digest="x",
        checkpoint="saved/a.pth", log="log/a.log", note=note,
    )  # fmt: skip


def test_harmless_text_stays_as_it_is():
    for text in (
        "LLMInterest, IDs only",
        "learning_rate=0.001 choice [0.001,0.003]: p <.001, 3 < 4 & 5",
        "Amélie 日本 😂",
        "2.5",
    ):
        escaped = {one_line(text), several_lines(text), markdown_cell(text), markdown_line(text), plot_text(text)}
        assert escaped == {text}
        assert markdown_code(text) == f"`{text}`"


@many_examples
@given(texts)
def test_terminal_gets_no_control_characters(text):
    assert not CONTROLS.search(one_line(text))
    assert not CONTROLS.search(several_lines(text).replace("\n", ""))
    assert several_lines(text).count("\n") == text.count("\n")


def cells_of(markdown, **kinds):
    """The text of each row's cells, by a parser of Markdown."""
    parser = MarkdownIt("commonmark").enable("table").disable("emphasis")
    tokens = parser.parse(markdown)
    rows = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and rows:
            assert {child.type for child in token.children} <= {"text", "text_special", *kinds.get("allowed", ())}
            rows[-1].append("".join(child.content for child in token.children))
    return rows


@many_examples
@given(texts, texts)
@example("a\\|b", "\\")
@example("`", "`|")
def test_markdown_table_has_the_same_cells(first, second):
    table = tabulate(
        [[markdown_cell(first), "1"], [markdown_cell(second), "2"]], ["name", "value"], "github", disable_numparse=True
    )
    shown = [one_line(text).strip(" ") for text in (first, second)]
    unescaped = [[text.strip() for text in row] for row in cells_of(table)]
    assert unescaped == [["name", "value"], [shown[0].strip(), "1"], [shown[1].strip(), "2"]]


@many_examples
@given(texts, texts, texts)
def test_table_of_results_keeps_its_rows_and_notes(name, note, dataset):
    table = as_table([result(f"x{name}", note, f"{dataset}y")])
    tokens = MarkdownIt("commonmark").enable("table").disable("emphasis").parse(table)
    assert [token.type for token in tokens if token.level == 0] == [
        *("table_open", "table_close", "table_open", "table_close", "paragraph_open", "paragraph_close")
    ]
    assert len([token for token in tokens if token.type == "td_open"]) == 2 + 4
    assert {child.type for token in tokens for child in token.children or ()} <= {"text", "text_special", "softbreak"}


@many_examples
@given(texts)
def test_line_of_markdown_is_a_paragraph(text):
    line = markdown_line(text) or "."
    tokens = MarkdownIt("commonmark").enable("table").parse(f"before\n{line}\nafter\n")
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]


@many_examples
@given(texts)
@example("a|b`c")
def test_code_in_a_cell_stays_in_its_cell(text):
    table = tabulate([[markdown_code(text), "1"]], ["name", "value"], "github", disable_numparse=True)
    rows = cells_of(table, allowed=["code_inline"])
    assert [len(row) for row in rows] == [2, 2]


@many_examples
@given(texts, texts, texts)
@example("[5cm] x", "a\n\\input{/etc/passwd}", "*")
def test_latex_table_has_one_row_for_each_result_and_comments_of_one_line(name, note, dataset):
    lines = as_table([result(name, note, dataset), result("B")], "latex_booktabs").splitlines()
    ends = [number for number, line in enumerate(lines) if line == "\\end{tabular}"]
    assert ends == [7, 16]
    rows = []
    for start, cells in ((0, 2), (9, 4)):
        assert lines[start + 1] == "\\toprule"
        assert lines[start + 3] == "\\midrule"
        assert lines[start + 6] == "\\bottomrule"
        rows += [(lines[start + row], cells) for row in (2, 4, 5)]
    for line, cells in rows:
        assert len(re.findall(r"(?<!\\)&", line)) == cells - 1
        assert line.endswith("\\\\")
        assert not re.match(r"\s*[\[*]", line)
        commands = set(re.findall(r"\\([A-Za-z]+)", line))
        assert commands <= {"textasciitilde", "textbackslash", "ensuremath"}
    assert all(line.startswith("% ") for line in lines[ends[1] + 1 :])
    assert not CONTROLS.search("".join(lines))


@few_examples
@given(texts)
@example("$x_$")
@example("$\\frac$ $")
@example("\\$x_\\$ 😂")
@example("$$$")
def test_figure_draws_any_text_and_its_svg_is_xml(text):
    svg = io.BytesIO()
    with warnings.catch_warnings(action="error"), style():
        figure = Figure(figsize=(2, 1))
        axes = figure.subplots()
        axes.set_title(plot_text(text, 24))
        axes.set_yticks([0], [plot_text(text, 60, width=3)])
        figure.savefig(svg, format="svg")
    ElementTree.fromstring(svg.getvalue())


@many_examples
@given(texts, texts)
def test_json_stays_json(key, value):
    for ascii_only in (False, True):
        line = json_text({key: [value]}, ascii_only=ascii_only)
        assert json.loads(line) == {key: [value]}
        assert not CONTROLS.search(line)
        assert line.isascii() or not ascii_only
        line.encode()


@many_examples
@given(texts, texts)
@example("", "one\n28 Nov 17:00 ERROR  forged")
def test_log_entry_begins_one_line(message, argument):
    record = logging.LogRecord("", logging.WARNING, "", 1, message.replace("%", "") + "%s", (argument,), None)
    record.exc_info = (ValueError, ValueError(argument), None)
    first, *others = LogFormatter(logging.Formatter("%(levelname)s  %(message)s")).format(record).split("\n")
    assert first.startswith("WARNING  ")
    assert not CONTROLS.search("".join([first, *others]))
    assert all(line.startswith("    ") for line in others)


def test_table_of_harmless_names_has_them_unchanged():
    rows = [result("LLMInterest, IDs only", "tuned: learning_rate=0.01 of [0.001,0.01]"), replace(result("B"), seed=1)]
    table = as_table(rows)
    assert "| LLMInterest, IDs only |" in table
    assert table.endswith("LLMInterest, IDs only: tuned: learning_rate=0.01 of [0.001,0.01]\n")
    assert as_table(rows, "latex_booktabs").endswith(
        "% LLMInterest, IDs only: tuned: learning_rate=0.01 of [0.001,0.01]\n"
    )
