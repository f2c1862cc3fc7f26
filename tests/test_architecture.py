"""The house keeps its order: which room may use which, and the checks an experienced team runs on it."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from conftest import REPOSITORY

PACKAGE = REPOSITORY / "recbole_llm_interest"
#: from the top of the house to its bottom; a module may import from its own level's file, or from below
LEVELS = [
    {"__init__", "cli"},
    {"report"},
    {"registration", "recommender", "export"},
    {"training"},
    {"model", "data", "evaluation"},
    {"content", "patches"},
    {"settings", "io", "distributed"},
    {"errors"},
]
FORBIDDEN = {
    "model": {"content.encoders", "content.feature_store", "content.catalogue", "content.pipeline"},
    "content": {"recbole"},
}


def modules():
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def room_of(module):
    """The first part of its name; ``python -m recbole_llm_interest`` is a command, too."""
    return module.split(".")[0].replace("__main__", "cli")


def level_of(module):
    return next(level for level, rooms in enumerate(LEVELS) if room_of(module) in rooms)


def test_every_room_is_on_a_level():
    assert {room_of(module) for module in modules()} == {room for rooms in LEVELS for room in rooms}


@pytest.mark.parametrize(("module", "path"), modules().items())
def test_imports_run_downward(module, path):
    for target in imports_of(path):
        if not target.startswith(f"{PACKAGE.name}."):
            continue
        target = target.removeprefix(f"{PACKAGE.name}.")
        assert room_of(target) == room_of(module) or level_of(target) > level_of(module), f"{module} imports {target}"


@pytest.mark.parametrize(("module", "path"), modules().items())
def test_rooms_keep_out_of_what_is_not_theirs(module, path):
    forbidden = FORBIDDEN.get(room_of(module), set())
    for target in imports_of(path):
        target = target.removeprefix(f"{PACKAGE.name}.")
        assert not any(target == room or target.startswith(f"{room}.") for room in forbidden), f"{module}: {target}"


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]])
def test_code_is_clean(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
