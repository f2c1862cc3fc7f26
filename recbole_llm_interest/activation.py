"""Patches RecBole and registers this package's models with it, at the moment when RecBole is first imported.

Importing ``recbole_llm_interest`` is all that a program has to do, and takes milliseconds: help and mistakes of the
command line are answered without RecBole and torch. RecBole falls back silently to its own data set and trainer for a
model whose classes it cannot find, so nobody may get it without the registration: ``import recbole``, by whomever, is
what activates the package, and so is the import of any part of it that computes.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
import types
from importlib.machinery import ModuleSpec

_RECBOLE = "recbole"
#: present names of modules by their former names, which ``python -m`` and scripts of users may contain
MOVED_MODULES = {
    "content.encode": "cli.encode",
    "dataloader": "data.dataloader",
    "dataset": "data.dataset",
    "doctor": "cli.doctor",
    "evaluation.rows": "io.variants",
    "evaluation.variants": "io.variants",
    "export.__main__": "cli.export",
    "forget": "cli.forget",
    "recommender.__main__": "cli.recommend",
    "report.__main__": "cli.report",
    "runner": "cli.compare",
    "tuning": "cli.tune",
}


def activate() -> None:
    """Import RecBole, patched, with this package's models registered. A second call has no effect."""
    if not _Activation.has_begun:
        importlib.import_module(_RECBOLE)
        _Activation.run()  # if RecBole was imported before this package


def watch_imports() -> None:
    """Activate the package as soon as RecBole is imported, and import modules by their former names, too."""
    if _RECBOLE in sys.modules:
        _Activation.run()
    else:
        sys.meta_path.insert(0, _Activation())
    sys.meta_path.append(_MovedModuleFinder())


class _Activation(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands before the import of RecBole: the first one patches RecBole and registers the package with it."""

    has_begun = False

    @classmethod
    def run(cls) -> None:
        """Patch and register, once."""
        if cls.has_begun:
            return
        cls.has_begun = True
        try:
            importlib.import_module(f"{__package__}.patches").install()
            importlib.import_module(f"{__package__}.registration")
        except BaseException:
            cls.has_begun = False  # the next import tries again, and does not find RecBole as shipped
            for name in [name for name in sys.modules if f"{name}.".startswith(f"{_RECBOLE}.")]:
                del sys.modules[name]
            raise

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname != _RECBOLE or self.has_begun:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname)
        if found is None:
            return None
        spec = ModuleSpec(fullname, self, origin=found.origin, is_package=True)
        spec.submodule_search_locations = found.submodule_search_locations
        return spec

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """Return the module that the activation has imported."""
        self.run()
        return importlib.import_module(_RECBOLE)

    def exec_module(self, module: types.ModuleType) -> None:
        """Do nothing: the activation has executed the module."""


class _MovedModuleFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports and runs modules by the former names in ``MOVED_MODULES``."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != __package__ or name not in MOVED_MODULES:
            return None
        present = importlib.util.find_spec(_present_name(fullname))
        return ModuleSpec(fullname, self, origin=present.origin if present else None)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        vars(module).update(vars(importlib.import_module(_present_name(spec.name))))
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Do nothing: importing the present module has executed it."""

    def get_code(self, fullname: str) -> types.CodeType:
        """Return what ``python -m`` executes: the command of the module, though not in processes that it spawns."""
        command = f"from llm_interest import run\n    sys.exit(run({_present_name(fullname).rpartition('.')[2]!r}))"
        return compile(f"import sys\nif __name__ == '__main__':\n    {command}", fullname, "exec")


def _present_name(former: str) -> str:
    return f"{__package__}.{MOVED_MODULES[former.partition('.')[2]]}"
