"""The trainer of models that count."""

from __future__ import annotations

from typing import Any

import torch
from recbole.config import Config
from recbole.trainer import Trainer


class CountingTrainer(Trainer):
    """Runs the one epoch of a model that has counts in place of weights, and then validates it.

    Args:
        config: RecBole's configuration.
        model: a ``CountingModel``.
    """

    def __init__(self, config: Config, model: torch.nn.Module) -> None:
        super().__init__(config, model)
        self.epochs = min(config["epochs"], 1)
        self.eval_step = min(config["eval_step"], self.epochs)

    def _build_optimizer(self, **kwargs: Any) -> _NoOptimizer:
        return _NoOptimizer()

    def _train_epoch(self, *args: Any, **kwargs: Any) -> tuple[float, ...]:
        """Count, and return no loss."""
        _ = self.model.counts
        return ()


class _NoOptimizer:
    """Replaces the optimizer, of which RecBole saves the state."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
