"""``llm-interest``: every subcommand is reached, help is cheap, and mistakes and interrupts are one line."""

from __future__ import annotations

import importlib
import importlib.metadata
import signal
import subprocess
import sys

import pytest
from conftest import REPOSITORY

import llm_interest


def test_console_script_is_an_entry_point():
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="llm-interest")
    assert script.load() is llm_interest.main


def test_help_lists_every_subcommand_without_importing_torch():
    program = (
        "import sys, llm_interest\ncode = llm_interest.main(['--help'])\n"
        "assert not {'torch', 'recbole', 'recbole_llm_interest'} & set(sys.modules)\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = done.stdout.partition("subcommands:\n")[2].splitlines()
    for line, (name, subcommand) in zip(listed, llm_interest.SUBCOMMANDS.items(), strict=False):
        assert line.split(maxsplit=1) == [name, subcommand.summary]
        assert len(line) <= 80


@pytest.mark.parametrize("name", llm_interest.SUBCOMMANDS)
def test_every_subcommand_goes_by_its_name_in_help(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["llm-interest", name, "--help"])
    with pytest.raises(SystemExit) as end:
        llm_interest.main()
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: llm-interest {name} [-h]")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a subcommand is missing: give one of convert, join, compare, tune, "),
        (["docter"], "unknown subcommand 'docter': did you mean 'doctor'? known are convert, join, compare, tune, "),
        (["--dataset=ml-100k"], "unknown subcommand '--dataset=ml-100k': known are convert, join, compare, tune, "),
    ],
)
def test_unknown_subcommand_is_one_line(words, message, capsys):
    assert llm_interest.main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: command line: {message}")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_exit_code_is_the_subcommands(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["test"])
    assert llm_interest.main(["forget"]) == 2
    assert capsys.readouterr().err.startswith("error: command line: nothing to forget")


def test_interrupt_while_a_subcommand_is_imported_is_one_line(monkeypatch, capsys):
    def interrupted(name):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sys, "argv", ["test"])
    monkeypatch.setattr(importlib, "import_module", interrupted)
    assert llm_interest.main(["doctor"]) == 130
    assert capsys.readouterr().err == "\ninterrupted: nothing was started\n"


@pytest.mark.slow
def test_output_that_nobody_reads_is_no_traceback():
    command = [sys.executable, "-c", "import sys, llm_interest; sys.exit(llm_interest.main(['settings']))"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    assert process.wait() == 141
