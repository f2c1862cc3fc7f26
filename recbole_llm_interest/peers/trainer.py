"""RecBole's trainer for models that another process trains."""

from __future__ import annotations

from typing import Any

import torch
from recbole.trainer import Trainer


class PeerTrainer(Trainer):
    """Asks the model for each epoch. Validation, early stopping, checkpoints and testing are RecBole's."""

    #: the optimizer is in the other process, so an interrupted run starts anew
    is_resumable = False

    def cpu_seconds(self) -> float:
        """Return the CPU time of all epochs so far, that of the other process."""
        return float(self.model.cpu_seconds)

    def peak_memory_mb(self) -> float:
        """Return the highest memory of the other process, in MiB."""
        return float(self.model.peak_memory_mb)

    def current_learning_rate(self) -> None:
        """Return None: the optimizer is in the other process, and RecBole's here makes no step."""

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, loss_func: object = None, show_progress: bool = False
    ) -> float:
        loss = self.model.train_epoch()
        self._check_nan(torch.tensor(loss))
        return loss * len(train_data)  # RecBole's trainers return the sum over its batches
