"""Messages for a training that was interrupted or failed: the epoch, the files that are kept, and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_llm_interest.errors import DivergedError, TrainingError, is_out_of_memory
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.training.checkpoint import resume_path
from recbole_llm_interest.training.monitor import TrainingMonitor

#: settings that bound the memory of training and evaluation
_MEMORY_SETTINGS = ("train_batch_size", "eval_batch_size", "eval_scores_mb", "MAX_ITEM_LIST_LENGTH")
#: the message of the ``ValueError`` that RecBole raises when the loss is NaN
_NAN_MESSAGE = "Training loss is nan"


@dataclass(frozen=True)
class FailureMessages:
    """Explains what ends a training.

    Attributes:
        trainer: the trainer.
        monitor: its monitor.
        state_file: path of the resume state; None for the one beside the checkpoint.
        is_saved: whether checkpoints and resume states are written.
    """

    trainer: Any
    monitor: TrainingMonitor
    state_file: Path | None
    is_saved: bool

    @contextlib.contextmanager
    def explain(self) -> Iterator[None]:
        """Add a note to interrupts, and explain errors that training itself causes.

        Raises:
            TrainingError: memory ran out.
            DivergedError: the loss is NaN.
        """
        try:
            yield
        except KeyboardInterrupt as interrupt:
            if self.is_saved:
                interrupt.add_note(self._continuation())
            raise
        except (MemoryError, RuntimeError, ValueError) as error:
            if is_out_of_memory(error):
                raise TrainingError(self._out_of_memory()) from error
            if str(error) == _NAN_MESSAGE:
                raise DivergedError(self._diverged()) from error
            raise

    def _continuation(self) -> str:
        where = f"{self.monitor.title} in epoch {self.monitor.epoch}"
        if not self._state.exists():
            return f"{where}: the same command starts anew"
        option = "" if self.state_file else f" with --resume={self._state}"
        return f"{where}: the same command{option} goes on from {self._state}"

    def _out_of_memory(self) -> str:
        config = self.trainer.config
        sizes = [name if config[name] is None else f"{name} ({config[name]})" for name in _MEMORY_SETTINGS]
        sampled = ", or set loss_candidates" if config["model"] == LLMInterest.__name__ else ""
        return (
            f"{self.monitor.title}: memory ran out in epoch {self.monitor.epoch}: lower one of {', '.join(sizes)}"
            f"{sampled}{self._kept_files()}"
        )

    def _diverged(self) -> str:
        monitor = self.monitor
        return (
            f"{monitor.title}: the training loss became NaN in epoch {monitor.epoch}{monitor.nan_losses()}: lower "
            f"learning_rate ({self.trainer.config['learning_rate']}), set clip_grad_norm={{'max_norm': 1.0}}, or "
            f"compute in float32 (enable_amp, loss_precision){self._kept_files()}"
        )

    def _kept_files(self) -> str:
        checkpoint = Path(self.trainer.saved_model_file)
        kept = [f"the best checkpoint so far is {checkpoint}"] if checkpoint.exists() else []
        kept += [f"{self._state} holds the epochs before"] if self._state.exists() else []
        return "; " + " and ".join(kept) if kept else ""

    @property
    def _state(self) -> Path:
        return self.state_file or resume_path(Path(self.trainer.saved_model_file))
