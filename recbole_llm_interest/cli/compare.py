"""``llm-interest compare``: trains RecBole models under one protocol and compares them in one table.

``run_recbole.py`` and ``python -m recbole_llm_interest`` are the same command. All models get the same splits,
candidates and order of events. The table is rewritten after each run.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_llm_interest.cli.common import exit_code, file_option, parse_arguments, settings_parser, show
from recbole_llm_interest.evaluation.plot import draw_comparison
from recbole_llm_interest.evaluation.results import RunResult, read_results
from recbole_llm_interest.evaluation.table import as_table, table_files, table_path, write_comparison
from recbole_llm_interest.evaluation.variants import Variant, read_variants
from recbole_llm_interest.io.config_files import named_models, read_config_files
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.io.files import exclusive_lock
from recbole_llm_interest.io.manifest import record_made_from, source_of
from recbole_llm_interest.settings import MODELS
from recbole_llm_interest.training.comparison import run

_logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = _parser()
    table = _Table()

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        for option in ("resume", "checkpoint"):
            if (value := getattr(options, option)) is not None:
                file_option(option, value)
        if options.table is not None:
            table.path = table_path(file_option("table", options.table), ".json")
            file_option("table", str(table.path))
        with exclusive_lock(table.path, "give another --table") if table.path else nullcontext():
            _compare(options, overrides, table)

    code = exit_code(job, kept="encoded features and finished runs are kept")
    reported = exit_code(table.report, kept="all runs are kept") if table.results else 0
    return code or reported


@dataclass
class _Table:
    """The results of a command, and the files that they are written to after each run.

    Attributes:
        path: the JSON file; None for one that is named after the first checkpoint.
        results: the results, those that the file held included.
        files: the files of the table.
    """

    path: Path | None = None
    results: list[RunResult] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def report(self) -> None:
        """Print the table and the paths of all files; draw a plot if there are several runs."""
        results = self.results
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        show(f"\n{as_table(results, width=width)}")
        written = list(self.files)
        if self.files and len(results) > 1:
            written.append(draw_comparison(results, self.files[0]))
        checkpoints = ", ".join(one_line(result.checkpoint) for result in results)
        logs = ", ".join(sorted({one_line(Path(result.log).parent) for result in results}))
        files = ", ".join(map(one_line, written)) or "not written"
        show(f"table: {files} | checkpoints: {checkpoints} | {_places(results, logs)}")


def _places(results: Sequence[RunResult], logs: str) -> str:
    """Say where the runs' logs are, and where their trackers show them."""
    places: dict[str, dict[str, None]] = {}  # dict: in their order, each once
    for result in results:
        for name, place in result.tracked.items():
            places.setdefault(name, {})[one_line(place)] = None
    logged = "logs and TensorBoard" if places.pop("tensorboard", None) else "logs"  # beside each other
    return " | ".join([f"{logged}: {logs}", *(f"{name}: {', '.join(found)}" for name, found in places.items())])


def _parser() -> argparse.ArgumentParser:
    parser = settings_parser(
        "run_recbole.py", "Train and compare RecBole models. Any setting of RecBole or the plug-in: --key=value."
    )
    parser.add_argument(
        "--model",
        "-m",
        help=f"names of models or rows, separated by commas: RecBole's, {', '.join(MODELS)} [{MODELS[0]}]",
    )
    parser.add_argument("--rows", help="YAML file of rows: names, and below each its model, settings and note")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, counted up from the setting seed [1]")
    parser.add_argument("--nproc", type=int, default=1, help="number of processes or GPUs that train a model [1]")
    parser.add_argument(
        "--table", help="file of the table; its finished runs are not run again, interrupted ones are resumed"
    )
    parser.add_argument("--checkpoint", help="evaluate this checkpoint instead of training")
    parser.add_argument("--resume", help="resume the interrupted run of this checkpoint, such as saved/….safetensors")
    return parser


def _compare(options: argparse.Namespace, overrides: dict[str, Any], table: _Table) -> None:
    known = read_results(table.path) if table.path and table.path.exists() else []
    # known results stay in the table and in their order, whatever is run now: the first row is the tests' reference
    by_run = {(result.variant, result.seed): result for result in known}

    def write(result: RunResult) -> None:
        by_run[result.variant, result.seed] = result
        table.results[:] = by_run.values()
        path = table.path or _path_beside_checkpoint(table.results[0])
        record_made_from(source_of(Path(result.checkpoint), result.dataset), "table", table_files(path))
        table.files[:] = write_comparison(table.results, path)

    run(
        _variants(options),
        options.dataset,
        options.config_files,
        overrides,
        options.checkpoint,
        seeds=options.seeds,
        nproc=options.nproc,
        resume=options.resume,
        table=table.path,
        known=known,
        on_result=write,
    )


def _variants(options: argparse.Namespace) -> list[str | Variant]:
    names = options.model.split(",") if options.model else []
    if not options.rows:
        return [*names]
    if not names and (named := named_models(read_config_files(options.config_files))):
        _logger.warning("model=%s in the config files has no effect: %s names models", ",".join(named), options.rows)
    return list(read_variants(Path(options.rows), names))


def _path_beside_checkpoint(result: RunResult) -> Path:
    started = Path(result.checkpoint).stem.partition("-")[2] or time.strftime("%b-%d-%Y_%H-%M-%S")
    return Path(result.checkpoint).parent / f"{result.dataset}-{started}"


if __name__ == "__main__":
    sys.exit(main())
