"""Watches the epochs of a training."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from recbole.config import Config
from torch import Tensor
from tqdm import tqdm


class TrainingMonitor:
    """Watches the training epochs of any RecBole trainer and shows them as one progress bar.

    Attributes:
        title: whose epochs they are.
        epoch: the one that is trained or validated, from 1.
        seconds: duration of each training epoch, validation not counted.
        losses: the training loss of each epoch, the mean over its batches, by its parts.
        valid_scores: epochs trained by then, and the validation score, in pairs.
    """

    def __init__(self, trainer: Any, title: str, config: Config) -> None:
        self.seconds: list[float] = []
        self.losses: dict[str, list[float]] = {}
        self.valid_scores: list[list[float]] = []
        self.title = title
        self.epoch = 1
        self._names = getattr(trainer.model, "loss_names", None)
        self._parts: tuple[Tensor, ...] = ()
        self._best = -float("inf")
        self._metric = config["valid_metric"]
        self._bar = tqdm(total=trainer.epochs, desc=title, unit="epoch", disable=not config["show_progress"], ncols=100)
        if hasattr(trainer.model, "calculate_loss"):
            trainer.model.calculate_loss = self._remembered(trainer.model.calculate_loss)
        if hasattr(trainer, "_train_epoch"):
            trainer._train_epoch = self._timed(trainer._train_epoch)
            trainer._valid_epoch = self._scored(trainer._valid_epoch)

    def record(self) -> dict[str, Any]:
        """What it has seen so far, for ``go_on``."""
        return {"seconds": self.seconds, "losses": self.losses, "valid_scores": self.valid_scores}

    def go_on(self, record: dict[str, Any], best: float) -> None:
        """Go on where another watch was when it gave ``record``."""
        self.seconds, self.losses, self.valid_scores = (record[name] for name in ("seconds", "losses", "valid_scores"))
        self._best = best
        self._bar.update(len(self.seconds))

    def __enter__(self) -> TrainingMonitor:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def nan_parts(self) -> str:
        """Which parts of the last batch's loss are NaN, in words; none where the loss has no parts."""
        names = [name for name, part in zip(self._names or (), self._parts, strict=False) if part.isnan()]
        return f" ({', '.join(names)})" if names else ""

    def _remembered(self, calculate_loss: Callable[..., Any]) -> Callable[..., Any]:
        def remembered(*args: Any, **kwargs: Any) -> Any:
            loss = calculate_loss(*args, **kwargs)
            self._parts = tuple(part.detach() for part in loss) if isinstance(loss, tuple) else ()
            return loss

        return remembered

    def _timed(self, train_epoch: Callable[..., Any]) -> Callable[..., Any]:
        def timed(train_data: Any, *args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            self.epoch, self._parts = len(self.seconds) + 1, ()
            loss = train_epoch(train_data, *args, **kwargs)
            self.seconds.append(time.perf_counter() - start)
            parts = loss if isinstance(loss, tuple) else (loss,)
            unnamed = [f"part {number}" for number in range(1, len(parts) + 1)] if len(parts) > 1 else ["loss"]
            for name, part in zip(self._names or unnamed, parts, strict=False):
                self.losses.setdefault(name, []).append(float(part) / len(train_data))
            self._bar.update()
            return loss

        return timed

    def _scored(self, valid_epoch: Callable[..., Any]) -> Callable[..., Any]:
        def scored(*args: Any, **kwargs: Any) -> Any:
            score, result = valid_epoch(*args, **kwargs)
            self._best = max(self._best, score)
            self.valid_scores.append([len(self.seconds), float(score)])
            self._bar.set_postfix_str(f"{self._metric} {score:.4f}, best {self._best:.4f}")
            return score, result

        return scored
