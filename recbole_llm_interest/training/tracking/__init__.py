"""Experiment trackers: TensorBoard, Weights & Biases and MLflow, by name.

A comparison has one run a variant and seed in each tracker of the setting ``tracking``. A tracker is one class in one
file. Code outside the package registers its own:

>>> from recbole_llm_interest.training.tracking import TRACKERS
>>> list(TRACKERS)[:3]
['tensorboard', 'wandb', 'mlflow']
>>> TRACKERS["wandb"].packages
('wandb',)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from recbole_llm_interest.settings import Registry

#: how a run ended: with its test result, by an error, or by an interrupt
Status = Literal["finished", "failed", "interrupted"]


@dataclass(frozen=True)
class TrackedRun:
    """What trackers are told of a run when it starts.

    Attributes:
        name: the variant and the seed.
        comparison: name of the comparison, by which runs are grouped.
        project: RecBole's setting ``wandb_project``.
        facts: variant, model, seed, data set, its fingerprint and size, commit and environment, by name.
        settings: all settings in effect, without those of the machine.
        log: the log file.
        epochs: number of epochs that are trained already: 0 unless the run is resumed.
    """

    name: str
    comparison: str
    project: str
    facts: Mapping[str, str | int | float | None]
    settings: Mapping[str, Any]
    log: Path
    epochs: int


class Tracker(Protocol):
    """One run in an experiment tracker. Its methods may raise anything: ``Tracking`` keeps errors from the training.

    Args:
        run: what to show of it.
        former: ``id`` of the interrupted run that this one continues; None for a new run.

    Attributes:
        packages: names of the Python packages without which it cannot write.
        id: identifies the run, to continue it; a name without slashes.
        place: folder or address where the run is shown.
        is_continued: whether ``former`` was found.
    """

    packages: ClassVar[tuple[str, ...]]
    id: str
    place: str
    is_continued: bool

    def __init__(self, run: TrackedRun, former: str | None) -> None: ...

    @staticmethod
    def check() -> None:
        """Check what can be checked without a network before data is read. ``packages`` are installed.

        Raises:
            SettingsError: a login or a setting of the tracker is missing.
        """
        ...

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Write values of an epoch, which counts from 1. Names are such as ``train/loss`` and ``valid/ndcg@10``."""
        ...

    def summarize(self, values: Mapping[str, float], epochs: int) -> None:
        """Write values of the whole run, such as ``test/ndcg@10``, after so many epochs."""
        ...

    def close(self, status: Status) -> None:
        """End the run, and write what is left to write."""
        ...


TRACKERS: Registry[type[Tracker]] = Registry("tracker", "tracking")
TRACKERS.register_lazy("tensorboard", f"{__name__}.tensorboard:TensorBoardTracker")
TRACKERS.register_lazy("wandb", f"{__name__}.wandb:WandbTracker")
TRACKERS.register_lazy("mlflow", f"{__name__}.mlflow:MLflowTracker")
