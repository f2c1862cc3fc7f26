"""Interrupted runs go on where they were: all that further training depends on, written after each epoch.

RecBole writes a checkpoint at improvements alone, without the states of the random numbers. The state lies in a file
of its own beside that checkpoint until the run's result is kept. A run that goes on from it has the losses, scores and
test result of one that nobody disturbed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.trainer import Trainer

from recbole_llm_interest.distributed import all_gather_objects, is_main_process, on_main_process, rank
from recbole_llm_interest.errors import CheckpointError
from recbole_llm_interest.io.files import remove_unfinished
from recbole_llm_interest.patches.training import checkpoint_state, write_checkpoint
from recbole_llm_interest.training.checkpoint import load_checkpoint, restore_model
from recbole_llm_interest.training.trainer import LLMInterestTrainer

_SUFFIX = ".resume.pth"


def resume_path(checkpoint: Path) -> Path:
    """Where the state of the run lies that writes ``checkpoint``; a state's own path is left as it is."""
    return checkpoint if checkpoint.name.endswith(_SUFFIX) else checkpoint.with_suffix(_SUFFIX)


def load_resume_state(path: Path) -> dict[str, Any]:
    """Read the state of an interrupted run, running no code that it may hold.

    Raises:
        CheckpointError: it is not there, or is damaged.
    """
    checkpoint = path.with_name(path.name.removesuffix(_SUFFIX) + ".pth")
    if not path.exists() and checkpoint.exists():
        raise CheckpointError(
            f"there is nothing to resume: {path} is not there, as when the run is finished; {checkpoint} stays as it "
            f"is, and --checkpoint={checkpoint} evaluates it"
        )
    if not path.exists():
        raise CheckpointError(f"there is nothing to resume: {path} does not exist; no epoch had ended, so start anew")
    state = load_checkpoint(path)
    if "run" not in state:
        raise CheckpointError(f"{path} is no state of an interrupted run")
    return state


@dataclass(frozen=True)
class ResumableTraining:
    """Writes the state of a run before each of its epochs but the first, and when its training has ended.

    Attributes:
        trainer: a trainer for which ``can_be_resumed``.
        train_data: what it is trained on.
        record: gives what is told of the epochs so far, in plain values; it comes back in a state as ``record``.
        path: where the state is written.
        run: what it is the state of, in plain values.
    """

    trainer: Any
    train_data: Any
    record: Callable[[], dict[str, Any]]
    path: Path
    run: Mapping[str, Any]

    @staticmethod
    def can_be_resumed(trainer: Any) -> bool:
        """Whether the trainer goes through its epochs as RecBole's plain one does; S3Rec's trains in parts."""
        return isinstance(trainer, Trainer) and type(trainer).fit in (Trainer.fit, LLMInterestTrainer.fit)

    def fit(self, valid_data: Any, state: Mapping[str, Any] | None, *, saved: bool) -> float:
        """Train to the end, from where ``state`` is, and return the best score.

        Args:
            valid_data: what epochs are chosen by.
            state: of a run like this one, already given to ``restore``; None to begin.
            saved: whether this process writes checkpoints.
        """
        trainer, train_epoch = self.trainer, self.trainer._train_epoch

        def train_epoch_from_state(train_data: Any, epoch: int, *args: Any, **kwargs: Any) -> Any:
            if epoch > trainer.start_epoch:
                self._write(epoch - 1, is_trained=False)
            elif state is not None:
                self._restore_draws(state)
            return train_epoch(train_data, epoch, *args, **kwargs)

        if state is not None and state["is_trained"]:
            trainer.eval_collector.data_collect(self.train_data)  # what metrics count
            self._restore_draws(state)
            return float(trainer.best_valid_score)
        trainer._train_epoch = train_epoch_from_state
        best, _ = trainer.fit(self.train_data, valid_data, saved=saved, show_progress=False)
        self._write(max(trainer.train_loss_dict, default=-1), is_trained=True)
        return float(best)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Bring model, optimisers and counters to where ``state`` is.

        Raises:
            CheckpointError: it does not fit the model, or the best checkpoint that belongs to it is gone or damaged.
        """
        trainer, best = self.trainer, self.path.with_name(state["checkpoint"])
        if state["has_checkpoint"]:
            load_checkpoint(best)
        if is_main_process():
            remove_unfinished(self.path)
            remove_unfinished(best)
        restore_model(trainer.model, state)
        for name, values in state["optimizers"].items():
            getattr(trainer, name).load_state_dict(values)
        for name, module in trainer.model.named_modules():
            vars(module).update(state["numbers"].get(name, {}))
        trainer.saved_model_file = str(best)
        trainer.start_epoch = state["epoch"] + 1
        for name in ("cur_step", "best_valid_score", "best_valid_result", "train_loss_dict"):
            setattr(trainer, name, state[name])

    def _write(self, epoch: int, *, is_trained: bool) -> None:
        draws = all_gather_objects(self._draws())
        on_main_process(lambda: self._write_first(epoch, is_trained, draws))

    def _write_first(self, epoch: int, is_trained: bool, draws: list[dict[str, Any]]) -> None:
        trainer = self.trainer
        optimizers = {name: it for name, it in vars(trainer).items() if isinstance(it, torch.optim.Optimizer)}
        if any(it is trainer.optimizer for name, it in optimizers.items() if name != "optimizer"):
            del optimizers["optimizer"]  # RecVAE's trainer calls its two by this name in turn
        best_result = trainer.best_valid_result
        state = {
            **checkpoint_state(trainer, epoch),
            "run": dict(self.run),
            "is_trained": is_trained,
            "checkpoint": Path(trainer.saved_model_file).name,
            "has_checkpoint": Path(trainer.saved_model_file).exists(),
            "optimizers": {name: it.state_dict() for name, it in optimizers.items()},
            # such as the step that MultiVAE counts for its annealing
            "numbers": {
                name: {key: it for key, it in vars(module).items() if type(it) in (bool, int, float)}
                for name, module in trainer.model.named_modules()
            },
            "best_valid_result": best_result and {name: float(value) for name, value in best_result.items()},
            "train_loss_dict": {number: float(loss) for number, loss in trainer.train_loss_dict.items()},
            "record": self.record(),
            "draws": draws,
        }
        del state["optimizer"]
        write_checkpoint(self.path, state)

    def _generators(self) -> list[torch.Generator]:
        """Those of the loader and, for knowledge graphs, of the loaders within it."""
        loaders = [self.train_data, *vars(self.train_data).values()]
        return [loader.generator for loader in loaders if isinstance(loader, AbstractDataLoader)]

    def _draws(self) -> dict[str, Any]:
        """Where this process' random numbers are."""
        kind, keys, *rest = np.random.get_state()
        device = self.trainer.device
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            "numpy": (kind, np.asarray(keys).tolist(), *rest),
            "python": random.getstate(),
            "loaders": [generator.get_state() for generator in self._generators()],
        }

    def _restore_draws(self, state: Mapping[str, Any]) -> None:
        draws, device = state["draws"][rank()], self.trainer.device
        torch.set_rng_state(draws["torch"])
        if device.type == "cuda" and draws["cuda"] is not None:  # not where the run comes from a CPU
            torch.cuda.set_rng_state(draws["cuda"], device)
        kind, keys, *rest = draws["numpy"]
        np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
        random.setstate(draws["python"])
        for generator, values in zip(self._generators(), draws["loaders"], strict=True):
            generator.set_state(values)
