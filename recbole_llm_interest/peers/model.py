"""A model of another library as a RecBole model: its network is in another process."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from numpy.typing import NDArray
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm_interest.data.history_dataset import HistoryDataset
from recbole_llm_interest.peers.data import has_clock, histories, item_embeddings, training_events
from recbole_llm_interest.peers.process import PeerProcess, peers_command
from recbole_llm_interest.settings.peers import PEER_PREFIX, PEER_SETTING, PEERS


class PeerModel(SequentialRecommender):
    """A RecTools model, which its own library trains in another process.

    This module holds a copy of its weights, so that checkpoints have them, and asks that process for scores.

    Args:
        config: RecBole's settings. Those that begin with ``rectools_`` are arguments of the library's model.
        dataset: the training part of the data.

    Attributes:
        environment: the library and its version, for results.
        cpu_seconds: CPU time of all epochs so far.
        peak_memory_mb: highest memory of the other process.
        process: the other process, which ends with the block that it is the context of.

    Raises:
        SettingsError: there is no environment of peers, or the model refuses a setting.
        TrainingError: the other process has failed.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: Config, dataset: HistoryDataset) -> None:
        super().__init__(config, dataset)
        self.dataset = dataset
        self.cpu_seconds, self.peak_memory_mb = 0.0, 0.0
        name = config["model"]
        self.process = PeerProcess(name, peers_command())
        weakref.finalize(self, self.process.close)  # unless it is used as a context
        arrays: dict[str, NDArray[Any]] = {**training_events(dataset)}
        if PEERS[name]:
            arrays["embeddings"] = item_embeddings(dataset)
        answer, weights = self.process.ask(self._start(config), arrays)
        self.environment = {"library": f"RecTools {answer['version']}"}
        self.weights = nn.ParameterDict(
            {
                _key(name): nn.Parameter(torch.from_numpy(values), requires_grad=name in answer["trainable"])
                for name, values in weights.items()
            }
        )
        self._names = {_key(name): name for name in weights}
        self.register_load_state_dict_post_hook(lambda *_: self._load())

    def _start(self, config: Config) -> dict[str, Any]:
        given = config.external_config_dict
        settings = {
            key.removeprefix(PEER_SETTING): value for key, value in given.items() if key.startswith(PEER_SETTING)
        }
        if "learning_rate" in given:  # RecBole's default is not the library's
            settings.setdefault("lr", given["learning_rate"])
        return {
            **{"model": config["model"].removeprefix(PEER_PREFIX), "settings": settings, "epochs": config["epochs"]},
            **{"length": self.max_seq_length, "items": self.n_items, "seed": config["seed"]},
            **{"threads": torch.get_num_threads(), "device": config["device"].type},
            "has_clock": has_clock(self.dataset),
        }

    def train_epoch(self) -> float:
        """Train one epoch in the other process and return the library's mean loss.

        Raises:
            TrainingError: that process has failed.
        """
        answer, weights = self.process.ask({"do": "train"})
        self.cpu_seconds += answer["cpu_seconds"]
        self.peak_memory_mb = answer["peak_memory_mb"]
        with torch.no_grad():
            for name, values in weights.items():
                self.weights[_key(name)].copy_(torch.from_numpy(values))
        return float(answer["loss"])

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Score all items for a batch of histories, ``[B, N]``; those that training lacks get minus infinity."""
        given = histories(self.dataset, interaction, self.max_seq_length)
        _, values = self.process.ask({"do": "score"}, given)
        return torch.from_numpy(values["scores"]).to(self.device)

    def predict(self, interaction: Interaction) -> Tensor:
        """Score one item for each history, ``[B]``."""
        rows = torch.arange(len(interaction), device=self.device)
        return self.full_sort_predict(interaction)[rows, interaction[self.ITEM_ID]]

    def _load(self) -> None:
        values = {self._names[key]: weights.detach().cpu().numpy() for key, weights in self.weights.items()}
        self.process.ask({"do": "load"}, values)


def _key(name: str) -> str:
    """Return the name of a weight in a ``ParameterDict``, whose names have no dots."""
    return name.replace(".", "/")
