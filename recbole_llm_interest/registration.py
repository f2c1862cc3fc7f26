"""Makes ``LLMInterest`` findable by name, everywhere RecBole looks models, datasets, loaders and settings up."""

from __future__ import annotations

import importlib.machinery
import os
import sys
import types
from pathlib import Path
from typing import Any

import recbole.data.dataset
import recbole.data.utils
import recbole.trainer
from recbole.config import Config

from recbole_llm_interest.dataloader import HistoryDataLoader
from recbole_llm_interest.dataset import LLMInterestDataset
from recbole_llm_interest.evaluation.batches import bound_batches
from recbole_llm_interest.evaluation.events import collect_events
from recbole_llm_interest.evaluation.groups import register_group_metrics
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.trainer import LLMInterestTrainer

_PACKAGE = Path(__file__).parent
# In a wheel the folder lies inside the package, in a checkout beside it.
PROPERTIES = next(path for path in (_PACKAGE / "properties", _PACKAGE.parent / "properties") if path.is_dir())


def register() -> None:
    """Put the model, dataset, trainer, loader and settings where RecBole looks. Calling it again changes nothing."""
    name = LLMInterest.__name__
    module_name = f"recbole.model.sequential_recommender.{name.lower()}"
    if module_name in sys.modules:
        return
    # The class keeps its own __module__, so that whatever names it by that imports this package.
    module = types.ModuleType(module_name)
    module.__spec__ = importlib.machinery.ModuleSpec(module_name, loader=None)
    setattr(module, name, LLMInterest)
    sys.modules[module_name] = module
    setattr(recbole.data.dataset, f"{name}Dataset", LLMInterestDataset)
    setattr(recbole.trainer, f"{name}Trainer", LLMInterestTrainer)
    _train_on_whole_histories()
    _load_settings_files()
    bound_batches()
    collect_events()
    register_group_metrics()


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
