"""The notebook runs within its time, and its cells show the kinds of output that the committed file has."""

from __future__ import annotations

import importlib.util
import resource

import pytest
from conftest import REPOSITORY

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOK = REPOSITORY / "examples" / "quickstart.ipynb"
#: CPU seconds of all processes of the notebook: by the clock it would depend on the machine's other work
CPU_SECONDS = 180


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


def _cpu_seconds_of_children():
    """Of processes that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
def test_it_runs_in_time_and_shows_the_same_kinds_of_output(committed, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    specification = importlib.util.spec_from_file_location("run_notebook", REPOSITORY / "examples" / "run_notebook.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    before = _cpu_seconds_of_children()
    shown = module.executed()
    assert 1 < _cpu_seconds_of_children() - before < CPU_SECONDS
    assert kinds(shown) == kinds(committed)
    for expected, found in zip(committed.cells, shown.cells, strict=True):
        if "Recommender(" in str(expected.get("outputs")):
            assert expected.outputs[0].data["text/plain"] == found.outputs[0].data["text/plain"]
