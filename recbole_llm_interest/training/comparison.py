"""A comparison: runs several models, each with one or more seeds, under one protocol.

``compare`` is for programs, ``run`` what it and the command line do.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch.distributed
from recbole.config import Config

from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.evaluation.comparison import summarize
from recbole_llm_interest.evaluation.results import RunResult
from recbole_llm_interest.evaluation.table import as_table, table_path
from recbole_llm_interest.io.config_files import models_and_dataset, named_models
from recbole_llm_interest.io.files import exclusive_lock, shared_data_set_lock
from recbole_llm_interest.io.variants import Variant
from recbole_llm_interest.training.config import configure, empty_command_line
from recbole_llm_interest.training.planned_run import PlannedRun
from recbole_llm_interest.training.result_table import ResultTable
from recbole_llm_interest.training.run_metadata import file_digests
from recbole_llm_interest.training.tracking.description import comparison_name
from recbole_llm_interest.training.tracking.session import check_trackers
from recbole_llm_interest.training.unused import warn_of_unused


class DataSet(Protocol):
    """A data set by its name and folder, such as ``from_pandas`` returns.

    Attributes:
        dataset: its name.
        data_path: the folder that has its folder.
    """

    dataset: str
    data_path: Path


@dataclass(frozen=True, repr=False)
class Comparison:
    """Runs of several models under one protocol. ``print`` shows them as a table.

    Attributes:
        results: the runs.
        files: the table as JSON, Markdown and LaTeX; none without ``table``.

    Example:
        >>> Comparison([])
        Comparison()
    """

    results: list[RunResult]
    files: tuple[Path, ...] = ()

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each model, with the mean of each metric over seeds."""
        summaries = summarize(self.results)
        means = {
            summary.name: {metric: statistics.mean(summary.values(metric)) for metric in summary.runs[0].test}
            for summary in summaries
        }
        return pd.DataFrame.from_dict(means, orient="index").rename_axis("model")

    def checkpoint(self, model: str, seed: int | None = None) -> str:
        """The checkpoint of a model, which ``Recommender.load`` takes.

        Args:
            model: its name in the table.
            seed: of the run; None for the first one.

        Raises:
            DataError: there is no such run.
        """
        for result in self.results:
            if result.variant == model and seed in (None, result.seed):
                return result.checkpoint
        known = ", ".join(f"{result.variant} of seed {result.seed}" for result in self.results)
        raise DataError(f"there is no run of {model}{'' if seed is None else f' of seed {seed}'}: there are {known}")

    def __repr__(self) -> str:
        names = dict.fromkeys(result.variant for result in self.results)
        return f"Comparison({', '.join(names)})"

    def __str__(self) -> str:
        return as_table(self.results)

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        return str(self.frame.to_html(float_format="{:.4f}".format))


def compare(
    data: str | DataSet,
    models: str | Sequence[str | Variant] = "LLMInterest",
    *,
    seeds: int = 1,
    table: str | Path | None = None,
    config_files: Sequence[str] = (),
    **settings: Any,
) -> Comparison:
    """Train models on a data set under one protocol, test them, and compare them.

    Args:
        data: name of a data set, or what ``from_pandas`` returned.
        models: names of models, RecBole's or this package's, as a list or separated by commas; or variants with
            settings of their own.
        seeds: runs of each model; ``seed`` is counted up from the setting.
        table: file of the results: finished runs of it are not run again, interrupted ones are resumed.
        config_files: YAML files of settings; a later one takes precedence.
        **settings: of RecBole or of this package, which take precedence over the files. RecBole's own functions would
            read the command line of the program, too; this one does not.

    Raises:
        LLMInterestError: a setting or the data set is unusable. Settings are checked before training.

    Example:
        >>> compare("ml-100k", ["LLMInterest", "GRU4Rec"], epochs=5, table="films")  # doctest: +SKIP
        Comparison(LLMInterest, GRU4Rec)
    """
    name, given = (data, {}) if isinstance(data, str) else (data.dataset, {"data_path": str(data.data_path)})
    listed = named_models({"model": models}) if isinstance(models, str) else models
    kept = ResultTable(None if table is None else table_path(Path(table), ".json"))
    with empty_command_line(), exclusive_lock(kept.path, "give another table") if kept.path else nullcontext():
        known = kept.read()
        run(
            listed, name, config_files, {**given, **settings}, seeds=seeds, table=kept.path, known=known,
            on_result=kept.write,
        )  # fmt: skip
    return Comparison(kept.results, tuple(kept.files))


def run(
    models: Sequence[str | Variant] = (),
    dataset: str | None = None,
    config_file_list: Sequence[str] = (),
    config_dict: dict[str, Any] | None = None,
    checkpoint: str | None = None,
    *,
    seeds: int = 1,
    nproc: int = 1,
    resume: str | None = None,
    table: Path | None = None,
    known: Sequence[RunResult] = (),
    on_result: Callable[[RunResult], object] | None = None,
) -> list[RunResult]:
    """Train and test each model, or test ``checkpoint`` of the only one.

    >>> results = run(["LLMInterest", "Pop"], "ml-100k", config_dict={"epochs": 5}, seeds=3)  # doctest: +SKIP

    Args:
        models: names of models, or variants with settings of their own; if empty, as for ``models_and_dataset``.
        dataset: name of the data set; if None, likewise.
        config_file_list: YAML files, as for RecBole's ``run``; a later one takes precedence.
        config_dict: settings that take precedence over the files; those of a variant take precedence over them.
        checkpoint: evaluate this checkpoint instead of training.
        seeds: runs of each variant; ``seed`` is counted up from the setting.
        nproc: processes that train a model; models that do not support several are trained by one.
        resume: checkpoint, or resume state beside it, of the only run, which is resumed.
        table: file of the results; runs of this file that were interrupted are resumed.
        known: results of finished runs. They are returned as they are; other settings than theirs are an error.
        on_result: is called with each result, known ones included, as soon as it is available.

    Raises:
        LLMInterestError: a setting, the data set or the checkpoint is unusable. Settings are checked before training.
    """
    settings = dict(config_dict or {})
    variants, dataset = _variants_and_dataset(models, dataset, config_file_list, settings)
    _check_arguments(variants, checkpoint, resume, seeds, nproc)
    configs = _configurations(variants, dataset, config_file_list, settings, seeds)
    shared = checkpoint, nproc, resume, table, comparison_name(dataset, table)
    return _execute([PlannedRun(variant, config, *shared) for variant, config in configs], known, on_result)


def _variants_and_dataset(
    models: Sequence[str | Variant], dataset: str | None, files: Sequence[str], settings: dict[str, Any]
) -> tuple[list[Variant], str]:
    """Return what is run, and on which data set; ``settings`` lose the names of both."""
    given = [Variant(model, model) if isinstance(model, str) else model for model in models]
    names, dataset = models_and_dataset([variant.model for variant in given], dataset, files, settings)
    for key in ("model", "dataset"):
        settings.pop(key, None)
    return given or [Variant(name, name) for name in names], dataset


def _check_arguments(
    variants: Sequence[Variant], checkpoint: str | None, resume: str | None, seeds: int, nproc: int
) -> None:
    if torch.distributed.is_torchelastic_launched():
        raise SettingsError("under torchrun, each process would do all of this by itself: give --nproc=2 instead")
    if nproc < 1:
        raise SettingsError(f"nproc={nproc}: it takes at least one process to train")
    if seeds < 1:
        raise SettingsError(f"seeds={seeds}: a row has to be run at least once")
    runs = len(variants) * seeds
    if checkpoint is not None and runs > 1:
        raise SettingsError(f"checkpoint is for one model and seed, not for {runs}: name one by --model")
    if resume is not None and (checkpoint is not None or runs > 1):
        raise SettingsError(
            "resume is for one model and seed, and not for a checkpoint that is evaluated; several go on by the same "
            "--table"
        )
    _check_names([variant.name for variant in variants])


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"{name!r} comes twice: rows of one table need different names (--rows)")


def _configurations(
    variants: Sequence[Variant], dataset: str, files: Sequence[str], settings: dict[str, Any], seeds: int
) -> list[tuple[Variant, Config]]:
    """Return each variant with the configuration of each of its seeds, checked."""
    configs = []
    for variant in variants:
        given = {**settings, **variant.settings}
        first = configure(variant.model, dataset, files, given)
        configs.append((variant, first))
        configs += [
            (variant, configure(variant.model, dataset, files, {**given, "seed": seed}))
            for seed in range(first["seed"] + 1, first["seed"] + seeds)
        ]
    checked = [config for _, config in configs]
    check_trackers(checked)
    warn_of_unused(checked)
    return configs


def _execute(
    plan: Sequence[PlannedRun], known: Sequence[RunResult], on_result: Callable[[RunResult], object] | None
) -> list[RunResult]:
    """Check all runs, then execute those that have no known result."""
    finished = {(result.variant, result.seed): result for result in known}
    hashes: dict[tuple[str, str], dict[str, str]] = {}  # of the files by folder and data set: they are hashed once
    for planned in plan:
        planned.check()
        result = finished.get((planned.variant.name, planned.config["seed"]))
        if result is not None:
            key = planned.config["data_path"], planned.config["dataset"]
            if key not in hashes:
                hashes[key] = file_digests(planned.config)
            planned.check_known(result, hashes[key])
    results = []
    with _reserved(plan):
        for planned in plan:
            result = finished.get((planned.variant.name, planned.config["seed"]))
            if result is None:
                result = planned.execute()
            results.append(result)
            if on_result is not None:
                on_result(result)
            planned.remove_state(result)
    return results


@contextmanager
def _reserved(plan: Sequence[PlannedRun]) -> Iterator[None]:
    """Lock the data sets of all runs, and the resume state if a run is resumed."""
    with ExitStack() as held:
        for folder in {Path(planned.config["data_path"]) for planned in plan}:
            held.enter_context(shared_data_set_lock(folder))
        for planned in plan:
            if planned.resume is not None and planned.state_file is not None:
                held.enter_context(exclusive_lock(planned.state_file, "start a run of its own, without --resume"))
        yield
