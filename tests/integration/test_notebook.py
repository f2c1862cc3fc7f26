"""The notebook of the first hour runs, and what it was committed with is what it shows."""

from __future__ import annotations

import importlib.util

import pytest
from conftest import REPOSITORY

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOK = REPOSITORY / "examples" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def committed():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return notebook


def kinds(notebook):
    """What each cell shows: formats of values, and text."""
    return [
        [sorted(shown.get("data", {shown.get("name"): None})) for shown in cell.get("outputs", [])]
        for cell in notebook.cells
    ]


def test_it_is_short_and_has_been_run(committed):
    assert len(committed.cells) <= 25
    assert all(cell.outputs for cell in committed.cells[3:] if cell.cell_type == "code" and _ends_with_a_value(cell))
    assert sum(["image/png", "text/plain"] in shown for shown in kinds(committed)) == 2
    assert NOTEBOOK.stat().st_size < 300_000


def _ends_with_a_value(cell):
    return not cell.source.splitlines()[-1].lstrip().startswith(("return", "events[", "from"))


@pytest.mark.slow
def test_it_runs_and_shows_what_it_was_committed_with(committed, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    specification = importlib.util.spec_from_file_location("run_notebook", REPOSITORY / "examples" / "run_notebook.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    shown = module.executed()
    assert kinds(shown) == kinds(committed)
    for before, after in zip(committed.cells, shown.cells, strict=True):
        if "Recommender(" in str(before.get("outputs")):
            assert before.outputs[0].data["text/plain"] == after.outputs[0].data["text/plain"]
