"""Trains and tests one RecBole model under one configuration, and says what came of it.

The steps are RecBole's; what is added is one progress bar, a log file of its own, errors that a person can act on,
and a record of what exactly was tested.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import itertools
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import ModelType, get_model, get_trainer, init_logger, init_seed
from torch import Tensor
from tqdm import tqdm

from recbole_llm_interest.configuration import as_user_error
from recbole_llm_interest.distributed import (
    first_goes_first,
    is_first,
    on_first,
    own_device,
    share_training,
    world_size,
)
from recbole_llm_interest.errors import (
    CheckpointError,
    DivergedError,
    SettingsError,
    TrainingError,
    is_out_of_memory,
)
from recbole_llm_interest.evaluation.comparison import RunResult
from recbole_llm_interest.evaluation.rows import Row
from recbole_llm_interest.event_counts import training_events
from recbole_llm_interest.files import held, is_of_writing, remove_abandoned
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.provenance import made_by
from recbole_llm_interest.resuming import StateKeeper, open_state, state_of
from recbole_llm_interest.settings import settings_keys
from recbole_llm_interest.trainer import LLMInterestTrainer, read_checkpoint, restore_model

#: settings that say where things lie and what is shown; and the seed, which has a place of its own
_NO_PART_OF_THE_RESULT = {
    *("seed", "data_path", "checkpoint_dir", "feature_cache", "show_progress", "state", "gpu_id", "use_gpu", "worker"),
    *("encoder_device", "eval_scores_mb"),
}
#: settings in which a checkpoint, or a run of a table, may differ: they change how fast a result comes, not which
FREE_TO_DIFFER = {
    *("text_batch_size", "image_batch_size", "audio_batch_size", "encoder_device"),
    *("feature_cache", "strict_content", "strict_data", "allow_pickle", "download_weights", "name_users"),
    "eval_scores_mb",
}


def run_experiment(
    row: Row, config: Config, checkpoint: str | None = None, state_file: Path | None = None
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
        made = made_by(config["device"])
        best_valid = None
        if checkpoint is None:
            best_valid = it.train(state_file)
        else:
            restore_model(it.trainer.model, read_checkpoint(Path(checkpoint), config))
            it.trainer.eval_collector.data_collect(it.train_data)  # what metrics count; RecBole does so as it trains
        return on_first(lambda: _test(it, row, config, checkpoint, best_valid, made))


def _test(
    it: _Experiment,
    row: Row,
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
    places, item_events = _places(it.dataset, it.train_data, it.trainer.eval_collector.last_events)
    seconds = it.watch.seconds
    return RunResult(
        row=row.name,
        model=config["model"],
        dataset=config["dataset"],
        seed=config["seed"],
        settings=given_settings(config),
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
        places=places,
        item_events=item_events,
        losses=it.watch.losses,
        valid_scores=it.watch.valid_scores,
        checkpoint=checkpoint or str(it.trainer.saved_model_file),
        log=it.log,
        in_effect=settings_in_effect(config),
        made_by=made,
    )


def can_share_training(config: Config) -> bool:
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
    watch: EpochWatch
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
                own = stack.enter_context(_name_of_its_own(file)) if is_first() else file
                self.trainer.saved_model_file = on_first(lambda: own)
            stack.enter_context(self._told_where(state_file, saved))
            return self._train(state_file, saved)

    def _train(self, state_file: Path | None, saved: bool) -> float | None:
        keeper, state = None, None
        if saved and StateKeeper.can_be_resumed(self.trainer):
            path = state_file or state_of(Path(self.trainer.saved_model_file))
            keeper = StateKeeper(self.trainer, self.train_data, self.watch.record, path, self._run())
            if path.exists():
                state = self._take_up(keeper)
        if keeper is not None:
            best = keeper.fit(self.valid_data, state, saved=is_first())
        else:
            best, _ = self.trainer.fit(
                self.train_data, self.valid_data, saved=saved and is_first(), show_progress=False
            )
        return float(best) if best is not None and math.isfinite(best) else None

    @contextlib.contextmanager
    def _told_where(self, state_file: Path | None, saved: bool) -> Iterator[None]:
        """Say of what ends a training where it was, what is kept, and what to do."""
        config, watch = self.trainer.config, self.watch
        try:
            yield
        except KeyboardInterrupt as interrupt:
            path = state_file or state_of(Path(self.trainer.saved_model_file))
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
        state = state_file or state_of(checkpoint)
        kept = [f"the best checkpoint so far is {checkpoint}"] if checkpoint.exists() else []
        kept += [f"{state} holds the epochs before"] if state.exists() else []
        return "; " + " and ".join(kept) if kept else ""

    def _run(self) -> dict[str, Any]:
        """What a state is of: the settings, the data and the processes."""
        config = self.trainer.config
        return run_record(config) | {"data": _data_digests(config, self.dataset), "processes": world_size()}

    def _take_up(self, keeper: StateKeeper) -> dict[str, Any]:
        path, now = keeper.path, keeper.run
        state = open_state(path)
        then = state["run"]
        check_state(path, state, self.trainer.config)
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
    with as_user_error("the settings"), _log_file(config) as log, as_user_error("the data or the settings", log):
        logger = logging.getLogger()
        config["device"] = own_device(config["device"])
        config["log_wandb"] = config["log_wandb"] and is_first()
        init_seed(config["seed"], config["reproducibility"])
        logger.info(config)
        with first_goes_first():  # what has to be encoded is encoded once
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
            share_training(trainer, train_data, targets)
        with EpochWatch(trainer, title, config) as watch:  # and so what it sees is of all processes
            yield _Experiment(dataset, train_data, valid_data, test_data, trainer, watch, log)


def given_settings(config: Config) -> dict[str, Any]:
    """What was set for a run beyond the defaults, by files, by Python or on the command line, as JSON holds it."""
    return as_json_holds(
        {key: value for key, value in config.external_config_dict.items() if key not in _NO_PART_OF_THE_RESULT}
    )


def settings_in_effect(config: Config) -> dict[str, Any]:
    """The settings that the plug-in has defaults for, as they are in a run of its model; none for other models."""
    if config["model"] != LLMInterest.__name__:
        return {}
    keys = [key for key in ("learning_rate", *settings_keys()) if key not in _NO_PART_OF_THE_RESULT]
    return as_json_holds({key: config[key] for key in keys})


def run_record(config: Config) -> dict[str, Any]:
    """What tells a run from others, for ``changed_setting``."""
    names = {key: config[key] for key in ("model", "dataset", "seed")}
    return names | {"settings": given_settings(config), "in_effect": settings_in_effect(config)}


def changed_setting(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """A setting that two runs' records differ in, with its two values; None where their results are the same."""
    both = then["in_effect"].keys() & now["in_effect"].keys()  # a record of another version may have others, or none
    old, new = (
        {
            **record["settings"],
            **{key: record["in_effect"][key] for key in both},
            **{key: record[key] for key in ("model", "dataset", "seed")},
        }
        for record in (then, now)
    )
    for key in sorted({*old, *new} - FREE_TO_DIFFER):
        if old.get(key) != new.get(key):
            return key, old.get(key), new.get(key)
    return None


def check_state(path: Path, state: Mapping[str, Any], config: Config) -> None:
    """Make sure that the state of an interrupted run is of one with these settings.

    Raises:
        CheckpointError: it is not.
    """
    if (changed := changed_setting(state["run"], run_record(config))) is not None:
        key, then, now = changed
        raise CheckpointError(
            f"{path} was begun with {key}={then!r}, now {now!r}: give that again, or delete it to start anew"
        )


def _data_digests(config: Config, dataset: Any) -> dict[str, str]:
    """Hashes of the data set's files and of the content that the model is given."""
    digests = {}
    for path in sorted(Path(config["data_path"]).glob(f"{glob.escape(config['dataset'])}.*")):
        if path.is_file():
            with path.open("rb") as file:
                digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    for kind in ("item", "user"):
        for modality, features in getattr(dataset, f"{kind}_content", {}).items():
            values = features.values.contiguous().view(torch.uint8).numpy()
            digests[f"{kind} {modality}"] = hashlib.sha256(values).hexdigest()
    return digests


def as_json_holds(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` as they come back from a JSON file."""
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


@contextlib.contextmanager
def _name_of_its_own(file: str) -> Iterator[str]:
    """``file``, or another where a checkpoint lies there or a run is about to write one, while this one holds it.

    RecBole names checkpoints by the second in which a run begins.
    """
    path = free = Path(file)
    remove_abandoned(path.parent.glob(".*.pth.*"))  # of runs that were killed before they had a state to go on from
    for number in itertools.count(2):
        with held(free) as is_ours:
            if is_ours and not free.exists() and not state_of(free).exists():
                yield str(free)
                return
        free = path.with_stem(f"{path.stem}-{number}")


class EpochWatch:
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

    def __enter__(self) -> EpochWatch:
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


@contextlib.contextmanager
def _log_file(config: Config) -> Iterator[str]:
    """A log file of its own for each run; the console gets warnings only, unless ``state`` is set.

    RecBole sets logging up once a process, so that a second run's lines would go to the first one's file. Of processes
    that train together, only the first logs; the others have no file, ``""``. A log that cannot be written ends the
    run: a checkpoint could not be, either.
    """
    root = logging.getLogger()
    handlers, level, in_threads = root.handlers[:], root.level, threading.excepthook
    threading.excepthook = functools.partial(_but_of_full_disks, in_threads)
    root.handlers = []
    if is_first():
        init_logger(config)
    else:
        root.addHandler(logging.NullHandler())
    try:
        for handler in root.handlers:
            if not isinstance(handler, logging.FileHandler) and "state" not in config.external_config_dict:
                handler.setLevel(logging.WARNING)
            if isinstance(handler, logging.FileHandler):
                handler.handleError = _end_the_run  # type: ignore[method-assign]
        files = [handler.baseFilename for handler in root.handlers if isinstance(handler, logging.FileHandler)]
        yield str(Path(files[0]).relative_to(Path.cwd())) if files else ""
    finally:
        for handler in root.handlers:
            with contextlib.suppress(OSError):  # what of it could not be written has been said
                handler.close()
        root.handlers = handlers
        threading.excepthook = in_threads
        root.setLevel(level)


def _end_the_run(record: logging.LogRecord) -> None:
    """Raise what kept a line from being logged, where logging would print it and go on."""
    raise


def _but_of_full_disks(in_threads: Callable[..., object], error: threading.ExceptHookArgs) -> None:
    """Print what ends a thread, unless it is that TensorBoard's cannot write: the run ends by the same error."""
    if not (isinstance(error.exc_value, OSError) and is_of_writing(error.exc_value)):
        in_threads(error)


def _candidates(config: Config, items: int) -> str:
    mode = config["eval_args"]["mode"]["test"]
    ranked = f"all {items} items" if mode == "full" else f"{mode} sampled items of {items}"
    return ranked if config["repeatable"] else f"{ranked} but those seen before"


def _named(dataset: Any, users: Any, items: Any) -> list[str]:
    """Events by names that do not depend on RecBole's internal ids."""
    names = dataset.id2token(dataset.uid_field, users), dataset.id2token(dataset.iid_field, items)
    return [f"{user}\t{item}" for user, item in zip(*names, strict=True)]


def _places(dataset: Any, train_data: Any, events: Tensor | None) -> tuple[list[int], list[int]]:
    """The places of the tested events, and how many training events their items have.

    Both in the order of the events' names, which is the same for every model.
    """
    if events is None:
        return [], []
    users, items, places = events.unbind(dim=1)
    known, _ = training_events(train_data.dataset)
    by_name = sorted(zip(_named(dataset, users, items), places.tolist(), known[items].tolist(), strict=True))
    return [place for _, place, _ in by_name], [count for _, _, count in by_name]


def digest(words: Iterable[Any]) -> str:
    """A hash of words in their order."""
    return hashlib.sha256("\n".join(map(str, words)).encode()).hexdigest()
