"""A comparison: runs several models, each with one or more seeds, under one protocol."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed
from recbole.config import Config

from recbole_llm_interest.distributed import run_in_processes
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.evaluation.results import RunResult, changed_file
from recbole_llm_interest.io.config_files import models_and_dataset
from recbole_llm_interest.io.files import exclusive_lock, shared_data_set_lock
from recbole_llm_interest.io.variants import Variant
from recbole_llm_interest.patches.checkpoints import CHECKPOINT_SUFFIX
from recbole_llm_interest.training.checkpoint import check_checkpoint_settings, resume_path
from recbole_llm_interest.training.config import configure
from recbole_llm_interest.training.experiment import run_experiment, supports_distributed_training
from recbole_llm_interest.training.resume import check_resume_state, load_resume_state
from recbole_llm_interest.training.run_metadata import changed_setting, digest, file_digests, run_identity
from recbole_llm_interest.training.tracking.description import comparison_name
from recbole_llm_interest.training.tracking.session import check_trackers
from recbole_llm_interest.training.unused import warn_of_unused

#: bytes of a table's name in the names of resume states, so that these are shorter than the 255 of a file system
_MAX_STEM_BYTES = 120


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
    return _execute([_Run(variant, config, *shared) for variant, config in configs], known, on_result)


@dataclass(frozen=True)
class _Run:
    """One planned run of a comparison; the attributes are those of ``run``, and the comparison's name."""

    variant: Variant
    config: Config
    checkpoint: str | None
    nproc: int
    resume: str | None
    table: Path | None
    comparison: str

    @property
    def state_file(self) -> Path | None:
        """Path of the resume state; None for the one beside the checkpoint.

        With a table, the same command finds the state again by its name.
        """
        if self.resume is not None:
            return resume_path(Path(self.resume))
        if self.table is None:
            return None
        seed = self.config["seed"]
        key = digest([self.table.resolve(), self.variant.name, seed])[:8]
        stem = self.table.stem.encode()[:_MAX_STEM_BYTES].decode(errors="ignore")
        name = f"{self.config['model']}-{stem}-{seed}-{key}{CHECKPOINT_SUFFIX}"
        return resume_path(Path(self.config["checkpoint_dir"]) / name)

    def check(self) -> None:
        """Check that the checkpoint to evaluate or the state to resume has these settings.

        Raises:
            CheckpointError: it has others, or cannot be read.
        """
        if self.checkpoint is not None:
            check_checkpoint_settings(Path(self.checkpoint), self.config)
        state = self.state_file
        if state is not None and (self.resume is not None or state.exists()):
            check_resume_state(state, load_resume_state(state), self.config)

    def execute(self) -> RunResult:
        """Train and test, or test the checkpoint."""
        files = self.checkpoint, self.state_file
        return run_in_processes(self._processes(), run_experiment, self.variant, self.config, *files, self.comparison)

    def check_known(self, known: RunResult, files: Mapping[str, str]) -> None:
        """Check that a finished run has these settings and data.

        Args:
            known: result of the run.
            files: hashes of the data set's files.

        Raises:
            SettingsError: it has others.
        """
        if (changed := changed_setting(vars(known), run_identity(self.config))) is not None:
            key, then, now = changed
            raise SettingsError(
                f"row {known.variant!r}, seed {known.seed}, was run with {key}={then!r}, now {now!r}: give the row "
                "another name, or the table another file"
            )
        if (file := changed_file(known.files, files)) is not None:
            raise SettingsError(
                f"row {known.variant!r}, seed {known.seed}, was run on other data: {file} has changed since; give "
                "another --table, or the file as it was"
            )

    def remove_state(self, result: RunResult) -> None:
        """Remove the resume state of a run whose result is kept."""
        if self.checkpoint is None:
            (self.state_file or resume_path(Path(result.checkpoint))).unlink(missing_ok=True)

    def _processes(self) -> int:
        if self.nproc == 1 or self.checkpoint is not None:
            return 1
        if supports_distributed_training(self.config):
            return self.nproc
        logging.getLogger().warning(
            "%s does not support training by several processes: one is used", self.config["model"]
        )
        return 1


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
    plan: Sequence[_Run], known: Sequence[RunResult], on_result: Callable[[RunResult], object] | None
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
def _reserved(plan: Sequence[_Run]) -> Iterator[None]:
    """Lock the data sets of all runs, and the resume state if a run is resumed."""
    with ExitStack() as held:
        for folder in {Path(planned.config["data_path"]) for planned in plan}:
            held.enter_context(shared_data_set_lock(folder))
        for planned in plan:
            if planned.resume is not None and planned.state_file is not None:
                held.enter_context(exclusive_lock(planned.state_file, "start a run of its own, without --resume"))
        yield
