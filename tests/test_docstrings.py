"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib

import pytest
from code_figures import PACKAGE, module_name, trees

MODULES = [module_name(path) for path in trees() if ">>>" in path.read_text()]


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module, request, here):
    imported = importlib.import_module(f"{PACKAGE.name}.{module}".removesuffix(".__init__"))
    is_recommender = module.startswith("recommender") or module == "report.live_figures"
    names = request.getfixturevalue("recommender_names" if is_recommender else "docstring_globals")
    docstrings = [found for found in doctest.DocTestFinder().find(imported) if found.examples]
    assert docstrings
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for docstring in docstrings:
        docstring.globs.update(names() if is_recommender else names)  # an example may change its recommender
        runner.run(docstring)
    assert runner.summarize().failed == 0
