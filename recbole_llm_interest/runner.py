"""Runs one RecBole model or several, under one protocol, and sets them side by side.

``python run_recbole.py --model=LLMInterest,GRU4Rec --dataset=ml-100k`` ends here. The steps are RecBole's; what is
added is what a comparison needs: the same splits, candidates and order of events for every model, one progress
bar a model, one table, and errors that a person can act on.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_logger, init_seed
from tqdm import tqdm

from recbole_llm_interest.commandline import exit_code, parse_arguments, settings_parser
from recbole_llm_interest.configuration import as_user_error, configure
from recbole_llm_interest.errors import CheckpointError, SettingsError
from recbole_llm_interest.evaluation.comparison import RunResult, as_table, write_comparison
from recbole_llm_interest.settings import settings_keys
from recbole_llm_interest.trainer import read_checkpoint, restore_model

#: what RecBole's own command line takes for several processes, which this one does not start yet
_DISTRIBUTED_KEYS = ("nproc", "world_size", "ip", "port", "group_offset")
#: settings that a checkpoint may differ in: they change how fast a result comes, not which
_FREE_OF_THE_CHECKPOINT = {
    *("text_batch_size", "image_batch_size", "audio_batch_size", "encoder_device"),
    *("feature_cache", "strict_content"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake of the user's, 130 when interrupted."""
    parser = settings_parser(
        "run_recbole.py", "Train and compare RecBole models. Any setting of RecBole or the plug-in: --key=value."
    )
    parser.add_argument("--model", "-m", default="LLMInterest", help="a model's name, or several with commas between")
    parser.add_argument("--checkpoint", help="evaluate this checkpoint instead of training")
    results: list[RunResult] = []

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        # Row by row, so that what is there already outlives a later failure.
        run(
            options.model.split(","),
            options.dataset,
            options.config_files,
            overrides,
            options.checkpoint,
            on_result=results.append,
        )

    code = exit_code(job, kept="encoded features and the best checkpoint so far are kept")
    if results:
        _report(results)
    return code


def _report(results: Sequence[RunResult]) -> None:
    """Print the table, write it beside the first checkpoint, and say where everything is."""
    path = Path(results[0].checkpoint).parent / f"{results[0].dataset}-{time.strftime('%Y-%m-%d_%H-%M-%S')}"
    markdown, data = write_comparison(results, path)
    print(f"\n{as_table(results)}")
    checkpoints = ", ".join(result.checkpoint for result in results)
    logs = ", ".join(sorted({str(Path(result.log).parent) for result in results}))
    print(f"table: {markdown}, {data} | checkpoints: {checkpoints} | logs and TensorBoard: {logs}")


def run(
    models: Sequence[str],
    dataset: str = "ml-100k",
    config_file_list: Sequence[str] = (),
    config_dict: dict[str, Any] | None = None,
    checkpoint: str | None = None,
    on_result: Callable[[RunResult], object] | None = None,
) -> list[RunResult]:
    """Train and test each model, or test ``checkpoint`` of the only one. Arguments are those of RecBole's ``run``.

    ``on_result`` is given each result as soon as it is there.

    Raises:
        LLMInterestError: a setting, the data set or the checkpoint cannot be used. Settings are checked before the
            first model trains.
    """
    overrides = dict(config_dict or {})
    for key in _DISTRIBUTED_KEYS:
        if key in overrides:
            raise SettingsError(f"{key} is not supported yet: models are trained in one process")
    if checkpoint is not None and len(models) > 1:
        raise SettingsError(f"checkpoint is for one model, not for {len(models)}: name one by --model")
    configs = [configure(model, dataset, config_file_list, overrides) for model in models]
    if checkpoint is not None:
        _check_settings_of(checkpoint, configs[0])
    results = []
    for config in configs:
        results.append(_run_one(config, checkpoint))
        if on_result is not None:
            on_result(results[-1])
    return results


def _check_settings_of(checkpoint: str, config: Config) -> None:
    saved = read_checkpoint(Path(checkpoint), config)["config"]
    for key in ("MAX_ITEM_LIST_LENGTH", *settings_keys()):
        if key in saved and saved[key] != config[key] and key not in _FREE_OF_THE_CHECKPOINT:
            raise CheckpointError(
                f"checkpoint {checkpoint} was trained with other settings: {key}={saved[key]!r}, now {config[key]!r}; "
                f"give --{key}={saved[key]}"
            )


def _run_one(config: Config, checkpoint: str | None) -> RunResult:
    with as_user_error("the settings"), _log_file(config) as log, as_user_error("the data or the settings", log):
        logger = logging.getLogger()
        init_seed(config["seed"], config["reproducibility"])
        logger.info(config)
        dataset = create_dataset(config)
        train_data, valid_data, test_data = data_preparation(config, dataset)
        logger.info(dataset)
        if max(config["topk"]) > dataset.item_num - 1:
            raise SettingsError(f"topk={config['topk']}: {config['dataset']} has only {dataset.item_num - 1} items")
        config["item_digest"] = _digest(dataset.field2id_token[dataset.iid_field])
        init_seed(config["seed"], config["reproducibility"])
        model = get_model(config["model"])(config, train_data._dataset).to(config["device"])
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        logger.info(model)
        best_valid = None
        with EpochWatch(trainer, config) as watch:
            if checkpoint is None:
                best_valid, _ = trainer.fit(train_data, valid_data, saved=True, show_progress=False)
            else:
                restore_model(model, read_checkpoint(Path(checkpoint), config))
            test = trainer.evaluate(test_data, load_best_model=checkpoint is None, show_progress=False)
        logger.info("test result: %s", test)
        candidates = _candidates(config, dataset.item_num - 1)
        events = _test_events(test_data._dataset)
        return RunResult(
            model=config["model"],
            dataset=config["dataset"],
            seed=config["seed"],
            test={metric: float(value) for metric, value in test.items()},
            valid_metric=config["valid_metric"],
            best_valid=float(best_valid) if best_valid is not None and math.isfinite(best_valid) else None,
            epochs=len(watch.seconds),
            seconds_per_epoch=sum(watch.seconds) / len(watch.seconds) if watch.seconds else None,
            parameters=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
            test_events=len(events),
            candidates=candidates,
            test_digest=_digest([candidates, *events]),
            checkpoint=checkpoint or trainer.saved_model_file,
            log=log,
        )


class EpochWatch:
    """Times the training epochs of any RecBole trainer and shows them as one progress bar.

    Attributes:
        seconds: duration of each training epoch, validation not counted.
    """

    def __init__(self, trainer: Any, config: Config) -> None:
        self.seconds: list[float] = []
        self._best = -float("inf")
        self._metric = config["valid_metric"]
        self._bar = tqdm(
            total=trainer.epochs, desc=config["model"], unit="epoch", disable=not config["show_progress"], ncols=100
        )
        if hasattr(trainer, "_train_epoch"):
            trainer._train_epoch = self._timed(trainer._train_epoch)
            trainer._valid_epoch = self._scored(trainer._valid_epoch)

    def __enter__(self) -> EpochWatch:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def _timed(self, train_epoch: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            loss = train_epoch(*args, **kwargs)
            self.seconds.append(time.perf_counter() - start)
            self._bar.update()
            return loss

        return timed

    def _scored(self, valid_epoch: Callable[..., Any]) -> Callable[..., Any]:
        def scored(*args: Any, **kwargs: Any) -> Any:
            score, result = valid_epoch(*args, **kwargs)
            self._best = max(self._best, score)
            self._bar.set_postfix_str(f"{self._metric} {score:.4f}, best {self._best:.4f}")
            return score, result

        return scored


@contextmanager
def _log_file(config: Config) -> Iterator[str]:
    """A log file of its own for each run; the console gets warnings only, unless ``state`` is set.

    RecBole sets logging up once a process, so that a second run's lines would go to the first one's file.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    init_logger(config)
    try:
        for handler in root.handlers:
            if not isinstance(handler, logging.FileHandler) and "state" not in config.external_config_dict:
                handler.setLevel(logging.WARNING)
        files = [handler.baseFilename for handler in root.handlers if isinstance(handler, logging.FileHandler)]
        yield str(Path(files[0]).relative_to(Path.cwd()))
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers = handlers
        root.setLevel(level)


def _candidates(config: Config, items: int) -> str:
    mode = config["eval_args"]["mode"]["test"]
    ranked = f"all {items} items" if mode == "full" else f"{mode} sampled items of {items}"
    return ranked if config["repeatable"] else f"{ranked} but those seen before"


def _test_events(dataset: Any) -> list[str]:
    """The tested events, in an order and by names that do not depend on RecBole's internal ids."""
    users = dataset.id2token(dataset.uid_field, dataset.inter_feat[dataset.uid_field])
    items = dataset.id2token(dataset.iid_field, dataset.inter_feat[dataset.iid_field])
    return sorted(f"{user}\t{item}" for user, item in zip(users, items, strict=True))


def _digest(words: Iterable[Any]) -> str:
    return hashlib.sha256("\n".join(map(str, words)).encode()).hexdigest()
