"""What the stock trainer can't do for LLMInterest: say which part of the loss is which."""

from __future__ import annotations

from recbole.trainer import Trainer
from recbole.utils import set_color


class LLMInterestTrainer(Trainer):
    """RecBole's trainer, with the parts of the loss logged by name."""

    def _generate_train_loss_output(
        self, epoch_idx: int, s_time: float, e_time: float, losses: tuple[float, ...]
    ) -> str:
        parts = ", ".join(f"{name}: {loss:.4f}" for name, loss in self._by_name(losses))
        return f"{set_color(f'epoch {epoch_idx} training', 'green')} [time: {e_time - s_time:.2f}s, {parts}]"

    def _add_train_loss_to_tensorboard(
        self, epoch_idx: int, losses: tuple[float, ...], tag: str = "Loss/Train"
    ) -> None:
        for name, loss in self._by_name(losses):
            self.tensorboard.add_scalar(f"{tag}/{name}", loss, epoch_idx)

    def _by_name(self, losses: tuple[float, ...]) -> list[tuple[str, float]]:
        return list(zip(self.model.loss_names, losses, strict=False))
