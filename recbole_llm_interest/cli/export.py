"""``llm-interest export``: a trained model as a folder for the Hugging Face Hub, and as programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tabulate import tabulate

from recbole_llm_interest.cli.arguments import parse_arguments
from recbole_llm_interest.cli.common import exit_code, show, show_json
from recbole_llm_interest.cli.model_checks import check_export
from recbole_llm_interest.cli.parsers import export_parser
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.evaluation.results import RunResult, read_results
from recbole_llm_interest.export.saving import DESCRIPTION, Written, write_programs
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.io.folders import replace_files
from recbole_llm_interest.recommender.loading import checkpoint_in_use, load_opened
from recbole_llm_interest.recommender.pretrained_writing import model_files, write_parts
from recbole_llm_interest.recommender.trained import Trained

_PROGRAMS = "programs"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = export_parser()

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        check_export(options, overrides)
        checkpoint, folder = Path(options.checkpoint), Path(options.output)
        result = _find_result(checkpoint, options.table)
        settings = {"use_gpu": False, **overrides}  # programs are exported for the CPU
        with checkpoint_in_use(checkpoint, settings) as opened:
            programs, files = _write(load_opened(opened), folder, result, options)
        if result is None:
            show("the card has no test result: give the comparison's JSON file by --table", sys.stderr)
        if options.json:
            show_json({"model": folder, "files": files, "programs": [*map(asdict, programs)]})
            return
        _print(programs, files, folder)

    return exit_code(job, kept="all files are those of before, or all are the new ones")


def _print(programs: Sequence[Written], files: Sequence[Path], folder: Path) -> None:
    show(_table(programs))
    size = sum(file.stat().st_size for file in files) / 2**20
    shown = one_line(folder)
    show(f"\nmodel: {shown} ({size:.1f} MB), card: {shown}/README.md | programs: {shown}/{_PROGRAMS}")


def _write(
    trained: Trained, folder: Path, result: RunResult | None, options: argparse.Namespace
) -> tuple[list[Written], list[Path]]:
    """Write the model's files and its programs, which replace former ones all at once."""
    targets = ["torch", "onnx"] if options.onnx else ["torch"]
    parts = model_files(trained, result, options.license)
    files = [folder / name for name in parts]
    trained.record("export", files)
    with replace_files(folder) as new:
        written = write_programs(trained.model, trained.max_length, new / _PROGRAMS, k=options.k, targets=targets)
        write_parts(parts, new)
        programs = [replace(one, file=folder / _PROGRAMS / one.file.name) for one in written]
        trained.record("export", [*(one.file for one in programs), folder / _PROGRAMS / DESCRIPTION])
    return programs, files


def _find_result(checkpoint: Path, table: str | None) -> RunResult | None:
    """The run that wrote the checkpoint, from the table that was given or from any beside the checkpoint.

    Raises:
        DataError: the table that was given cannot be read, or has no such run.
    """
    if table is not None:
        result = _run_of(checkpoint, Path(table))
        if result is None:
            raise DataError(f"{table} has no run that wrote {checkpoint.name}")
        return result
    for path in sorted(checkpoint.parent.glob("*.json")):
        try:
            result = _run_of(checkpoint, path)
        except DataError:  # a JSON file of another kind
            continue
        if result is not None:
            return result
    return None


def _run_of(checkpoint: Path, table: Path) -> RunResult | None:
    runs = read_results(table)
    return next((run for run in runs if Path(run.checkpoint).name == checkpoint.name), None)


def _table(programs: Sequence[Written]) -> str:
    rows = [
        [
            written.program,
            written.file.suffix,
            f"{written.file.stat().st_size / 2**20:.1f}",
            f"{written.difference:.1e}",
        ]
        for written in programs
    ]
    header = ["program", "format", "MB", "largest difference from the model"]
    return tabulate(rows, header, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    sys.exit(main())
