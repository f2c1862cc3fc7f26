"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib

import pytest
from code_figures import PACKAGE, module_name, trees

MODULES = [module_name(path) for path in trees() if ">>>" in path.read_text()]


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module, docstring_globals, here):
    name = f"{PACKAGE.name}.{module}".removesuffix(".__init__")
    outcome = doctest.testmod(importlib.import_module(name), extraglobs=docstring_globals, optionflags=doctest.ELLIPSIS)
    assert outcome.attempted > 0
    assert outcome.failed == 0
