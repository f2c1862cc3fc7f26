"""Trains and tests one RecBole model under one configuration, and says what came of it.

The steps are RecBole's; what is added is one progress bar, a log file of its own, errors that a person can act on,
and a record of what exactly was tested.
"""

from __future__ import annotations

import contextlib
import itertools
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
from torch import Tensor

from recbole_llm_interest.data.event_counts import count_training_events
from recbole_llm_interest.distributed import (
    distribute_training,
    is_main_process,
    main_process_first,
    on_main_process,
    process_device,
    world_size,
)
from recbole_llm_interest.errors import (
    CheckpointError,
    DivergedError,
    SettingsError,
    TrainingError,
    is_out_of_memory,
)
from recbole_llm_interest.evaluation.results import RunResult
from recbole_llm_interest.evaluation.variants import Variant
from recbole_llm_interest.io.files import remove_abandoned, try_lock
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.training.checkpoint import load_matching_checkpoint, restore_model
from recbole_llm_interest.training.config import as_user_error
from recbole_llm_interest.training.monitor import TrainingMonitor
from recbole_llm_interest.training.resume import ResumableTraining, load_resume_state, resume_path
from recbole_llm_interest.training.run_log import log_to_file
from recbole_llm_interest.training.run_metadata import (
    check_resume_state,
    data_digests,
    digest,
    effective_settings,
    environment_info,
    explicit_settings,
    run_identity,
)
from recbole_llm_interest.training.trainer import LLMInterestTrainer


def run_experiment(
    row: Variant, config: Config, checkpoint: str | None = None, state_file: Path | None = None
) -> RunResult:
    """Train a row's model and test its best epoch, or test ``checkpoint``.

    Where several processes call it, they train together, and all get the result.

    Args:
        row: what is run.
        config: RecBole's configuration of it.
        checkpoint: evaluated instead of training.
        state_file: where the state of training is kept, from which an interrupted run goes on if it is there; None
            for beside the new checkpoint. It is left for the caller to remove once the result is kept.

    Raises:
        LLMInterestError: the settings, the data, the checkpoint or the state cannot be used.
    """
    with _experiment(row.name, config) as it:
        made = environment_info(config["device"])
        best_valid = None
        if checkpoint is None:
            best_valid = it.train(state_file)
        else:
            restore_model(it.trainer.model, load_matching_checkpoint(Path(checkpoint), config))
            it.trainer.eval_collector.data_collect(it.train_data)  # what metrics count; RecBole does so as it trains
        return on_main_process(lambda: _test(it, row, config, checkpoint, best_valid, made))


def _test(
    it: _Experiment,
    row: Variant,
    config: Config,
    checkpoint: str | None,
    best_valid: float | None,
    made: dict[str, Any],
) -> RunResult:
    test = it.trainer.evaluate(it.test_data, load_best_model=checkpoint is None, show_progress=False)
    logging.getLogger().info("test result: %s", test)
    candidates = _candidates(config, it.dataset.item_num - 1)
    asked = it.test_data._dataset
    events = _named(it.dataset, asked.inter_feat[it.dataset.uid_field], asked.inter_feat[it.dataset.iid_field])
    ranks, item_counts = _ranks(it.dataset, it.train_data, it.trainer.eval_collector.last_ranked_events)
    seconds = it.watch.seconds
    return RunResult(
        variant=row.name,
        model=config["model"],
        dataset=config["dataset"],
        seed=config["seed"],
        settings=explicit_settings(config),
        note=row.note,
        test={metric: float(value) for metric, value in test.items() if not math.isnan(value)},
        valid_metric=config["valid_metric"],
        best_valid=best_valid,
        epochs=len(seconds),
        seconds_per_epoch=sum(seconds) / len(seconds) if seconds else None,
        parameters=sum(weights.numel() for weights in it.trainer.model.parameters() if weights.requires_grad),
        test_events=len(events),
        candidates=candidates,
        test_digest=digest([candidates, *sorted(events)]),
        ranks=ranks,
        item_counts=item_counts,
        losses=it.watch.losses,
        valid_scores=it.watch.valid_scores,
        checkpoint=checkpoint or str(it.trainer.saved_model_file),
        log=it.log,
        effective_settings=effective_settings(config),
        environment_info=made,
    )


def supports_distributed_training(config: Config) -> bool:
    """Whether several processes can train a model together.

    It needs a loss that is a mean over targets, as those of RecBole's sequential models are, and a trainer that knows
    no other steps: RecBole's plain one, or ours.
    """
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])
    return config["MODEL_TYPE"] == ModelType.SEQUENTIAL and trainer in (Trainer, LLMInterestTrainer)


def best_validation_score(config: Config) -> tuple[float | None, int]:
    """Train, and return the best score on the validation split and the epochs trained. The test split stays unseen.

    There is no score where training diverged: its loss became NaN. No checkpoint is kept.

    Raises:
        LLMInterestError: the settings or the data cannot be used.
    """
    with _experiment(config["model"], config) as it:
        try:
            score = it.train(saved=False)
        except DivergedError:
            return None, len(it.watch.seconds)
        if score is None:
            raise SettingsError(f"{config['model']}: nothing was validated, so that there is nothing to choose by")
        return score, len(it.watch.seconds)


@dataclass(frozen=True)
class _Experiment:
    """One model under one configuration, ready to be trained and tested."""

    dataset: Any
    train_data: Any
    valid_data: Any
    test_data: Any
    trainer: Any
    watch: TrainingMonitor
    log: str

    def train(self, state_file: Path | None = None, *, saved: bool = True) -> float | None:
        """Train to the best epoch, and return its score; None where nothing was validated.

        Raises:
            DivergedError: the loss became NaN.
            TrainingError: memory ran out.
            CheckpointError: the state is of another run.
            StorageError: a checkpoint or state cannot be written.
        """
        with contextlib.ExitStack() as stack:
            if saved:
                file = self.trainer.saved_model_file
                own = stack.enter_context(_reserve_checkpoint_path(file)) if is_main_process() else file
                self.trainer.saved_model_file = on_main_process(lambda: own)
            stack.enter_context(self._told_where(state_file, saved))
            return self._train(state_file, saved)

    def _train(self, state_file: Path | None, saved: bool) -> float | None:
        keeper, state = None, None
        if saved and ResumableTraining.can_be_resumed(self.trainer):
            path = state_file or resume_path(Path(self.trainer.saved_model_file))
            keeper = ResumableTraining(self.trainer, self.train_data, self.watch.record, path, self._run())
            if path.exists():
                state = self._take_up(keeper)
        if keeper is not None:
            best = keeper.fit(self.valid_data, state, saved=is_main_process())
        else:
            best, _ = self.trainer.fit(
                self.train_data, self.valid_data, saved=saved and is_main_process(), show_progress=False
            )
        return float(best) if best is not None and math.isfinite(best) else None

    @contextlib.contextmanager
    def _told_where(self, state_file: Path | None, saved: bool) -> Iterator[None]:
        """Say of what ends a training where it was, what is kept, and what to do."""
        config, watch = self.trainer.config, self.watch
        try:
            yield
        except KeyboardInterrupt as interrupt:
            path = state_file or resume_path(Path(self.trainer.saved_model_file))
            if saved and path.exists():
                how = "" if state_file else f" with --resume={path}"
                interrupt.add_note(f"{watch.title} in epoch {watch.epoch}: the same command{how} goes on from {path}")
            elif saved:
                interrupt.add_note(f"{watch.title} in epoch {watch.epoch}: the same command starts anew")
            raise
        except (MemoryError, RuntimeError, ValueError) as error:
            if is_out_of_memory(error):
                names = ("train_batch_size", "eval_batch_size", "eval_scores_mb", "MAX_ITEM_LIST_LENGTH")
                sizes = ", ".join(name if config[name] is None else f"{name} ({config[name]})" for name in names)
                sampled = ", or set loss_candidates" if config["model"] == LLMInterest.__name__ else ""
                raise TrainingError(
                    f"{watch.title}: memory ran out in epoch {watch.epoch}: lower one of {sizes}{sampled}"
                    f"{self._kept(state_file)}"
                ) from error
            if str(error) == "Training loss is nan":  # RecBole's words, which are all that tells it from a mistake
                raise DivergedError(
                    f"{watch.title}: the training loss became NaN in epoch {watch.epoch}{watch.nan_parts()}: lower "
                    f"learning_rate ({config['learning_rate']}), set clip_grad_norm={{'max_norm': 1.0}}, or compute in "
                    f"float32 (enable_amp, loss_precision){self._kept(state_file)}"
                ) from error
            raise

    def _kept(self, state_file: Path | None) -> str:
        """What a training has left that did not end well."""
        checkpoint = Path(self.trainer.saved_model_file)
        state = state_file or resume_path(checkpoint)
        kept = [f"the best checkpoint so far is {checkpoint}"] if checkpoint.exists() else []
        kept += [f"{state} holds the epochs before"] if state.exists() else []
        return "; " + " and ".join(kept) if kept else ""

    def _run(self) -> dict[str, Any]:
        """What a state is of: the settings, the data and the processes."""
        config = self.trainer.config
        return run_identity(config) | {"data": data_digests(config, self.dataset), "processes": world_size()}

    def _take_up(self, keeper: ResumableTraining) -> dict[str, Any]:
        path, now = keeper.path, keeper.run
        state = load_resume_state(path)
        then = state["run"]
        check_resume_state(path, state, self.trainer.config)
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
        keeper.restore(state)
        self.watch.go_on(state["record"], state["best_valid_score"])
        logging.getLogger().info("resumed after epoch %d from %s", state["epoch"], path)
        return state


@contextlib.contextmanager
def _experiment(title: str, config: Config) -> Iterator[_Experiment]:
    """Read the data and build the model; errors of all that is done within become such that a person can act on."""
    with as_user_error("the settings"), log_to_file(config) as log, as_user_error("the data or the settings", log):
        logger = logging.getLogger()
        config["device"] = process_device(config["device"])
        config["log_wandb"] = config["log_wandb"] and is_main_process()
        init_seed(config["seed"], config["reproducibility"])
        logger.info(config)
        with main_process_first():  # what has to be encoded is encoded once
            dataset = create_dataset(config)
        train_data, valid_data, test_data = data_preparation(config, dataset)
        logger.info(dataset)
        if max(config["topk"]) > dataset.item_num - 1:
            raise SettingsError(f"topk={config['topk']}: {config['dataset']} has only {dataset.item_num - 1} items")
        config["item_digest"] = digest(dataset.field2id_token[dataset.iid_field])
        init_seed(config["seed"], config["reproducibility"])
        model = get_model(config["model"])(config, train_data._dataset).to(config["device"])
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        logger.info(model)
        if world_size() > 1:
            # a row of RecBole's own loaders is one target
            targets = getattr(train_data, "targets", lambda batch: torch.ones(len(batch)))
            distribute_training(trainer, train_data, targets)
        with TrainingMonitor(trainer, title, config) as watch:  # and so what it sees is of all processes
            yield _Experiment(dataset, train_data, valid_data, test_data, trainer, watch, log)


@contextlib.contextmanager
def _reserve_checkpoint_path(file: str) -> Iterator[str]:
    """``file``, or another where a checkpoint lies there or a run is about to write one, while this one holds it.

    RecBole names checkpoints by the second in which a run begins.
    """
    path = free = Path(file)
    remove_abandoned(path.parent.glob(".*.pth.*"))  # of runs that were killed before they had a state to go on from
    for number in itertools.count(2):
        with try_lock(free) as is_ours:
            if is_ours and not free.exists() and not resume_path(free).exists():
                yield str(free)
                return
        free = path.with_stem(f"{path.stem}-{number}")


def _candidates(config: Config, items: int) -> str:
    mode = config["eval_args"]["mode"]["test"]
    ranked = f"all {items} items" if mode == "full" else f"{mode} sampled items of {items}"
    return ranked if config["repeatable"] else f"{ranked} but those seen before"


def _named(dataset: Any, users: Any, items: Any) -> list[str]:
    """Events by names that do not depend on RecBole's internal ids."""
    names = dataset.id2token(dataset.uid_field, users), dataset.id2token(dataset.iid_field, items)
    return [f"{user}\t{item}" for user, item in zip(*names, strict=True)]


def _ranks(dataset: Any, train_data: Any, events: Tensor | None) -> tuple[list[int], list[int]]:
    """The ranks of the tested events, and how many training events their items have.

    Both in the order of the events' names, which is the same for every model.
    """
    if events is None:
        return [], []
    users, items, ranks = events.unbind(dim=1)
    known, _ = count_training_events(train_data.dataset)
    by_name = sorted(zip(_named(dataset, users, items), ranks.tolist(), known[items].tolist(), strict=True))
    return [place for _, place, _ in by_name], [count for _, _, count in by_name]
