"""A short run of the mutation fuzzing for CI: hundreds of hostile files and command lines.

``python tests/fuzz/mutate.py KIND --cases=20000`` is the nightly run; ``--case=N`` repeats one case.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import pytest
import torch
from conftest import REPOSITORY

from recbole_llm_interest.cli.encode import main as encode
from recbole_llm_interest.cli.export import main as export

sys.path.insert(0, str(REPOSITORY / "tests" / "fuzz"))
from sandbox import run_cases

FUZZ = REPOSITORY / "tests" / "fuzz"

#: cases of each kind, which take some seconds on one core
LENGTHS = {
    "checkpoint": 100,
    "resume_state": 100,
    "former_checkpoint": 40,
    "state": 200,
    "hub_folder": 80,
    "commands": 30,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LENGTHS)
def test_hostile_files_and_command_lines_are_read_or_refused(kind):
    command = [sys.executable, str(FUZZ / "mutate.py"), kind, f"--cases={LENGTHS[kind]}", "--seed=7"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["refused"] + figures.get("loaded", 0) == LENGTHS[kind]
    assert figures["refused"] > 0


# --- the sandbox detects each kind of finding


def die():
    os.kill(os.getpid(), 11)


def allocate():
    bytearray(2**31)


def connect():
    socket.create_connection(("127.0.0.1", 9))


def initialise():
    torch.distributed.init_process_group("gloo", init_method="tcp://127.0.0.1:9", rank=0, world_size=2)


def loop():
    while True:
        pass


def wait():
    time.sleep(60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hostile", "result"),
    [(die, "crash"), (allocate, "traceback"), (connect, "forbidden"), (initialise, "forbidden"), (loop, "hang"),
     (wait, "hang")],
)  # fmt: skip
def test_finding_is_recorded_and_the_next_case_runs(hostile, result):
    def attempt(case):
        if case == 1:
            hostile()
        return "loaded"

    outcomes = list(run_cases(attempt, range(3), seconds=0.5))
    assert [(outcome.case, outcome.result) for outcome in outcomes] == [(0, "loaded"), (1, result), (2, "loaded")]


# --- former findings


@pytest.mark.parametrize("value", ["[a, b]", "[]", "{}", "1.5"])
@pytest.mark.parametrize("setting", ["ITEM_ID_FIELD", "USER_ID_FIELD", "TIME_FIELD"])
def test_invalid_column_names_are_refused(settings, capsys, setting, value):
    words = [f"--data_path={settings['data_path']}", "--text_encoder=hashing", f"--{setting}={value}"]
    assert encode(["--dataset=cycle", *words]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_option_with_two_dashes_as_value_is_refused(capsys, here):
    assert export(["--checkpoint=a.pth", "--output=b", "--table=--"]) == 2
    assert capsys.readouterr().err == "error: command line: '--table=--' has no value\n"
