"""RecBole's trainer with a learning rate schedule, clipping under mixed precision, sparse gradients and named losses.

On a GPU, it also avoids waiting for the device in each step.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.trainer import Trainer
from recbole.utils import set_color
from torch import Tensor
from tqdm import tqdm

from recbole_llm_interest.distributed import world_size
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.settings import ModelSettings, WarmStartSettings, check_warm_start, read_settings
from recbole_llm_interest.training.optim import (
    DenseAndSparse,
    clip_gradients,
    has_fast_bfloat16,
    learning_rate_schedule,
)

#: number of steps between checks of the loss for NaN on a GPU: each check waits for the device
_NAN_CHECK_STEPS = 50


class _TimeIsUpError(Exception):
    """The setting ``minutes`` ends the training."""


class LLMInterestTrainer(Trainer):
    """The trainer of ``LLMInterest``, which RecBole finds by its name.

    It adds a learning rate schedule with warm-up, gradient clipping that is right under mixed precision, sparse
    gradients of the item embedding, and losses logged by name.

    Args:
        config: RecBole's configuration.
        model: the model.

    Raises:
        SettingsError: ``minutes`` is set for a training by several processes.
    """

    eval_step: int  # RecBole's: epochs between validations

    def __init__(self, config: Config, model: torch.nn.Module) -> None:
        super().__init__(config, model)
        self.settings = read_settings(ModelSettings, config)
        warm_start = read_settings(WarmStartSettings, config)
        check_warm_start(config["model"], warm_start, world_size())
        self._minutes, self._end = warm_start.minutes, math.inf
        in_bfloat16 = self.enable_amp or self.settings.loss_precision == "bfloat16"
        if in_bfloat16 and self.device.type == "cpu" and not has_fast_bfloat16():
            self.logger.warning(
                "loss_precision=%s, enable_amp=%s: this processor has no instructions for bfloat16 and takes many "
                "times as long as with float32; set loss_precision=float32 and enable_amp=False",
                self.settings.loss_precision,
                self.enable_amp,
            )

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        layers = [layer for layer in self.model.modules() if isinstance(layer, torch.nn.Embedding) and layer.sparse]
        sparse = [layer.weight for layer in layers]
        sparse_ids = {id(weight) for weight in sparse}
        dense = [parameter for parameter in self.model.parameters() if id(parameter) not in sparse_ids]
        optimizer = super()._build_optimizer(params=dense, **kwargs)
        self._use_fused_steps(optimizer)
        if sparse:
            optimizer = self._with_sparse(optimizer, sparse)
        if self.config["clip_grad_norm"]:
            optimizer.register_step_pre_hook(self._clip_gradients)
            self.clip_grad_norm = None  # RecBole would clip the scaled gradients; the hook runs after unscaling
        return optimizer

    def _use_fused_steps(self, optimizer: torch.optim.Optimizer) -> None:
        """Use the fused implementation, which is faster for small models and which RecBole cannot set.

        Under a gradient scaler, a fused step unscales the gradients itself, after they are clipped; it is off then.
        """
        if self.enable_scaler:
            return
        for group in optimizer.param_groups:
            if "fused" in group:
                group["foreach"], group["fused"] = False, True

    def _with_sparse(self, optimizer: torch.optim.Optimizer, weights: list[Tensor]) -> DenseAndSparse:
        """Add an optimizer of the embeddings that have sparse gradients.

        Raises:
            SettingsError: ``learner`` has no variant for sparse gradients.
        """
        if self.learner.lower() != "adam":
            raise SettingsError(
                "loss_candidates needs learner=adam, which can update only the items that a step has used; "
                f"learner={self.learner} cannot"
            )
        sparse = torch.optim.SparseAdam(weights, lr=self.learning_rate)
        return DenseAndSparse(optimizer, sparse, self.weight_decay)

    def _clip_gradients(self, *_: object) -> None:
        clip_gradients(self.model.parameters(), **self.config["clip_grad_norm"])

    def fit(self, train_data: Any, *args: Any, **kwargs: Any) -> Any:
        """Train as RecBole does, with the learning rate schedule, which is updated after each step.

        ``minutes`` later, training ends.
        """
        self._end = time.monotonic() + 60 * (self._minutes or math.inf)
        steps = len(train_data)
        factor = learning_rate_schedule(
            self.settings.learning_rate_schedule, self.settings.warmup_epochs * steps, self.epochs * steps
        )
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor, self.start_epoch * steps - 1)
        hook = self.optimizer.register_step_post_hook(lambda *_: schedule.step())
        try:
            return super().fit(train_data, *args, **kwargs)
        except _TimeIsUpError:
            return self.best_valid_score, self.best_valid_result
        finally:
            hook.remove()

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: bool = False
    ) -> tuple[float, ...]:
        """Train for an epoch and return the sums of the losses over batches.

        RecBole reads each loss of each batch, so that processor and GPU wait for each other several times a step. Here
        the sums stay on the device. Training by several processes uses RecBole's loop, which averages gradients.

        Raises:
            ValueError: the loss is NaN, with RecBole's message.
        """
        self._check_time(epoch_idx)
        if not self.config["single_spec"]:
            return super()._train_epoch(train_data, epoch_idx, loss_func, show_progress)
        self.model.train()
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.enable_scaler)
        loss_func = loss_func or self.model.calculate_loss
        check_steps = 1 if self.device.type == "cpu" else _NAN_CHECK_STEPS
        total = torch.zeros(len(self.model.loss_names), dtype=torch.float64, device=self.device)
        title = set_color(f"Train {epoch_idx:>5}", "pink")
        for step, batch in enumerate(tqdm(train_data, desc=title, ncols=100, disable=not show_progress), start=1):
            self.optimizer.zero_grad()
            with torch.autocast(self.device.type, enabled=self.enable_amp):
                parts = torch.stack(loss_func(to_device(batch, self.device)))
            total += parts.detach()
            if step % check_steps == 0:
                self._check_nan(total)
            scaler.scale(parts.sum()).backward()  # type: ignore[no-untyped-call]
            scaler.step(self.optimizer)
            scaler.update()
            if time.monotonic() >= self._end:
                total *= len(train_data) / step  # as if the batches that are left out had the mean loss
                self.eval_step = min(self.eval_step, 1)  # what has been learned is validated, and so saved
                break
        self._check_nan(total)
        return tuple(total.tolist())

    def _check_time(self, epoch: int) -> None:
        """End the training before an epoch if the time is up, and what was learned is validated."""
        is_validated = self.eval_step <= 0 or epoch % self.eval_step == 0
        if epoch > self.start_epoch and is_validated and time.monotonic() >= self._end:
            self.logger.info("minutes=%s have passed: training ends", self._minutes)
            raise _TimeIsUpError

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
    """Move a batch to a device; the copy to a GPU is asynchronous."""
    if device.type != "cuda":
        return batch.to(device)
    return Interaction(
        {name: values.pin_memory().to(device, non_blocking=True) for name, values in batch.interaction.items()}
    )
