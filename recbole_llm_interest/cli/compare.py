"""``llm-interest compare``: trains RecBole models under one protocol and compares them in one table.

``run_recbole.py`` and ``python -m recbole_llm_interest`` are the same command. All models get the same splits,
candidates and order of events. The table is rewritten after each run.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from recbole_llm_interest.cli.arguments import file_option, parse_arguments
from recbole_llm_interest.cli.common import exit_code, show, show_json
from recbole_llm_interest.cli.parsers import compare_parser
from recbole_llm_interest.evaluation.plot import draw_comparison
from recbole_llm_interest.evaluation.results import RunResult
from recbole_llm_interest.evaluation.table import as_table, table_path
from recbole_llm_interest.io.config_files import named_models, read_config_files
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.io.files import exclusive_lock
from recbole_llm_interest.io.variants import Variant, read_variants
from recbole_llm_interest.training.comparison import run
from recbole_llm_interest.training.result_table import ResultTable

_logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = compare_parser()
    table = ResultTable()
    as_json = False

    def job() -> None:
        nonlocal as_json
        options, overrides = parse_arguments(parser, arguments)
        as_json = options.json
        for option in ("resume", "checkpoint"):
            if (value := getattr(options, option)) is not None:
                file_option(option, value)
        if options.table is not None:
            table.path = table_path(file_option("table", options.table), ".json")
            file_option("table", str(table.path))
        with exclusive_lock(table.path, "give another --table") if table.path else nullcontext():
            _compare(options, overrides, table)

    code = exit_code(job, kept="encoded features and finished runs are kept")
    reported = exit_code(lambda: _report(table, as_json=as_json), kept="all runs are kept") if table.results else 0
    return code or reported


def _report(table: ResultTable, *, as_json: bool) -> None:
    """Draw a plot if there are several runs, and print the table and the paths of all files."""
    files = list(table.files)
    if table.files and len(table.results) > 1:
        files.append(draw_comparison(table.results, table.files[0]))
    if as_json:
        show_json({"runs": [*map(_as_dict, table.results)], "files": files})
    else:
        _print(table.results, files)


def _as_dict(result: RunResult) -> dict[str, Any]:
    """What a program wants to know of a run; the JSON file of the table has everything."""
    names = ("variant", "model", "dataset", "seed", "test", "valid_metric", "best_valid", "epochs", "checkpoint", "log")
    return {name: getattr(result, name) for name in names}


def _print(results: Sequence[RunResult], files: Sequence[Path]) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    show(f"\n{as_table(results, width=width)}")
    checkpoints = ", ".join(one_line(result.checkpoint) for result in results)
    logs = ", ".join(sorted({one_line(Path(result.log).parent) for result in results}))
    written = ", ".join(map(one_line, files)) or "not written"
    show(f"table: {written} | checkpoints: {checkpoints} | {_places(results, logs)}")


def _places(results: Sequence[RunResult], logs: str) -> str:
    """Say where the runs' logs are, and where their trackers show them."""
    places: dict[str, dict[str, None]] = {}  # dict: in their order, each once
    for result in results:
        for name, place in result.tracked.items():
            places.setdefault(name, {})[one_line(place)] = None
    logged = "logs and TensorBoard" if places.pop("tensorboard", None) else "logs"  # beside each other
    return " | ".join([f"{logged}: {logs}", *(f"{name}: {', '.join(found)}" for name, found in places.items())])


def _compare(options: argparse.Namespace, overrides: dict[str, Any], table: ResultTable) -> None:
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
        known=table.read(),
        on_result=table.write,
    )


def _variants(options: argparse.Namespace) -> list[str | Variant]:
    names = options.model.split(",") if options.model else []
    if not options.rows:
        return [*names]
    if not names and (named := named_models(read_config_files(options.config_files))):
        _logger.warning("model=%s in the config files has no effect: %s names models", ",".join(named), options.rows)
    return list(read_variants(Path(options.rows), names))


if __name__ == "__main__":
    sys.exit(main())
