"""Registers this package's models where RecBole looks up models, data sets, trainers and settings by name.

The import of this module does it, see ``activation``.
"""

from __future__ import annotations

import os
import sys
import types
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from typing import Any

import recbole.data.dataset
import recbole.data.utils
import recbole.trainer
from recbole.config import Config
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.trainer import Trainer

from recbole_llm_interest.baselines.context_text import BM25, NearestText
from recbole_llm_interest.baselines.counting import CountingModel
from recbole_llm_interest.baselines.most_recent import MostRecent
from recbole_llm_interest.baselines.recent_pop import RecentPop
from recbole_llm_interest.baselines.repeat_last import RepeatLast
from recbole_llm_interest.baselines.transition_text import TransitionText
from recbole_llm_interest.baselines.vsknn import VSKNN
from recbole_llm_interest.data.data_card import record_data_cards
from recbole_llm_interest.data.dataloader import HistoryDataLoader
from recbole_llm_interest.data.dataset import LLMInterestDataset
from recbole_llm_interest.data.evaluation_loader import SEEN_ITEMS, SHOWN_ITEMS, evaluation_loader
from recbole_llm_interest.data.event_counts import count_training_events
from recbole_llm_interest.data.event_histories import keep_event_histories
from recbole_llm_interest.data.history_dataset import HistoryDataset
from recbole_llm_interest.data.item_texts import item_text_vectors
from recbole_llm_interest.data.splits import split_all_models_alike
from recbole_llm_interest.data.text_dataset import TextDataset
from recbole_llm_interest.evaluation.batching import limit_evaluation_batches
from recbole_llm_interest.evaluation.collector import collect_ranks
from recbole_llm_interest.evaluation.list_metrics import register_list_metrics
from recbole_llm_interest.evaluation.metrics import register_metrics
from recbole_llm_interest.evaluation.shown_metrics import register_shown_metrics
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.peers.model import PeerModel
from recbole_llm_interest.peers.trainer import PeerTrainer
from recbole_llm_interest.settings import PROPERTIES
from recbole_llm_interest.settings.peers import PEERS
from recbole_llm_interest.training.counting import CountingTrainer
from recbole_llm_interest.training.trainer import LLMInterestTrainer


@dataclass(frozen=True)
class _Registered:
    """A model, and what RecBole trains it on and by.

    Attributes:
        model: its class.
        dataset: class of its data.
        trainer: class of its trainer.
        settings: name of its file in ``properties/model``; with it, the data set's file of this package is read, too.
    """

    model: type[SequentialRecommender]
    dataset: type[HistoryDataset]
    trainer: type[Trainer]
    settings: str | None


def _baseline(model: type[CountingModel[Any]], dataset: type[HistoryDataset] = HistoryDataset) -> _Registered:
    return _Registered(model, dataset, CountingTrainer, model.__name__)


_PEER = _Registered(PeerModel, HistoryDataset, PeerTrainer, None)
_PEER_WITH_CONTENT = _Registered(PeerModel, LLMInterestDataset, PeerTrainer, LLMInterest.__name__)
#: the models that this package adds to RecBole's, by name
REGISTERED = {
    "LLMInterest": _Registered(LLMInterest, LLMInterestDataset, LLMInterestTrainer, LLMInterest.__name__),
    "RepeatLast": _baseline(RepeatLast),
    "RecentPop": _baseline(RecentPop),
    "MostRecent": _baseline(MostRecent),
    "VSKNN": _baseline(VSKNN),
    "TransitionText": _baseline(TransitionText, TextDataset),
    "BM25": _baseline(BM25, TextDataset),
    "NearestText": _baseline(NearestText, LLMInterestDataset),
    **{name: _PEER_WITH_CONTENT if reads_content else _PEER for name, reads_content in PEERS.items()},
}


def register() -> None:
    """Register models, data sets, trainers, dataloaders and settings with RecBole. A second call has no effect."""
    if _module_name(LLMInterest.__name__) in sys.modules:
        return
    for name, registered in REGISTERED.items():
        _register_model(name, registered)
    keep_event_histories()
    split_all_models_alike()
    _use_dataloaders()
    _read_settings_files()
    record_data_cards()
    limit_evaluation_batches()
    collect_ranks(count_training_events, SEEN_ITEMS, SHOWN_ITEMS)
    register_metrics()
    register_shown_metrics()
    register_list_metrics(item_text_vectors)


def _register_model(name: str, registered: _Registered) -> None:
    """Make RecBole find a model by its name, with the classes of its data set and trainer."""
    # The class keeps its own __module__: unpickling it imports this package.
    module = types.ModuleType(_module_name(name))
    module.__spec__ = ModuleSpec(module.__name__, loader=None)
    setattr(module, name, registered.model)
    sys.modules[module.__name__] = module
    setattr(recbole.data.dataset, f"{name}Dataset", registered.dataset)
    setattr(recbole.trainer, f"{name}Trainer", registered.trainer)


def _module_name(model: str) -> str:
    return f"recbole.model.sequential_recommender.{model.lower()}"


def _use_dataloaders() -> None:
    """Make RecBole train ``LLMInterest`` by ``HistoryDataLoader``, and evaluate all models by ``evaluation_loader``."""
    original = recbole.data.utils.get_dataloader

    def get_dataloader(config: Config, phase: str) -> Any:
        if phase == "train" and config["model"] == LLMInterest.__name__:
            return HistoryDataLoader
        loader = original(config, phase)
        return evaluation_loader if loader is FullSortEvalDataLoader else loader

    recbole.data.utils.get_dataloader = get_dataloader


def _read_settings_files() -> None:
    """Make RecBole read this package's settings files, with the precedence of its own model and data set files.

    RecBole reads ``overall.yaml``, the model's file, ``sample.yaml`` and the data set's file, in this order.
    """
    original = Config._update_internal_config_dict

    def _update_internal_config_dict(self: Any, file: str) -> Any:
        config_dict = original(self, file)
        registered = REGISTERED.get(self.model)
        settings = registered.settings if registered is not None else None
        ours = {
            "overall.yaml": PROPERTIES / "model" / f"{settings}.yaml",
            "sample.yaml": PROPERTIES / "dataset" / f"{self.dataset}.yaml",
        }.get(os.path.basename(file))
        if settings is not None and ours is not None and ours.is_file():
            original(self, str(ours))
        return config_dict

    Config._update_internal_config_dict = _update_internal_config_dict


register()
