"""Runs several models, or one over several seeds, under one protocol."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch.distributed
from recbole.config import Config

from recbole_llm_interest.distributed import run_in_processes
from recbole_llm_interest.errors import CheckpointError, SettingsError
from recbole_llm_interest.evaluation.results import RunResult
from recbole_llm_interest.evaluation.variants import Variant
from recbole_llm_interest.io.files import exclusive_lock
from recbole_llm_interest.settings import settings_keys
from recbole_llm_interest.training.checkpoint import load_matching_checkpoint
from recbole_llm_interest.training.config import configure
from recbole_llm_interest.training.experiment import run_experiment, supports_distributed_training
from recbole_llm_interest.training.resume import load_resume_state, resume_path
from recbole_llm_interest.training.run_metadata import (
    RESULT_NEUTRAL_SETTINGS,
    changed_setting,
    check_resume_state,
    digest,
    run_identity,
)


def run(
    models: Sequence[str | Variant],
    dataset: str = "ml-100k",
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

    Args:
        models: models' names, or rows with settings of their own.
        dataset: name of the data set.
        config_file_list: YAML files, as in RecBole's ``run``.
        config_dict: settings that go before the files'; a row's go before these.
        checkpoint: evaluated instead of training.
        seeds: how often each row is run, with ``seed`` counted up from the setting.
        nproc: processes that train a model together; one for models that they cannot share (``supports_distributed_training``).
        resume: the checkpoint of the only run, which was interrupted and goes on, or the state beside it.
        table: the file that results are written to: what was interrupted on its way there goes on.
        known: runs that need not be run again, where row, seed and settings are the same.
        on_result: is given each result as soon as it is there, known ones included.

    Raises:
        LLMInterestError: a setting, the data set or the checkpoint cannot be used. Settings are checked before the
            first model trains.
    """
    rows = [Variant(model, model) if isinstance(model, str) else model for model in models]
    overrides = dict(config_dict or {})
    _check_plan(rows, checkpoint, resume, seeds, nproc)
    plan: list[tuple[Variant, Config]] = []
    for row in rows:
        first = configure(row.model, dataset, config_file_list, {**overrides, **row.settings})
        later = [
            configure(
                row.model, dataset, config_file_list, {**overrides, **row.settings, "seed": first["seed"] + number}
            )
            for number in range(1, seeds)
        ]
        plan += [(row, config) for config in (first, *later)]
    if checkpoint is not None:
        _check_settings_of(checkpoint, plan[0][1])
    finished = {(result.variant, result.seed): result for result in known}
    states = [_state_file(row, config, resume, table) for row, config in plan]
    for (_, config), state in zip(plan, states, strict=True):
        if state is not None and (resume is not None or state.exists()):
            check_resume_state(state, load_resume_state(state), config)
    results = []
    with (
        exclusive_lock(states[0], "start a run of its own, without --resume") if resume and states[0] else nullcontext()
    ):
        for (row, config), state in zip(plan, states, strict=True):
            result = finished.get((row.name, config["seed"]))
            if result is None:
                processes = _processes(nproc, config, checkpoint)
                result = run_in_processes(processes, run_experiment, row, config, checkpoint, state)
            else:
                _check_is_the_same(result, config)
            results.append(result)
            if on_result is not None:
                on_result(result)
            if checkpoint is None:
                (state or resume_path(Path(result.checkpoint))).unlink(missing_ok=True)
    return results


def _state_file(row: Variant, config: Config, resume: str | None, table: Path | None) -> Path | None:
    """Where the state of a run is kept: by a name that the same command finds again, if it has a table."""
    if resume is not None:
        return resume_path(Path(resume))
    if table is None:
        return None
    run_is = digest([table.resolve(), row.name, config["seed"]])[:8]
    name = f"{config['model']}-{table.stem}-{config['seed']}-{run_is}.pth"
    return resume_path(Path(config["checkpoint_dir"]) / name)


def _check_plan(rows: Sequence[Variant], checkpoint: str | None, resume: str | None, seeds: int, nproc: int) -> None:
    if torch.distributed.is_torchelastic_launched():
        raise SettingsError("under torchrun, each process would do all of this by itself: give --nproc=2 instead")
    if nproc < 1:
        raise SettingsError(f"nproc={nproc}: it takes at least one process to train")
    if seeds < 1:
        raise SettingsError(f"seeds={seeds}: a row has to be run at least once")
    if checkpoint is not None and len(rows) * seeds > 1:
        raise SettingsError(f"checkpoint is for one model and seed, not for {len(rows) * seeds}: name one by --model")
    if resume is not None and (checkpoint is not None or len(rows) * seeds > 1):
        raise SettingsError(
            "resume is for one model and seed, and not for a checkpoint that is evaluated; several go on by the same "
            "--table"
        )
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"{name!r} comes twice: rows of one table need different names (--rows)")


def _processes(nproc: int, config: Config, checkpoint: str | None) -> int:
    """How many are of use."""
    if nproc == 1 or checkpoint is not None:
        return 1
    if supports_distributed_training(config):
        return nproc
    logging.getLogger().warning("%s is trained by one process, which is all that its training allows", config["model"])
    return 1


def _check_is_the_same(known: RunResult, config: Config) -> None:
    if (changed := changed_setting(vars(known), run_identity(config))) is not None:
        key, then, now = changed
        raise SettingsError(
            f"row {known.variant!r}, seed {known.seed}, was run with {key}={then!r}, now {now!r}: give the row another "
            "name, or the table another file"
        )


def _check_settings_of(checkpoint: str, config: Config) -> None:
    saved = load_matching_checkpoint(Path(checkpoint), config)["config"]
    keys = ["MAX_ITEM_LIST_LENGTH", *settings_keys()]
    if "content_control" in saved and saved["content_control"] != "none":
        keys.append("seed")  # it says which content an item was given
    for key in keys:
        if key in saved and saved[key] != config[key] and key not in RESULT_NEUTRAL_SETTINGS:
            raise CheckpointError(
                f"checkpoint {checkpoint} was trained with other settings: {key}={saved[key]!r}, now {config[key]!r}; "
                f"give --{key}={saved[key]}"
            )
