"""What commands print and write: no name, title, note or argument changes a reader's structure, or gets lost."""

from __future__ import annotations

import ast
import importlib
import io
import json
import logging
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY, SUBJECTS, cycle_events, write_dataset

from llm_interest import SUBCOMMANDS
from recbole_llm_interest.cli.common import exit_code, show
from recbole_llm_interest.cli.compare import main
from recbole_llm_interest.cli.recommend import main as recommend
from recbole_llm_interest.evaluation.results import read_results

CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u061c\u2028-\u202e\u2066-\u2069]")
#: what a terminal, LaTeX, Markdown or matplotlib would act on
HOSTILE = "\x1b[31mred\x07 | \u202eevil \\input{/etc/passwd} $x_$ <img src=x>"


@pytest.fixture
def words(settings):
    """A quick run of the model that needs no training, on the data set ``cycle``."""
    quick = [f"--{key}={value}" for key, value in settings.items() if key != "epochs"]
    return ["--dataset=cycle", "--model=Pop", "--epochs=1", *quick]


def test_commands_print_by_one_function():
    calls = {
        path.name
        for path in (REPOSITORY / "recbole_llm_interest").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and re.fullmatch(r"print|sys\.std(out|err)\.write", ast.unparse(node.func))
    }
    assert calls == {"common.py", "pickles.py"}  # the latter's process tells its parent, which shows it


# --- arguments


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_argument_that_is_not_utf8_is_one_line_and_exit_2(name, here, capsys):
    command = importlib.import_module(SUBCOMMANDS[name].module)
    assert command.main(["--checkpoint=a", "--output=\udcff\udcfe", "--user=u", "--dataset=\udcff"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: command line: '--output=\\udcff\\udcfe' is not UTF-8: write it in UTF-8\n"
    assert list(here.iterdir()) == []


@pytest.mark.slow
def test_bytes_that_are_not_utf8_end_the_console_script_in_one_line(here):
    command = [os.fsencode(word) for word in (sys.executable, REPOSITORY / "llm_interest.py", "compare")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([*command, b"--table=\xff\xfe"], capture_output=True, cwd=here, env=environment)
    assert done.returncode == 2
    assert done.stderr == b"error: command line: '--table=\\udcff\\udcfe' is not UTF-8: write it in UTF-8\n"
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("option", ["table", "resume", "checkpoint"])
@pytest.mark.parametrize("value", ["", ".", "..", "/", "runs", "runs/", "runs/..", "a/./."])
def test_option_without_a_files_name_is_one_line_and_exit_2(words, here, capsys, option, value):
    (here / "runs").mkdir()
    assert main([*words, f"--{option}={value}"]) == 2
    assert capsys.readouterr().err == f"error: command line: --{option}={value} is a folder, or empty: name a file\n"
    assert sorted(path.name for path in here.iterdir()) == ["data", "runs"]


@pytest.mark.parametrize("option", ["table", "resume", "checkpoint"])
def test_name_that_is_too_long_is_one_line_and_exit_2(words, here, capsys, option):
    assert main([*words, f"--{option}={'n' * 300}"]) == 2
    assert re.fullmatch("error: .*n{300}.*: File name too long\n", capsys.readouterr().err)
    assert [path.name for path in here.iterdir()] == ["data"]


# --- names of tables


@pytest.mark.slow
def test_tables_whose_names_have_dots_are_different_tables(words, here):
    (here / "runs").mkdir()
    (here / "runs" / "lr0.json").write_text("[]")
    for seed, name in ((1, "lr0.1"), (2, "lr0.2"), (2, "lr0.2.json"), (3, "a.tex")):
        assert main([*words, f"--seed={seed}", f"--table=runs/{name}"]) == 0
    assert [[run.seed for run in read_results(here / "runs" / f"{name}.json")] for name in ("lr0.1", "lr0.2", "a")] == [
        [1], [2], [3]
    ]  # fmt: skip
    assert sorted(path.name for path in (here / "runs").iterdir()) == sorted(
        ["lr0.json", *(f"{name}.{suffix}" for name in ("lr0.1", "lr0.2", "a") for suffix in ("json", "md", "tex"))]
    )
    assert (here / "runs" / "lr0.json").read_text() == "[]"


def test_table_of_a_long_name_keeps_its_resume_state(words, here):
    assert main([*words, f"--table={'é' * 120}"]) == 0
    assert (here / f"{'é' * 120}.json").is_file()


# --- rows, notes, titles and data sets with anything in their names


@pytest.mark.slow
def test_hostile_rows_keep_the_table(words, here, capsys):
    rows = {
        HOSTILE: {"model": "Pop", "note": f"first\n\\input{{x}}\n| a | b |{HOSTILE}"},
        "$": {"model": "Pop"},
        "$$ $": {"model": "Pop"},
    }
    (here / "rows.yaml").write_text(yaml.safe_dump(rows))
    words.remove("--model=Pop")
    assert main([*words, "--rows=rows.yaml", "--table=odd"]) == 0
    captured = capsys.readouterr()
    assert not CONTROLS.search(captured.out + captured.err)
    assert "\\x1b[31mred\\x07 \\| \\u202eevil" in captured.out
    markdown = (here / "odd.md").read_text()
    assert len([line for line in markdown.splitlines() if line.startswith("|")]) == 2 * 5
    latex = (here / "odd.tex").read_text().splitlines()
    last = len(latex) - latex[::-1].index("\\end{tabular}")
    assert all(line.startswith("% ") for line in latex[last:])
    assert not CONTROLS.search(markdown + "".join(latex))
    assert (here / "odd.png").read_bytes().startswith(b"\x89PNG")
    assert [run.variant for run in read_results(here / "odd.json")] == list(rows)
    log = next(here.glob("log/Pop/*.log")).read_text()
    assert not CONTROLS.search(log)


def test_message_forges_no_log_line(words, here, capsys):
    """The path of a file with a skipped row is in a warning."""
    name = "odd\n28 Nov 17:00 ERROR  forged\x1b[0m"
    write_dataset(here / "data", name, [*cycle_events(), ("", "i1", 1.0)])
    words[0] = f"--dataset={name}"
    main(words)
    captured = capsys.readouterr()
    logs = [path.read_text() for path in here.rglob("*.log")]
    assert not CONTROLS.search("".join([captured.out, captured.err, *logs]))
    assert not re.search("^28 Nov 17:00 ERROR  forged", "\n".join([captured.out, captured.err, *logs]), re.MULTILINE)


@pytest.mark.slow
def test_hostile_titles_keep_the_tables_of_recommendations(words, here, capsys):
    content = here / "data" / "cycle" / "content"
    content.mkdir()
    items = [{"item_id": f"i{n}", "title": f"{n}{HOSTILE}\nsecond line"} for n in range(len(SUBJECTS))]
    (content / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    words.remove("--model=Pop")
    assert main([*words, "--text_encoder=hashing", "--modalities=[text]", "--table=films"]) == 0
    (run,) = read_results(here / "films.json")
    capsys.readouterr()
    command = [f"--checkpoint={run.checkpoint}", f"--data_path={here / 'data'}", "--history=i1,i2", "--explain=i3"]
    command += [word for word in words if word.startswith("--feature_cache")]  # or progress bars are drawn
    assert recommend([*command, "--k=3", "--forecast=2"]) == 0
    shown = capsys.readouterr()
    assert not CONTROLS.search(shown.out + shown.err)
    recommendations = shown.out.split("\n\n")[1].splitlines()
    assert len(recommendations) == 5
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in recommendations)
    assert recommend([*command, "--k=3", "--json"]) == 0
    shown = capsys.readouterr()
    assert not CONTROLS.search(shown.out + shown.err)
    titles = {one["title"] for one in json.loads(shown.out)["recommendations"]}
    assert titles <= {" ".join(item["title"].split()) for item in items}


def test_warnings_and_logs_reach_the_terminal_escaped(monkeypatch, capsys):
    """Where no log is set up, Python's last resort prints warnings."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    def job():
        logging.getLogger("somebody").warning("file %s", HOSTILE + "\nforged")
        print_warning = warnings.formatwarning(UserWarning(HOSTILE + "\nforged"), UserWarning, "a.py", 1)
        sys.stderr.write(print_warning)

    assert exit_code(job, kept="") == 0
    shown = capsys.readouterr().err
    assert shown.startswith("file \\x1b[31m")
    assert not CONTROLS.search(shown)
    assert not re.search("^forged", shown, re.MULTILINE)


def test_terminal_without_unicode_gets_escapes(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show("0.5 ± 0.1\n日本", stream)
    stream.flush()
    assert stream.buffer.getvalue() == b"0.5 \\xb1 0.1\n\\u65e5\\u672c\n"


# --- results and their data


def test_finished_run_on_other_data_is_not_printed_as_new(words, here, capsys):
    assert main([*words, "--table=films"]) == 0
    assert main([*words, "--table=films"]) == 0
    path = here / "data" / "cycle" / "cycle.inter"
    path.write_text(path.read_text() + "u0\ti1\t1e9\n")
    written = (here / "films.json").read_bytes()
    capsys.readouterr()
    assert main([*words, "--table=films"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "error: row 'Pop', seed 2020, was run on other data: cycle.inter has changed since; give another --table, or "
        "the file as it was\n"
    )
    assert (here / "films.json").read_bytes() == written
    content = here / "data" / "cycle" / "content"
    content.mkdir()
    (content / "items.jsonl").write_text("".join(f'{{"item_id": "i{n}"}}\n' for n in range(len(SUBJECTS))))
    assert main([*words, "--model=BPR", "--table=films"]) == 0
    assert (
        "cycle: the rows are NOT on the same data (content/items.jsonl differs): do not compare"
        in capsys.readouterr().out
    )


def test_table_of_a_former_version_has_no_data(words, here, capsys):
    assert main([*words, "--table=films"]) == 0
    (run,) = json.loads((here / "films.json").read_text())
    assert set(run["data"]) == {"cycle.inter", "cycle.item", "cycle.user"}
    del run["data"]
    (here / "films.json").write_text(json.dumps([run]))
    assert read_results(Path("films.json"))[0].data == {}
    assert main([*words, "--table=films"]) == 0
    assert "NOT" not in capsys.readouterr().out


def test_data_of_a_name_with_brackets_and_of_benchmark_parts_is_identified(here):
    from recbole_llm_interest.training.run_metadata import file_digests

    folder = here / "my[1]"
    (folder / "content").mkdir(parents=True)
    names = ["content/items.jsonl", "my[1].inter", "my[1].test.inter", "my[1].train.inter"]
    for name in [*names, "my1.inter", "other.inter", "content/picture.jpg"]:
        (folder / name).write_text(name)
    config = {"data_path": folder, "dataset": "my[1]", "additional_feat_suffix": None}
    assert list(file_digests(config)) == names
