"""Monitoring of a training: losses, validation scores and costs of its epochs, and one progress bar."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import fmean
from typing import Any

from recbole.config import Config
from torch import Tensor
from tqdm import tqdm

from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.training.peak_memory import peak_memory_mb


class TrainingMonitor:
    """Records the epochs of any RecBole trainer and shows them as one progress bar.

    Args:
        trainer: the trainer, whose methods for an epoch are wrapped.
        title: name of the run, for the progress bar and messages.
        config: RecBole's configuration.
        report: is called with the values of a training or a validation by name, and the number of its epoch, from 1.

    Attributes:
        title: name of the run.
        epoch: number of the epoch in training or validation, from 1.
        seconds: duration of each training epoch, without validation.
        cpu_seconds: CPU time of each training epoch, all threads of the process together.
        losses: training losses of each epoch by name, means over batches.
        valid_scores: pairs of the number of trained epochs and the validation score.
    """

    def __init__(
        self,
        trainer: Any,
        title: str,
        config: Config,
        report: Callable[[Mapping[str, float], int], None] = lambda values, epoch: None,
    ) -> None:
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.losses: dict[str, list[float]] = {}
        self.valid_scores: list[list[float]] = []
        self.title = title
        self.epoch = 1
        self._report = report
        self._loss_names = getattr(trainer.model, "loss_names", None)
        self._batch_losses: tuple[Tensor, ...] = ()
        self._best = -float("inf")
        self._metric, self._is_bigger_better = config["valid_metric"], config["valid_metric_bigger"]
        # a trainer whose model is trained by another process says what that one took
        self._cpu_clock = getattr(trainer, "cpu_seconds", time.process_time)
        self._learning_rate = getattr(trainer, "current_learning_rate", partial(learning_rate, trainer))
        self._memory, self._former_peak_mb = getattr(trainer, "peak_memory_mb", peak_memory_mb), 0.0
        self._bar = tqdm(
            total=trainer.epochs, desc=one_line(title), unit="epoch", disable=not config["show_progress"], ncols=100
        )
        if hasattr(trainer.model, "calculate_loss"):
            trainer.model.calculate_loss = self._keep_losses(trainer.model.calculate_loss)
        if hasattr(trainer, "_train_epoch"):
            trainer._train_epoch = self._timed(trainer._train_epoch)
            trainer._valid_epoch = self._scored(trainer._valid_epoch)

    def __enter__(self) -> TrainingMonitor:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def progress(self) -> dict[str, Any]:
        """Return the records of past epochs, for ``resume``."""
        return {
            **{"seconds": self.seconds, "losses": self.losses, "valid_scores": self.valid_scores},
            **{"cpu_seconds": self.cpu_seconds, "peak_memory_mb": self.peak_memory_mb},
        }

    def resume(self, progress: dict[str, Any], best: float) -> None:
        """Continue from the ``progress`` of an interrupted run, whose best validation score was ``best``."""
        self.seconds, self.losses, self.valid_scores = (
            progress[name] for name in ("seconds", "losses", "valid_scores")
        )
        self.cpu_seconds = progress.get("cpu_seconds", [])  # earlier versions did not keep it
        self._former_peak_mb = progress.get("peak_memory_mb", 0.0)
        self._best = best
        self._bar.update(len(self.seconds))

    @property
    def costs(self) -> dict[str, Any]:
        """The fields of ``RunResult`` that say what the training cost."""
        seconds, cpu_seconds = self.seconds, self.cpu_seconds
        return {
            "seconds_per_epoch": fmean(seconds) if seconds else None,
            "cpu_seconds_per_epoch": fmean(cpu_seconds) if seconds and len(cpu_seconds) == len(seconds) else None,
            "seconds_to_best": sum(seconds[: self._best_epoch()]) if seconds else None,
            "peak_memory_mb": self.peak_memory_mb,
        }

    @property
    def peak_memory_mb(self) -> float:
        """The highest memory of the run's process, or of the one that was interrupted, in MiB."""
        return max(self._former_peak_mb, self._memory())

    def _best_epoch(self) -> int:
        """Return the number of epochs until the best score, the first of equal ones; without scores, of all epochs."""
        sign = 1 if self._is_bigger_better else -1
        epochs, _ = max(self.valid_scores, key=lambda pair: sign * pair[1], default=(len(self.seconds), 0.0))
        return int(epochs)

    def nan_losses(self) -> str:
        """Return `` (name, name)`` of the last batch's losses that are NaN; an empty string for a single loss."""
        names = [name for name, loss in zip(self._loss_names or (), self._batch_losses, strict=False) if loss.isnan()]
        return f" ({', '.join(names)})" if names else ""

    def _keep_losses(self, calculate_loss: Callable[..., Any]) -> Callable[..., Any]:
        def keep_losses(*args: Any, **kwargs: Any) -> Any:
            loss = calculate_loss(*args, **kwargs)
            self._batch_losses = tuple(part.detach() for part in loss) if isinstance(loss, tuple) else ()
            return loss

        return keep_losses

    def _timed(self, train_epoch: Callable[..., Any]) -> Callable[..., Any]:
        def timed(train_data: Any, *args: Any, **kwargs: Any) -> Any:
            start, cpu_start = time.perf_counter(), self._cpu_clock()
            self.epoch, self._batch_losses = len(self.seconds) + 1, ()
            loss = train_epoch(train_data, *args, **kwargs)
            self.seconds.append(time.perf_counter() - start)
            self.cpu_seconds.append(self._cpu_clock() - cpu_start)
            losses = self._record_losses(loss if isinstance(loss, tuple) else (loss,), len(train_data))
            self._report(self._training_values(losses), self.epoch)
            self._bar.update()
            return loss

        return timed

    def _record_losses(self, sums: tuple[Any, ...], batches: int) -> dict[str, float]:
        """Record and return the losses of an epoch, means over batches."""
        unnamed = [f"part {number}" for number in range(1, len(sums) + 1)] if len(sums) > 1 else ["loss"]
        names = zip(self._loss_names or unnamed, sums, strict=False)
        losses = {name: float(value) / batches for name, value in names}
        for name, value in losses.items():
            self.losses.setdefault(name, []).append(value)
        return losses

    def _training_values(self, losses: Mapping[str, float]) -> dict[str, float]:
        """Return what is reported of an epoch's training; the name of the sum of all losses is that of a single one."""
        values = {"loss": sum(losses.values())} if losses else {}
        values |= {**losses, "seconds": self.seconds[-1], "CPU seconds": self.cpu_seconds[-1]}
        rate = self._learning_rate()
        return {f"train/{name}": value for name, value in values.items()} | (
            {"learning_rate": rate} if rate is not None else {}
        )

    def _scored(self, valid_epoch: Callable[..., Any]) -> Callable[..., Any]:
        def scored(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            score, result = valid_epoch(*args, **kwargs)
            self._best = max(self._best, score)
            self.valid_scores.append([len(self.seconds), float(score)])
            self._bar.set_postfix_str(f"{self._metric} {score:.4f}, best {self._best:.4f}")
            values = {**{name: float(value) for name, value in result.items()}, "seconds": time.perf_counter() - start}
            self._report({f"valid/{name}": value for name, value in values.items()}, len(self.seconds))
            return score, result

        return scored


def learning_rate(trainer: Any) -> float | None:
    """Return the learning rate of a trainer's next step, that of the first group of weights; None if it has no steps.

    Args:
        trainer: a trainer of RecBole.
    """
    groups = getattr(getattr(trainer, "optimizer", None), "param_groups", None)
    return float(groups[0]["lr"]) if groups else None
