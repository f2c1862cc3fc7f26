"""Makes ``LLMInterest`` findable by name, everywhere RecBole looks models, datasets, loaders and settings up."""

from __future__ import annotations

import importlib
import importlib.abc
import os
import sys
import types
from importlib.machinery import ModuleSpec
from typing import Any

import recbole.data.dataset
import recbole.data.utils
import recbole.trainer
from recbole.config import Config

from recbole_llm_interest.data.dataloader import HistoryDataLoader
from recbole_llm_interest.data.dataset import LLMInterestDataset
from recbole_llm_interest.data.event_counts import training_events
from recbole_llm_interest.evaluation.batching import bound_batches
from recbole_llm_interest.evaluation.collector import collect_events
from recbole_llm_interest.evaluation.metrics import register_group_metrics
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.settings import PROPERTIES
from recbole_llm_interest.training.trainer import LLMInterestTrainer


def register() -> None:
    """Put the model, dataset, trainer, loader and settings where RecBole looks. Calling it again changes nothing."""
    name = LLMInterest.__name__
    module_name = f"recbole.model.sequential_recommender.{name.lower()}"
    if module_name in sys.modules:
        return
    # The class keeps its own __module__, so that whatever names it by that imports this package.
    module = types.ModuleType(module_name)
    module.__spec__ = ModuleSpec(module_name, loader=None)
    setattr(module, name, LLMInterest)
    sys.modules[module_name] = module
    setattr(recbole.data.dataset, f"{name}Dataset", LLMInterestDataset)
    setattr(recbole.trainer, f"{name}Trainer", LLMInterestTrainer)
    _train_on_whole_histories()
    _load_settings_files()
    bound_batches()
    collect_events(training_events)
    register_group_metrics()
    sys.meta_path.append(_MovedModuleFinder())


def _train_on_whole_histories() -> None:
    original = recbole.data.utils.get_dataloader

    def get_dataloader(config: Config, phase: str) -> type:
        if phase == "train" and config["model"] == LLMInterest.__name__:
            return HistoryDataLoader
        return original(config, phase)

    recbole.data.utils.get_dataloader = get_dataloader


def _load_settings_files() -> None:
    """Read our settings files at the places in RecBole's order that its own have: general, model, sample, data set."""
    original = Config._update_internal_config_dict

    def _update_internal_config_dict(self: Any, file: str) -> Any:
        config_dict = original(self, file)
        ours = {
            "overall.yaml": PROPERTIES / "model" / f"{self.model}.yaml",
            "sample.yaml": PROPERTIES / "dataset" / f"{self.dataset}.yaml",
        }.get(os.path.basename(file))
        if ours is not None and ours.is_file() and self.model_class is LLMInterest:
            original(self, str(ours))
        return config_dict

    Config._update_internal_config_dict = _update_internal_config_dict


#: modules of former versions, and where they are now: what ``python -m`` and scripts of users still name
_MOVED_MODULES = {
    "content.encode": "cli.encode",
    "doctor": "cli.doctor",
    "evaluation.rows": "evaluation.variants",
    "export.__main__": "cli.export",
    "forget": "cli.forget",
    "recommender.__main__": "cli.recommend",
    "report.__main__": "cli.report",
    "runner": "training.comparison",
    "tuning": "cli.tune",
}


class _MovedModuleFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules of ``_MOVED_MODULES`` by their former names; the module that is imported is the one of today."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != __package__ or name not in _MOVED_MODULES:
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        vars(module).update(vars(self._module(spec.name)))
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Do nothing: the module of today was executed as it was imported."""

    def get_code(self, fullname: str) -> types.CodeType:
        """What ``python -m`` executes: the command of the module of today."""
        return compile(f"import sys\nfrom {self._name(fullname)} import main\nsys.exit(main())", fullname, "exec")

    def _module(self, fullname: str) -> types.ModuleType:
        return importlib.import_module(self._name(fullname))

    @staticmethod
    def _name(fullname: str) -> str:
        return f"{__package__}.{_MOVED_MODULES[fullname.partition('.')[2]]}"
