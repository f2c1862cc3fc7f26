"""What the stock trainer can't do: say which part of the loss is which, and what a checkpoint belongs to."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config
from recbole.trainer import Trainer
from recbole.utils import set_color

from recbole_llm_interest.errors import CheckpointError


class LLMInterestTrainer(Trainer):
    """RecBole's trainer, with the parts of the loss logged by name and the optimiser's step in one kernel."""

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        optimizer = super()._build_optimizer(**kwargs)
        for group in optimizer.param_groups:
            if "fused" in group:  # RecBole does not pass it on, and the loop over parameters costs a small model dear
                group["foreach"], group["fused"] = False, True
        return optimizer

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


def read_checkpoint(path: Path, config: Config) -> dict[str, Any]:
    """Read a checkpoint of the model and data set that ``config`` names, running no code that it may hold.

    ``item_digest`` in ``config`` is a hash of the items in RecBole's order, where the data set has been read.

    Raises:
        CheckpointError: it is not there, is damaged, or belongs to something else.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        saved = checkpoint["config"]
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, OSError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged, or not one that this package wrote") from error
    for key in ("model", "dataset"):
        if saved[key] != config[key]:
            raise CheckpointError(
                f"checkpoint {path} is of {key} {saved[key]!r}, not {config[key]!r}: name it by --{key}={saved[key]}"
            )
    if saved["item_digest"] != config["item_digest"] and config["item_digest"] is not None:
        raise CheckpointError(
            f"checkpoint {path} was trained on other items, or on the same in another order: {config['dataset']} has "
            "changed since; train again"
        )
    return checkpoint


def restore_model(model: torch.nn.Module, checkpoint: dict[str, Any]) -> None:
    """Give ``model`` the weights of a checkpoint.

    Raises:
        CheckpointError: the model was built with other settings, or for other items, than the checkpoint's.
    """
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        mismatch = str(error).splitlines()[1].strip()
        raise CheckpointError(f"the checkpoint was trained with other settings or other data: {mismatch}") from error
    model.load_other_parameter(checkpoint["other_parameter"])  # type: ignore[operator]
