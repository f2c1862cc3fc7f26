"""Runs ``quickstart.ipynb`` and writes what its cells show into it: ``make notebook``."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).with_name("quickstart.ipynb")


def executed(path: Path = NOTEBOOK) -> nbformat.NotebookNode:
    """Run all cells of a notebook.

    Args:
        path: of the notebook, which is not changed.

    Returns:
        The notebook with what its cells show; without what goes to standard error, such as progress bars, and without
        times of execution.

    Raises:
        CellExecutionError: a cell raises an error.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, record_timing=False, coalesce_streams=True).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [shown for shown in cell.outputs if shown.get("name") != "stderr"]
    notebook.metadata.pop("language_info", None)  # has the version of Python
    return notebook


if __name__ == "__main__":
    nbformat.write(executed(), NOTEBOOK)
