"""One run: prepares the data and one RecBole model, trains the model, and tests its best epoch.

The steps are RecBole's. Added are one progress bar, a log file for each run, one-line errors, resuming, and a record
of the tested events.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import ModelType, get_model, get_trainer, init_seed

from recbole_llm_interest.data.data_card import data_card
from recbole_llm_interest.distributed import (
    distribute_training,
    is_main_process,
    main_process_first,
    on_main_process,
    process_device,
    world_size,
)
from recbole_llm_interest.errors import DivergedError, SettingsError
from recbole_llm_interest.evaluation.results import RunResult, fingerprint
from recbole_llm_interest.io.checkpoints.schema import ResumeState
from recbole_llm_interest.io.files import shared_data_set_lock
from recbole_llm_interest.io.manifest import record_run
from recbole_llm_interest.io.variants import Variant
from recbole_llm_interest.patches.training import without_tensorboard
from recbole_llm_interest.settings.trackers import trackers_of
from recbole_llm_interest.training.checkpoint import (
    load_matching_checkpoint,
    reserve_checkpoint_path,
    restore_model,
    resume_path,
)
from recbole_llm_interest.training.config import as_user_error
from recbole_llm_interest.training.environment_info import environment_info
from recbole_llm_interest.training.failures import FailureMessages
from recbole_llm_interest.training.monitor import TrainingMonitor
from recbole_llm_interest.training.peak_memory import reset_peak_memory
from recbole_llm_interest.training.resume import (
    ResumableTraining,
    check_resume_data,
    check_resume_state,
    load_resume_state,
)
from recbole_llm_interest.training.run_log import log_to_file
from recbole_llm_interest.training.run_metadata import (
    data_digests,
    effective_settings,
    explicit_settings,
    run_identity,
)
from recbole_llm_interest.training.tested_events import tested_events
from recbole_llm_interest.training.tracking.description import describe_run, summary_of
from recbole_llm_interest.training.tracking.session import Tracking
from recbole_llm_interest.training.trainer import LLMInterestTrainer
from recbole_llm_interest.training.warm_start.source import Source
from recbole_llm_interest.training.warm_start.starting import begin, record_training, source_named_by


def run_experiment(
    variant: Variant,
    config: Config,
    checkpoint: str | None = None,
    state_file: Path | None = None,
    comparison: str | None = None,
) -> RunResult:
    """Train a variant's model and test its best epoch, or test ``checkpoint``.

    If several processes call it, they train one model together, and each gets the result.

    Args:
        variant: the model with its settings.
        config: RecBole's configuration of it.
        checkpoint: evaluate this checkpoint instead of training.
        state_file: path of the resume state; an interrupted run is resumed from an existing one. None for the path
            beside the new checkpoint. The caller removes the file once it has kept the result.
        comparison: name of the comparison, by which trackers group runs; None for one of this run alone.

    Raises:
        LLMInterestError: the settings, the data, the checkpoint or the resume state cannot be used.
    """
    with _prepare(variant.name, config, comparison, starts=checkpoint is None) as experiment:
        best_valid = None
        if checkpoint is None:
            best_valid = experiment.train(state_file)
        else:
            experiment.restore(Path(checkpoint))
        return on_main_process(lambda: _test(experiment, variant, checkpoint, best_valid))


@dataclass(frozen=True)
class ValidationCurve:
    """Validation scores of a model that was trained without being tested.

    Attributes:
        best: best score; None if the loss became NaN.
        epochs: number of trained epochs.
        scores: pairs of the number of trained epochs and the score.
    """

    best: float | None
    epochs: int
    scores: list[list[float]]


def validation_curve(config: Config, name: str, comparison: str | None = None) -> ValidationCurve:
    """Train a model without testing it or keeping a checkpoint.

    Args:
        config: RecBole's configuration of it.
        name: of the run, for messages and trackers.
        comparison: by which trackers group runs; None for one of this run alone.

    Raises:
        LLMInterestError: the settings or the data cannot be used.
    """
    try:
        with _prepare(name, config, comparison) as experiment:
            score = experiment.train(saved=False)
            if score is None:
                raise SettingsError(f"{config['model']}: nothing was validated, so that there is nothing to choose by")
    except DivergedError:  # caught here so that trackers show the run as failed
        score = None
    return ValidationCurve(score, len(experiment.monitor.seconds), experiment.monitor.valid_scores)


def supports_distributed_training(config: Config) -> bool:
    """Return whether several processes can train the model of ``config``.

    The loss must be a mean over targets, as that of RecBole's sequential models is, and the trainer RecBole's base
    trainer or ours: others have steps of their own.
    """
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])
    return config["MODEL_TYPE"] == ModelType.SEQUENTIAL and trainer in (Trainer, LLMInterestTrainer)


@dataclass(frozen=True)
class _Experiment:
    """A model, its data and its trainer, ready to train and test."""

    dataset: Any
    train_data: Any
    valid_data: Any
    test_data: Any
    trainer: Any
    monitor: TrainingMonitor
    tracking: Tracking
    comparison: str | None
    log: str
    environment: dict[str, Any]
    data: dict[str, str]

    @property
    def config(self) -> Config:
        return self.trainer.config

    @property
    def loaders(self) -> tuple[Any, Any, Any]:
        """The loaders of training, validation and test data."""
        return self.train_data, self.valid_data, self.test_data

    @property
    def card(self) -> dict[str, Any]:
        """The data card, with the fingerprint of the data."""
        return data_card(self.dataset) | {"hash": fingerprint(self.data)}

    def restore(self, checkpoint: Path) -> None:
        """Load the weights of a checkpoint.

        Raises:
            CheckpointError: it cannot be read or does not fit.
        """
        restore_model(self.trainer.model, load_matching_checkpoint(checkpoint, self.config))
        self.trainer.eval_collector.data_collect(self.train_data)  # counts that metrics need; RecBole's fit sets them
        self._start_tracking()

    def train(self, state_file: Path | None = None, *, saved: bool = True) -> float | None:
        """Train and return the best validation score; None if nothing was validated.

        Args:
            state_file: path of the resume state; None for the one beside the checkpoint.
            saved: whether checkpoints and resume states are written.

        Raises:
            DivergedError: the loss became NaN.
            TrainingError: memory ran out.
            CheckpointError: the resume state is of another run.
            StorageError: a checkpoint or resume state cannot be written.
        """
        with contextlib.ExitStack() as stack:
            if saved:
                file = self.trainer.saved_model_file
                reserved = stack.enter_context(reserve_checkpoint_path(file)) if is_main_process() else file
                self.trainer.saved_model_file = on_main_process(lambda: reserved)
                if is_main_process():
                    self._record(Path(reserved), state_file)
            stack.enter_context(FailureMessages(self.trainer, self.monitor, state_file, saved).explain())
            best = self._fit(state_file, saved)
        return float(best) if best is not None and math.isfinite(best) else None

    def _record(self, checkpoint: Path, state_file: Path | None) -> None:
        record_run(self.config, "checkpoint", [checkpoint])
        record_run(self.config, "resume state", [state_file or resume_path(checkpoint)])

    def _fit(self, state_file: Path | None, saved: bool) -> float | None:
        if not saved or not ResumableTraining.is_resumable(self.trainer):
            self._start_tracking()
            writes = saved and is_main_process()
            best, _ = self.trainer.fit(self.train_data, self.valid_data, saved=writes, show_progress=False)
            return float(best) if best is not None else None
        path = state_file or resume_path(Path(self.trainer.saved_model_file))
        identity = run_identity(self.config)
        identity |= {"data": self.data, "processes": world_size()}
        training = ResumableTraining(self.trainer, self.train_data, self._progress, path, identity)
        state = self._resume(training) if path.exists() else None
        self._start_tracking()
        return training.fit(self.valid_data, state, saved=is_main_process())

    def _start_tracking(self) -> None:
        if is_main_process():
            names = self.monitor.title, self.config, self.comparison
            place = Path(self.log), len(self.monitor.seconds)
            self.tracking.start(describe_run(*names, self.environment, self.card, *place))

    def _progress(self) -> dict[str, Any]:
        return self.monitor.progress() | self.tracking.progress()

    def _resume(self, training: ResumableTraining) -> ResumeState:
        state = load_resume_state(training.path)
        check_resume_state(training.path, state, self.config)
        check_resume_data(training.path, state["run"], training.run)
        training.restore(state)
        self.monitor.resume(state["progress"], state["best_valid_score"])
        self.tracking.resume(state["progress"])
        logging.getLogger().info("resumed after epoch %d from %s", state["epoch"], training.path)
        return state


@contextlib.contextmanager
def _prepare(title: str, config: Config, comparison: str | None, *, starts: bool = True) -> Iterator[_Experiment]:
    """Read the data and build the model, which starts from ``init_from`` unless it gets a checkpoint's weights later.

    Errors here and in the ``with`` block become one-line errors.
    """
    with (
        shared_data_set_lock(Path(config["data_path"])),
        as_user_error("the settings"),
        log_to_file(config) as log,
        as_user_error("the data or the settings", log),
    ):
        reset_peak_memory()
        logger = logging.getLogger()
        config["device"] = process_device(config["device"])
        trackers = trackers_of(config)
        source = source_named_by(config) if starts else None
        config["log_wandb"] = False  # RecBole's logger would write all runs of a process into one
        init_seed(config["seed"], config["reproducibility"])
        logger.info(config)
        with main_process_first():  # the others read the features that it has encoded
            dataset = create_dataset(config)
        train_data, valid_data, test_data = data_preparation(config, dataset)
        logger.info(dataset)
        if max(config["topk"]) > dataset.item_num - 1:
            raise SettingsError(f"topk={config['topk']}: {config['dataset']} has only {dataset.item_num - 1} items")
        record_training(config, train_data._dataset)
        trainer = _trainer(config, train_data, source)
        del source  # its weights and moments would stay in memory during the training
        # after distribute_training: sees sums over all processes. A peer's process ends with the block
        with (
            Tracking(trackers) as tracking,
            TrainingMonitor(trainer, title, config, tracking.log) as monitor,
            getattr(trainer.model, "process", contextlib.nullcontext()),
        ):
            config["data_digests"] = digests = data_digests(config, train_data._dataset)
            environment = environment_info(config["device"]) | getattr(trainer.model, "environment", {})
            data = (dataset, train_data, valid_data, test_data)
            yield _Experiment(*data, trainer, monitor, tracking, comparison, log, environment, digests)


def _trainer(config: Config, train_data: Any, source: Source | None) -> Any:
    """Build the model and return its trainer; the model has the weights of a source, if there is one."""
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, train_data._dataset).to(config["device"])
    with without_tensorboard():
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    logging.getLogger().info(model)
    begin(trainer, source, train_data._dataset)
    if world_size() > 1:
        # in RecBole's own loaders, each row of a batch is one target
        targets = getattr(train_data, "target_counts", lambda batch: torch.ones(len(batch)))
        distribute_training(trainer, train_data, targets)
    return trainer


def _test(experiment: _Experiment, variant: Variant, checkpoint: str | None, best_valid: float | None) -> RunResult:
    """Evaluate the model on the test split and return the run's result."""
    config, trainer, monitor = experiment.config, experiment.trainer, experiment.monitor
    test = trainer.evaluate(experiment.test_data, load_best_model=checkpoint is None, show_progress=False)
    logging.getLogger().info("test result: %s", test)
    result = RunResult(
        variant=variant.name,
        model=config["model"],
        dataset=config["dataset"],
        seed=config["seed"],
        settings=explicit_settings(config),
        note=variant.note,
        test={metric: float(value) for metric, value in test.items() if not math.isnan(value)},
        valid_metric=config["valid_metric"],
        best_valid=best_valid,
        epochs=len(monitor.seconds),
        **monitor.costs,
        parameters=sum(weights.numel() for weights in trainer.model.parameters() if weights.requires_grad),
        **tested_events(experiment.dataset, experiment.loaders, trainer.eval_collector),
        losses=monitor.losses,
        valid_scores=monitor.valid_scores,
        checkpoint=checkpoint or str(trainer.saved_model_file),
        log=experiment.log,
        effective_settings=effective_settings(config),
        environment_info=experiment.environment,
        data=experiment.data,
        data_card=experiment.card,
        tracked=experiment.tracking.places,
    )
    experiment.tracking.summarize(summary_of(result), result.epochs)
    return result
