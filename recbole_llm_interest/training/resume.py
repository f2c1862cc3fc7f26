"""Resuming interrupted runs: the whole state of a training, written after each epoch.

RecBole writes a checkpoint only when the validation score improves, and without the states of the random number
generators. The resume state is a file of its own beside that checkpoint, which is removed when the run's result is
kept. A resumed run has the same losses, scores and test result as an uninterrupted one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.trainer import Trainer

from recbole_llm_interest.distributed import all_gather_objects, is_main_process, on_main_process, rank
from recbole_llm_interest.errors import CheckpointError
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint, read_resume_state
from recbole_llm_interest.io.checkpoints.schema import RandomStates, ResumeState
from recbole_llm_interest.io.checkpoints.writing import write_state
from recbole_llm_interest.io.files import remove_unfinished
from recbole_llm_interest.patches.checkpoints import CHECKPOINT_SUFFIX, checkpoint_state
from recbole_llm_interest.training.checkpoint import FORMER_RESUME_SUFFIX, RESUME_SUFFIX, restore_model
from recbole_llm_interest.training.run_metadata import changed_setting, run_identity
from recbole_llm_interest.training.trainer import LLMInterestTrainer


def load_resume_state(path: Path) -> ResumeState:
    """Read the resume state of an interrupted run without executing code from it.

    Raises:
        CheckpointError: the file does not exist or is damaged.
    """
    if not path.exists():
        stem = path.name.removesuffix(RESUME_SUFFIX).removesuffix(FORMER_RESUME_SUFFIX)
        checkpoints = [path.with_name(stem + suffix) for suffix in (CHECKPOINT_SUFFIX, ".pth")]
        for checkpoint in filter(Path.exists, checkpoints):
            raise CheckpointError(
                f"there is nothing to resume: {path} does not exist, as after the end of a run; {checkpoint} stays as "
                f"it is, and --checkpoint={checkpoint} evaluates it"
            )
        raise CheckpointError(f"there is nothing to resume: {path} does not exist; no epoch had ended, so start anew")
    return read_resume_state(path)


def check_resume_state(path: Path, state: ResumeState, config: Config) -> None:
    """Check that a resume state is of a run with the settings of ``config``.

    Raises:
        CheckpointError: a setting differs.
    """
    if (changed := changed_setting(state["run"], run_identity(config))) is not None:
        key, then, now = changed
        raise CheckpointError(
            f"{path} was begun with {key}={then!r}, now {now!r}: give that again, or delete it to start anew"
        )


def check_resume_data(path: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that a run is resumed with the data and the number of processes that it began with.

    Args:
        path: the resume state.
        then: ``ResumableTraining.run`` of the interrupted run.
        now: the same of this run.

    Raises:
        CheckpointError: a file, a content feature or the number of processes differs.
    """
    for name in sorted({*then["data"], *now["data"]}):
        if then["data"].get(name) != now["data"].get(name):
            raise CheckpointError(
                f"{path} was begun with other data: {name} has changed since; delete it to start anew"
            )
    if then["processes"] != now["processes"]:
        raise CheckpointError(
            f"{path} was begun by {then['processes']} processes, not {now['processes']}: give "
            f"--nproc={then['processes']}, or delete it to start anew"
        )


@dataclass(frozen=True)
class ResumableTraining:
    """Trains and writes the resume state before each epoch but the first, and at the end of training.

    Attributes:
        trainer: a trainer that ``is_resumable`` accepts.
        train_data: its training data.
        progress: returns what is to be kept of past epochs, in plain values: ``TrainingMonitor.progress``.
        path: path of the resume state.
        run: identifies the run: its settings, data digests and number of processes, in plain values.
    """

    trainer: Any
    train_data: Any
    progress: Callable[[], dict[str, Any]]
    path: Path
    run: Mapping[str, Any]

    @staticmethod
    def is_resumable(trainer: Any) -> bool:
        """Return whether all state is in this process and ``fit`` is RecBole's base trainer's or ours; not S3Rec's."""
        is_known = isinstance(trainer, Trainer) and type(trainer).fit in (Trainer.fit, LLMInterestTrainer.fit)
        return is_known and bool(getattr(trainer, "is_resumable", True))

    def restore(self, state: ResumeState) -> None:
        """Restore model, optimizers and counters from a resume state.

        Raises:
            CheckpointError: the state does not fit the model, or its best checkpoint is missing or damaged.
        """
        trainer, best = self.trainer, self.path.with_name(state["checkpoint"])
        if state["has_checkpoint"]:
            load_checkpoint(best)
        if is_main_process():
            remove_unfinished(self.path)
            remove_unfinished(best)
        restore_model(trainer.model, state)
        with _damages_explained(self.path):
            self._restore_trainer(state)
        trainer.saved_model_file = str(best)

    def _restore_trainer(self, state: ResumeState) -> None:
        trainer, optimizers = self.trainer, self._optimizers()
        for name, values in state["optimizers"].items():
            optimizers[name].load_state_dict(values)
        for name, module in trainer.model.named_modules():
            counters = _counters(module)
            vars(module).update({key: value for key, value in state["counters"][name].items() if key in counters})
        trainer.start_epoch = state["epoch"] + 1
        trainer.cur_step, trainer.best_valid_score = state["cur_step"], state["best_valid_score"]
        trainer.best_valid_result, trainer.train_loss_dict = state["best_valid_result"], state["train_loss_dict"]

    def fit(self, valid_data: Any, state: ResumeState | None, *, saved: bool) -> float:
        """Train to the end and return the best validation score.

        Args:
            valid_data: validation data, which chooses the best epoch.
            state: a resume state that was given to ``restore``; None to start at the first epoch.
            saved: whether this process writes checkpoints.
        """
        trainer, train_epoch = self.trainer, self.trainer._train_epoch

        def train_epoch_with_state(train_data: Any, epoch: int, *args: Any, **kwargs: Any) -> Any:
            if epoch > trainer.start_epoch:
                self._write(epoch - 1, is_trained=False)
            elif state is not None:
                self._restore_random_states(state)
            return train_epoch(train_data, epoch, *args, **kwargs)

        if state is not None and state["is_trained"]:
            trainer.eval_collector.data_collect(self.train_data)  # counts that metrics need; RecBole's fit sets them
            self._restore_random_states(state)
            return float(trainer.best_valid_score)
        trainer._train_epoch = train_epoch_with_state
        best, _ = trainer.fit(self.train_data, valid_data, saved=saved, show_progress=False)
        self._write(max(trainer.train_loss_dict, default=-1), is_trained=True)
        return float(best)

    def _write(self, epoch: int, *, is_trained: bool) -> None:
        random_states = all_gather_objects(self._random_states())
        on_main_process(lambda: self._write_state(epoch, is_trained, random_states))

    def _write_state(self, epoch: int, is_trained: bool, random_states: list[RandomStates]) -> None:
        trainer = self.trainer
        best_result = trainer.best_valid_result
        state = {
            **checkpoint_state(trainer, epoch),
            "run": dict(self.run),
            "is_trained": is_trained,
            "checkpoint": Path(trainer.saved_model_file).name,
            "has_checkpoint": Path(trainer.saved_model_file).exists(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers().items()},
            "counters": {name: _counters(module) for name, module in trainer.model.named_modules()},
            "best_valid_result": best_result and {name: float(value) for name, value in best_result.items()},
            "train_loss_dict": {number: float(loss) for number, loss in trainer.train_loss_dict.items()},
            "progress": self.progress(),
            "random_states": random_states,
        }
        del state["optimizer"]
        write_state(self.path, state)

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return the trainer's optimizers by attribute."""
        trainer = self.trainer
        optimizers = {name: value for name, value in vars(trainer).items() if isinstance(value, torch.optim.Optimizer)}
        if any(value is trainer.optimizer for name, value in optimizers.items() if name != "optimizer"):
            del optimizers["optimizer"]  # RecVAE's trainer sets it to each of its two in turn
        return optimizers

    def _generators(self) -> list[torch.Generator]:
        """Return the generators of the data loader and, for knowledge graphs, of the loaders inside it."""
        loaders = [self.train_data, *vars(self.train_data).values()]
        return [loader.generator for loader in loaders if isinstance(loader, AbstractDataLoader)]

    def _random_states(self) -> RandomStates:
        """Return the states of this process's random number generators."""
        kind, keys, *rest = np.random.get_state()
        device = self.trainer.device
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            "numpy": (kind, np.asarray(keys).tolist(), *rest),
            "python": random.getstate(),
            "loaders": [generator.get_state() for generator in self._generators()],
        }

    def _restore_random_states(self, state: ResumeState) -> None:
        with _damages_explained(self.path):
            self._set_random_states(state["random_states"][rank()])

    def _set_random_states(self, states: RandomStates) -> None:
        device = self.trainer.device
        torch.set_rng_state(states["torch"])
        if device.type == "cuda" and states["cuda"] is not None:  # None if the run began on a CPU
            torch.cuda.set_rng_state(states["cuda"], device)
        kind, keys, *rest = states["numpy"]
        np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))  # type: ignore[arg-type]
        random.setstate(states["python"])
        for generator, values in zip(self._generators(), states["loaders"], strict=True):
            generator.set_state(values)


@contextmanager
def _damages_explained(path: Path) -> Iterator[None]:
    """Turn what a resume state of wrong values causes into an error of one line."""
    try:
        yield
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise CheckpointError(
            f"resume state {path} does not fit this training ({reason}): delete it to start anew"
        ) from error


def _counters(module: torch.nn.Module) -> dict[str, bool | int | float]:
    """Return a module's plain numbers, such as the number of updates that MultiVAE anneals by."""
    return {name: value for name, value in vars(module).items() if type(value) in (bool, int, float)}
