"""Each mistake of ``mistakes.yaml`` ends in one useful line and exit code 2, soon, and leaves no file."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import QUICK, REPOSITORY, SUBJECTS, cycle_events, write_dataset

MISTAKES = yaml.safe_load(Path(__file__).with_name("mistakes.yaml").read_text("utf-8"))
#: CPU seconds of the whole process; bounds of time by the clock would depend on the machine's other work
CPU_SECONDS = 2.0
QUICK_SETTINGS = [f"--{key}={value}" for key, value in {**QUICK, "epochs": 1}.items()]


def named(mistakes):
    return [pytest.param(mistake, id=mistake["command"][:80]) for mistake in mistakes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data sets with and without faults, a table to convert, and files of rows."""
    folder = tmp_path_factory.mktemp("mistakes")
    data, lines = folder / "data", "u1\ti1\t5\nu1\ti2\t6\n"
    titles = {f"i{number}": f"A film about {subject}" for number, subject in enumerate(SUBJECTS)}
    write_dataset(data, "cycle", cycle_events(), titles)
    write_dataset(data, "other", [(user, f"other-{item}", time) for user, item, time in cycle_events()], titles)
    inters = {
        "renamed/mt": f"user_id:token\titem_id:token\ttimestamp:float\n{lines}",
        "timeless/timeless": "user_id:token\titem_id:token\nu1\ti1\n",
        "dates/dates": "user_id:token\titem_id:token\ttimestamp:float\nu1\ti1\t2014-01-01\nu1\ti2\t2014-01-02 10:00\n",
        "untyped/untyped": f"user_id\titem_id\ttimestamp\n{lines}",
    }
    (data / "empty").mkdir()
    for name, text in inters.items():
        (data / name).parent.mkdir()
        (data / f"{name}.inter").write_text(text)
    rows = "".join(f"u{n % 7},i{n % 5},2014-01-{1 + n % 28:02}\n" for n in range(60))
    (folder / "events.csv").write_text(f"user,item,time\n{rows}")
    (folder / "list.yaml").write_text("- Pop\n- GRU4Rec\n")
    (folder / "misspelt.yaml").write_text("wide: {model: LLMInterest, hiden_size: 256}\n")
    (folder / "rows.yaml").write_text("wide: {model: LLMInterest, hidden_size: 256}\n")
    return folder


@pytest.fixture(scope="module")
def checkpoint(folder):
    """The checkpoint of a quick training on ``cycle``, whose result is in the table ``films``."""
    words = ["--model=LLMInterest", "--dataset=cycle", "--data_path=data", "--text_encoder=hashing", "--table=films"]
    code, _, error, _ = run(folder, ["compare", *words, *QUICK_SETTINGS])
    assert code == 0, error
    return json.loads((folder / "films.json").read_text())[0]["checkpoint"]


def run(folder, words, without=None):
    """Run ``llm-interest``; returns exit code, output, error and CPU seconds. ``without``: a package that is hidden."""
    hide = f"import sys; sys.modules[{without!r}] = None; " if without else "import sys; "
    command = [sys.executable, "-c", f"{hide}import llm_interest; sys.exit(llm_interest.main(sys.argv[1:]))"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [*command, *words], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process.stdout, process.stderr:
        out, error = process.stdout.read(), process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, out, error, used.ru_utime + used.ru_stime


def check(mistake, error, **names):
    line = error.strip().splitlines()[-1]
    assert line.startswith("error: ")
    for words in mistake["says"]:
        assert names.get(words, words) in line
    assert "Traceback" not in error
    assert 20 < len(line) < 1000


def test_list_is_long_and_has_no_mistake_twice():
    commands = [mistake["command"] for mistake in MISTAKES]
    assert len({*commands}) == len(commands) >= 36


@pytest.mark.parametrize("mistake", named([mistake for mistake in MISTAKES if not mistake.get("trained")]))
def test_mistake_is_one_line_at_once(mistake, folder):
    before = set(folder.rglob("*"))
    code, out, error, seconds = run(folder, shlex.split(mistake["command"]), mistake.get("without"))
    assert (code, out, error.count("\n")) == (2, "", 1), error
    check(mistake, error)
    assert seconds < CPU_SECONDS
    assert set(folder.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("mistake", named([mistake for mistake in MISTAKES if mistake.get("trained")]))
def test_mistake_that_needs_the_model_is_one_line(mistake, folder, checkpoint):
    words = shlex.split(mistake["command"].replace("CHECKPOINT", checkpoint))
    if words[0] == "compare" and "--table=films" not in words:
        words += [word for word in QUICK_SETTINGS if word.partition("=")[0] not in mistake["command"]]
    elif words[0] == "compare":
        words += ["--text_encoder=hashing", *(word for word in QUICK_SETTINGS if not word.startswith("--epochs"))]
    code, _, error, _ = run(folder, words)
    assert code == 2, error
    check(mistake, error, CHECKPOINT=checkpoint)


def test_help_and_doctor_are_quick(folder):
    for words in (["--help"], ["compare", "--help"], ["doctor"]):
        code, out, error, seconds = run(folder, words)
        assert (code, error) == (0, "")
        assert len(out) > 500
        assert seconds < 1.5


@pytest.mark.slow
def test_second_encoding_is_quick(folder):
    words = ["encode", "--dataset=cycle", "--data_path=data"]
    assert run(folder, words)[0] == 0
    code, out, _, seconds = run(folder, words)
    assert code == 0
    assert "| items' text | all-MiniLM-L6-v2 |         0 |" in out
    assert seconds < 3
