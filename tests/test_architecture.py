"""The order of the code: which room imports which, how large its parts may be, and the checks of ruff and mypy."""

from __future__ import annotations

import subprocess
import sys

import code_figures
import pytest
from code_figures import LEVELS, PACKAGE, imports_of, module_name, room_of, trees
from conftest import REPOSITORY

#: what a room does not import, although it lies on a level below or outside the package
FORBIDDEN = {
    "model": {"content.encoders", "content.feature_store", "content.catalogue", "content.pipeline"},
    "baselines": {"content.encoders", "content.feature_store", "content.catalogue", "content.pipeline"},
    "content": {"recbole"},
    "conversion": {"recbole", "torch", "content", "patches"},
}


def test_every_room_is_on_a_level():
    rooms = {room_of(module_name(path)) for path in trees()}
    assert rooms == {room for level in LEVELS for room in level}
    assert len(LEVELS) <= 8


def test_imports_run_downward():
    assert code_figures.upward_imports() == []


@pytest.mark.parametrize("room", FORBIDDEN)
def test_rooms_keep_out_of_what_is_not_theirs(room):
    forbidden = FORBIDDEN[room]
    found = [
        f"{path}:{line} imports {target}"
        for path, tree in trees().items()
        for target, line in imports_of(tree)
        if room_of(module_name(path)) == room
        if any(f"{target.removeprefix(f'{PACKAGE.name}.')}.".startswith(f"{name}.") for name in forbidden)
    ]
    assert found == []


def test_loose_modules_at_the_top():
    assert len(code_figures.loose_modules()) <= 6


#: by the keys of ``code_figures.py``, which says how each is counted
@pytest.mark.parametrize(
    "key",
    ["files", "functions", "complexity", "scores", "docstrings", "shapes", "raises", "examples", "names", "reads"],
)
def test_figures_have_no_offenders(key):
    assert code_figures.OFFENDERS[key]() == []


def test_model_reads_at_a_glance():
    assert len((PACKAGE / "model" / "llm_interest.py").read_text().splitlines()) <= 150


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]])
def test_code_is_clean(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
