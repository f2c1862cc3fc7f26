"""Runs RecBole models, once or over several seeds, under one protocol, and sets them side by side.

``python run_recbole.py --model=LLMInterest,GRU4Rec --dataset=ml-100k`` ends here. Every row of a comparison gets the
same splits, candidates and order of events; the table is written anew after each run, so that nothing is lost.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch.distributed
from recbole.config import Config

from recbole_llm_interest.commandline import exit_code, parse_arguments, settings_parser
from recbole_llm_interest.configuration import configure
from recbole_llm_interest.distributed import in_processes
from recbole_llm_interest.errors import CheckpointError, SettingsError
from recbole_llm_interest.evaluation.comparison import (
    RunResult,
    as_table,
    draw_comparison,
    read_results,
    write_comparison,
)
from recbole_llm_interest.evaluation.rows import Row, read_rows
from recbole_llm_interest.experiment import (
    FREE_TO_DIFFER,
    can_share_training,
    changed_setting,
    check_state,
    digest,
    run_experiment,
    run_record,
)
from recbole_llm_interest.files import alone_with
from recbole_llm_interest.resuming import open_state, state_of
from recbole_llm_interest.settings import settings_keys
from recbole_llm_interest.trainer import read_checkpoint


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = settings_parser(
        "run_recbole.py", "Train and compare RecBole models. Any setting of RecBole or the plug-in: --key=value."
    )
    parser.add_argument("--model", "-m", help="a model's or row's name, or several with commas between [LLMInterest]")
    parser.add_argument("--rows", help="YAML file of rows: a name, and below it model, settings and note")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, counted up from the setting seed")
    parser.add_argument("--nproc", type=int, default=1, help="how many processes or GPUs train a model together [1]")
    parser.add_argument(
        "--table", help="write the table here; what it holds is not run again, what was interrupted goes on"
    )
    parser.add_argument("--checkpoint", help="evaluate this checkpoint instead of training")
    parser.add_argument("--resume", help="go on with the interrupted run of this checkpoint, as in saved/….pth")
    results: list[RunResult] = []
    files: list[Path] = []

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        table = Path(options.table).with_suffix(".json") if options.table else None
        with alone_with(table, "give another --table") if table else nullcontext():
            fill(table, options, overrides)

    def fill(table: Path | None, options: argparse.Namespace, overrides: dict[str, Any]) -> None:
        known = read_results(table) if table and table.exists() else []
        # what the table holds stays in it and in its order, whatever is asked for now and wherever an interruption
        # comes: its first row is the one that p-values are against
        by_run = {(result.row, result.seed): result for result in known}

        def keep(result: RunResult) -> None:
            by_run[result.row, result.seed] = result
            results[:] = by_run.values()
            files[:] = write_comparison(results, table or _beside_the_checkpoint(results[0]))

        run(
            _rows(options),
            options.dataset,
            options.config_files,
            overrides,
            options.checkpoint,
            seeds=options.seeds,
            nproc=options.nproc,
            resume=options.resume,
            table=table,
            known=known,
            on_result=keep,
        )

    code = exit_code(job, kept="encoded features and finished runs are kept")
    reported = exit_code(lambda: _report(results, files), kept="all runs are kept") if results else 0
    return code or reported


def _rows(options: argparse.Namespace) -> list[str | Row]:
    names = options.model.split(",") if options.model else []
    if options.rows:
        return list(read_rows(Path(options.rows), names))
    return names or ["LLMInterest"]


def _beside_the_checkpoint(result: RunResult) -> Path:
    started = Path(result.checkpoint).stem.partition("-")[2] or time.strftime("%b-%d-%Y_%H-%M-%S")
    return Path(result.checkpoint).parent / f"{result.dataset}-{started}"


def _report(results: Sequence[RunResult], files: list[Path]) -> None:
    """Print the table and say where everything is. Several seeds or rows are drawn, too."""
    print(f"\n{as_table(results)}")
    written = list(map(str, files))
    if files and len(results) > 1:
        written.append(str(draw_comparison(results, files[0])))
    checkpoints = ", ".join(result.checkpoint for result in results)
    logs = ", ".join(sorted({str(Path(result.log).parent) for result in results}))
    print(f"table: {', '.join(written) or 'not written'} | checkpoints: {checkpoints} | logs and TensorBoard: {logs}")


def run(
    models: Sequence[str | Row],
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
        nproc: processes that train a model together; one for models that they cannot share (``can_share_training``).
        resume: the checkpoint of the only run, which was interrupted and goes on, or the state beside it.
        table: the file that results are written to: what was interrupted on its way there goes on.
        known: runs that need not be run again, where row, seed and settings are the same.
        on_result: is given each result as soon as it is there, known ones included.

    Raises:
        LLMInterestError: a setting, the data set or the checkpoint cannot be used. Settings are checked before the
            first model trains.
    """
    rows = [Row(model, model) if isinstance(model, str) else model for model in models]
    overrides = dict(config_dict or {})
    _check_plan(rows, checkpoint, resume, seeds, nproc)
    plan: list[tuple[Row, Config]] = []
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
    finished = {(result.row, result.seed): result for result in known}
    states = [_state_file(row, config, resume, table) for row, config in plan]
    for (_, config), state in zip(plan, states, strict=True):
        if state is not None and (resume is not None or state.exists()):
            check_state(state, open_state(state), config)
    results = []
    with alone_with(states[0], "start a run of its own, without --resume") if resume and states[0] else nullcontext():
        for (row, config), state in zip(plan, states, strict=True):
            result = finished.get((row.name, config["seed"]))
            if result is None:
                processes = _processes(nproc, config, checkpoint)
                result = in_processes(processes, run_experiment, row, config, checkpoint, state)
            else:
                _check_is_the_same(result, config)
            results.append(result)
            if on_result is not None:
                on_result(result)
            if checkpoint is None:
                (state or state_of(Path(result.checkpoint))).unlink(missing_ok=True)
    return results


def _state_file(row: Row, config: Config, resume: str | None, table: Path | None) -> Path | None:
    """Where the state of a run is kept: by a name that the same command finds again, if it has a table."""
    if resume is not None:
        return state_of(Path(resume))
    if table is None:
        return None
    run_is = digest([table.resolve(), row.name, config["seed"]])[:8]
    name = f"{config['model']}-{table.stem}-{config['seed']}-{run_is}.pth"
    return state_of(Path(config["checkpoint_dir"]) / name)


def _check_plan(rows: Sequence[Row], checkpoint: str | None, resume: str | None, seeds: int, nproc: int) -> None:
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
    if can_share_training(config):
        return nproc
    logging.getLogger().warning("%s is trained by one process, which is all that its training allows", config["model"])
    return 1


def _check_is_the_same(known: RunResult, config: Config) -> None:
    if (changed := changed_setting(vars(known), run_record(config))) is not None:
        key, then, now = changed
        raise SettingsError(
            f"row {known.row!r}, seed {known.seed}, was run with {key}={then!r}, now {now!r}: give the row another "
            "name, or the table another file"
        )


def _check_settings_of(checkpoint: str, config: Config) -> None:
    saved = read_checkpoint(Path(checkpoint), config)["config"]
    keys = ["MAX_ITEM_LIST_LENGTH", *settings_keys()]
    if "content_control" in saved and saved["content_control"] != "none":
        keys.append("seed")  # it says which content an item was given
    for key in keys:
        if key in saved and saved[key] != config[key] and key not in FREE_TO_DIFFER:
            raise CheckpointError(
                f"checkpoint {checkpoint} was trained with other settings: {key}={saved[key]!r}, now {config[key]!r}; "
                f"give --{key}={saved[key]}"
            )
