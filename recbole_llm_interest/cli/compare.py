"""Runs RecBole models, once or over several seeds, under one protocol, and sets them side by side.

``python run_recbole.py --model=LLMInterest,GRU4Rec --dataset=ml-100k`` ends here. Every row of a comparison gets the
same splits, candidates and order of events; the table is written anew after each run, so that nothing is lost.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from recbole_llm_interest.cli.common import exit_code, parse_arguments, settings_parser
from recbole_llm_interest.evaluation.results import RunResult, read_results
from recbole_llm_interest.evaluation.table import as_table, draw_comparison, write_comparison
from recbole_llm_interest.evaluation.variants import Variant, read_variants
from recbole_llm_interest.io.files import exclusive_lock
from recbole_llm_interest.training.comparison import run


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
        with exclusive_lock(table, "give another --table") if table else nullcontext():
            fill(table, options, overrides)

    def fill(table: Path | None, options: argparse.Namespace, overrides: dict[str, Any]) -> None:
        known = read_results(table) if table and table.exists() else []
        # what the table holds stays in it and in its order, whatever is asked for now and wherever an interruption
        # comes: its first row is the one that p-values are against
        by_run = {(result.variant, result.seed): result for result in known}

        def keep(result: RunResult) -> None:
            by_run[result.variant, result.seed] = result
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


def _rows(options: argparse.Namespace) -> list[str | Variant]:
    names = options.model.split(",") if options.model else []
    if options.rows:
        return list(read_variants(Path(options.rows), names))
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
