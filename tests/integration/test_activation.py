"""The package is light to import, and active whenever RecBole is: whoever imports what first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

CHECK = "from recbole.utils import get_model; print(get_model('LLMInterest').__module__)"
#: what a program may import first: RecBole, the package, or a module of any room
FIRST = [
    "recbole.config, recbole_llm_interest",
    "recbole_llm_interest",
    *(
        f"recbole_llm_interest.{module}"
        for module in (
            *("registration", "erasure", "patches.data", "content.pipeline", "data.dataset", "model.llm_interest"),
            *("evaluation.metrics", "training.trainer", "baselines.vsknn", "peers.model", "recommender"),
            *("export.saving", "report.page"),
        )
    ),
]


def in_a_process(program):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_any_part_may_be_imported_first():
    """All of them in forks of one process, which has loaded the large libraries, but not RecBole."""
    program = f"""
import os, sys
import torch, pandas, scipy.stats, sklearn.utils
assert "recbole" not in sys.modules
for first in {FIRST!r}:
    if os.fork() == 0:
        exec("import " + first)
        exec({CHECK!r})
        sys.stdout.flush()
        os._exit(0)
    _, status = os.wait()
    assert status == 0, first
"""
    done = in_a_process(program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["recbole_llm_interest.model.llm_interest"] * len(FIRST)


def test_import_loads_neither_recbole_nor_torch():
    done = in_a_process("import sys, recbole_llm_interest; print({'recbole', 'torch', 'pandas'} & set(sys.modules))")
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize(
    ("words", "code", "shown"),
    [
        (["compare", "--help"], 0, "usage: "),
        (["settings"], 0, "settings of the plug-in"),
        (["compare", "--epohcs=3"], 2, "error: unknown setting 'epohcs': did you mean 'epochs'?"),
        (["compare", "--model=SASREC"], 2, "error: unknown model 'SASREC': did you mean 'SASRec'?"),
        (["compare", "--temperature=-1"], 2, "error: temperature=-1 is not a value of this setting"),
        (["compare", "--dataset=none"], 2, "error: data set 'none': there is no folder dataset/none"),
        (["tune", "--trials=many"], 2, "error: command line: argument --trials: invalid int value: 'many'"),
        (["encode", "--config_files=none.yaml"], 2, "error: config file none.yaml"),
        (["recommend"], 2, "error: command line: the following arguments are required: --checkpoint"),
        (["doctor", "--jsn"], 2, "error: command line: unrecognized arguments: --jsn"),
    ],
)
def test_help_and_mistakes_are_answered_without_recbole_and_torch(words, code, shown):
    program = (
        "import sys, llm_interest\n"
        "try:\n    code = llm_interest.main(sys.argv[1:])\n"
        "except SystemExit as end:\n    code = end.code\n"
        "assert not {'recbole', 'torch', 'pandas'} & set(sys.modules)\nsys.exit(code)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == code, done.stderr
    assert (done.stdout + done.stderr).startswith(shown)
    assert code == 0 or done.stderr.count("\n") == 1
