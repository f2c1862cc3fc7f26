"""What the stock trainer can't do: a learning-rate schedule, clipping under mixed precision, losses by their names."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config
from recbole.trainer import Trainer
from recbole.utils import set_color

from recbole_llm_interest.errors import CheckpointError
from recbole_llm_interest.settings import ModelSettings, read_settings


class LLMInterestTrainer(Trainer):
    """RecBole's trainer, with a schedule, clipping that holds under mixed precision, and losses logged by name."""

    def __init__(self, config: Config, model: torch.nn.Module) -> None:
        super().__init__(config, model)
        self.settings = read_settings(ModelSettings, config)

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        optimizer = super()._build_optimizer(**kwargs)
        for group in optimizer.param_groups:
            # RecBole does not pass it on, and the loop over parameters costs a small model dear. Under a gradient
            # scaler the fused step would unscale for itself, after the clipping below.
            if "fused" in group and not self.enable_scaler:
                group["foreach"], group["fused"] = False, True
        if self.config["clip_grad_norm"]:
            optimizer.register_step_pre_hook(self._clip_gradients)
            self.clip_grad_norm = None  # RecBole would clip them while they are scaled; as the optimiser steps, none is
        return optimizer

    def _clip_gradients(self, *_: object) -> None:
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), **self.config["clip_grad_norm"])

    def fit(self, train_data: Any, *args: Any, **kwargs: Any) -> Any:
        """Train as RecBole does; the learning rate follows its schedule from step to step."""
        steps = len(train_data)
        share = learning_rate_schedule(
            self.settings.learning_rate_schedule, self.settings.warmup_epochs * steps, self.epochs * steps
        )
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, share, self.start_epoch * steps - 1)
        hook = self.optimizer.register_step_post_hook(lambda *_: schedule.step())
        try:
            return super().fit(train_data, *args, **kwargs)
        finally:
            hook.remove()

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


def learning_rate_schedule(kind: str, warmup: float, total: int) -> Callable[[int], float]:
    """The share of the learning rate that holds at each step.

    Args:
        kind: what follows the warm-up: ``constant``, or a ``linear`` or ``cosine`` fall to zero at the end.
        warmup: steps over which the rate first rises.
        total: steps of the whole training.
    """

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / (math.ceil(warmup) + 1)
        done = min((step - warmup) / max(total - warmup, 1), 1.0)
        return {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[kind]

    return share


def open_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of whatever model and data set, running no code that it may hold.

    Raises:
        CheckpointError: it is not there, or is damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    damaged = f"checkpoint {path} is damaged, or not one that this package wrote"
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, OSError) as error:
        raise CheckpointError(damaged) from error
    if not isinstance(checkpoint, dict) or "config" not in checkpoint:
        raise CheckpointError(damaged)
    return checkpoint


def read_checkpoint(path: Path, config: Config) -> dict[str, Any]:
    """Read a checkpoint of the model and data set that ``config`` names, running no code that it may hold.

    ``item_digest`` in ``config`` is a hash of the items in RecBole's order, where the data set has been read.

    Raises:
        CheckpointError: it is not there, is damaged, or belongs to something else.
    """
    checkpoint = open_checkpoint(path)
    saved = checkpoint["config"]
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
