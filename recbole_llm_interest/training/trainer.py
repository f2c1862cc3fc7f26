"""What the stock trainer can't do: a schedule, clipping under mixed precision, sparse gradients, losses by names.

And, on a GPU, to go on without waiting for it.
"""

from __future__ import annotations

from typing import Any

import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.trainer import Trainer
from recbole.utils import set_color
from torch import Tensor
from tqdm import tqdm

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.settings import ModelSettings, read_settings
from recbole_llm_interest.training.optim import (
    DenseAndSparse,
    clip_gradients,
    has_fast_bfloat16,
    learning_rate_schedule,
)

#: steps after which a GPU is waited for, to see whether the loss is still a number
_STEPS_UNSEEN = 50


class LLMInterestTrainer(Trainer):
    """RecBole's trainer, with a schedule, clipping that holds under mixed precision, and losses logged by name."""

    def __init__(self, config: Config, model: torch.nn.Module) -> None:
        super().__init__(config, model)
        self.settings = read_settings(ModelSettings, config)
        in_bfloat16 = self.enable_amp or self.settings.loss_precision == "bfloat16"
        if in_bfloat16 and self.device.type == "cpu" and not has_fast_bfloat16():
            self.logger.warning(
                "loss_precision=%s, enable_amp=%s: this processor has no instructions for bfloat16 and takes many "
                "times as long as with float32; set loss_precision=float32 and enable_amp=False",
                self.settings.loss_precision,
                self.enable_amp,
            )

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        sparse = [
            layer.weight for layer in self.model.modules() if isinstance(layer, torch.nn.Embedding) and layer.sparse
        ]
        of_rows = {id(weight) for weight in sparse}
        dense = [parameter for parameter in self.model.parameters() if id(parameter) not in of_rows]
        optimizer = super()._build_optimizer(params=dense, **kwargs)
        for group in optimizer.param_groups:
            # RecBole does not pass it on, and the loop over parameters costs a small model dear. Under a gradient
            # scaler the fused step would unscale for itself, after the clipping below.
            if "fused" in group and not self.enable_scaler:
                group["foreach"], group["fused"] = False, True
        if sparse:
            if self.learner.lower() != "adam":
                raise SettingsError(
                    f"loss_candidates needs learner=adam, which can leave alone the items that a step has not met; "
                    f"learner={self.learner} cannot"
                )
            rows = torch.optim.SparseAdam(sparse, lr=self.learning_rate)
            optimizer = DenseAndSparse(optimizer, rows, self.weight_decay)
        if self.config["clip_grad_norm"]:
            optimizer.register_step_pre_hook(self._clip_gradients)
            self.clip_grad_norm = None  # RecBole would clip them while they are scaled; as the optimiser steps, none is
        return optimizer

    def _clip_gradients(self, *_: object) -> None:
        clip_gradients(self.model.parameters(), **self.config["clip_grad_norm"])

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

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: bool = False
    ) -> tuple[float, ...]:
        """Train for an epoch; the sum over its batches of each part of the loss.

        RecBole's way looks at each part of each batch's loss before it goes on, and so has the processor wait for the
        GPU several times a step, and the GPU then for the processor. Here the sums stay on the device. (RecBole's own
        way of training by several processes averages gradients within its loop, and is left to that.)

        Raises:
            ValueError: the loss is NaN, in RecBole's words.
        """
        if not self.config["single_spec"]:
            return super()._train_epoch(train_data, epoch_idx, loss_func, show_progress)
        self.model.train()
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.enable_scaler)
        loss_func = loss_func or self.model.calculate_loss
        steps_unseen = 1 if self.device.type == "cpu" else _STEPS_UNSEEN
        total = torch.zeros(len(self.model.loss_names), dtype=torch.float64, device=self.device)
        title = set_color(f"Train {epoch_idx:>5}", "pink")
        for step, batch in enumerate(tqdm(train_data, desc=title, ncols=100, disable=not show_progress), start=1):
            self.optimizer.zero_grad()
            with torch.autocast(self.device.type, enabled=self.enable_amp):
                parts = torch.stack(loss_func(to_device(batch, self.device)))
            total += parts.detach()
            if step % steps_unseen == 0:
                self._check_nan(total)
            scaler.scale(parts.sum()).backward()  # type: ignore[no-untyped-call]
            scaler.step(self.optimizer)
            scaler.update()
        self._check_nan(total)
        return tuple(total.tolist())

    def _check_nan(self, loss: Tensor) -> None:
        super()._check_nan(loss.sum())

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


def to_device(batch: Interaction, device: torch.device) -> Interaction:
    """A batch on a device; on its way to a GPU it is waited for by what uses it, and not by the processor."""
    if device.type != "cuda":
        return batch.to(device)
    return Interaction(
        {name: values.pin_memory().to(device, non_blocking=True) for name, values in batch.interaction.items()}
    )
