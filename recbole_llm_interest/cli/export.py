"""``python -m recbole_llm_interest.export --checkpoint=…``: a trained model as a folder, and as programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from recbole_llm_interest.cli.common import bare_parser, exit_code, parse_arguments
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.evaluation.results import RunResult, read_results
from recbole_llm_interest.export.saving import Written, write_programs
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.recommender.loading import load_trained

_DESCRIPTION = """Write a trained model to a folder in the Hub's conventions, with its card, and programs of it that
need no encoder and no Python. Any setting that is otherwise than in training, as data_path: --key=value.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake of the user's, 130 when interrupted."""
    parser = _parser()

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        checkpoint, folder = Path(options.checkpoint), Path(options.output)
        if folder.exists() and not folder.is_dir():
            raise SettingsError(f"command line: --output={folder} is a file: name a folder")
        result = _result(checkpoint, options.table)
        trained = load_trained(checkpoint, {"use_gpu": False, **overrides})  # programs are of the CPU
        programs = write_programs(
            trained.model, trained.max_length, folder / "programs", k=options.k, onnx=options.onnx
        )
        files = Recommender(trained).save_pretrained(folder, result=result, license=options.license)
        if result is None:
            print("the card has no test result: name the comparison's JSON file by --table", file=sys.stderr)
        print(_as_text(programs))
        size = sum(file.stat().st_size for file in files) / 2**20
        print(f"\nmodel: {folder} ({size:.1f} MB), card: {folder / 'README.md'} | programs: {folder / 'programs'}")

    return exit_code(job, kept="each file is whole, the one before or the new one; the same command writes them all")


def _parser() -> argparse.ArgumentParser:
    parser = bare_parser("python -m recbole_llm_interest.export", _DESCRIPTION)
    parser.add_argument("--checkpoint", required=True, help="of LLMInterest, as run_recbole.py writes them")
    parser.add_argument("--output", required=True, help="folder that is written")
    parser.add_argument("--onnx", action="store_true", help="programs for ONNX, too")
    parser.add_argument("--k", type=int, help="programs give the best so many items [scores of all]")
    parser.add_argument("--table", help="JSON file of the run, for the card [the one beside the checkpoint]")
    parser.add_argument("--license", default="unknown", help="of the model, by the Hub's word for it [unknown]")
    return parser


def _result(checkpoint: Path, table: str | None) -> RunResult | None:
    """The run that trained the model, by the comparison that was named, or that lies beside it."""
    tables = [Path(table)] if table is not None else sorted(checkpoint.parent.glob("*.json"))
    for path in tables:
        try:
            results = read_results(path)
        except DataError:
            if table is not None:
                raise
            continue  # some other file of JSON
        for result in results:
            if Path(result.checkpoint).name == checkpoint.name:
                return result
    if table is not None:
        raise DataError(f"{table} has no run that wrote {checkpoint.name}")
    return None


def _as_text(programs: Sequence[Written]) -> str:
    rows = [
        [it.program, it.file.suffix, f"{it.file.stat().st_size / 2**20:.1f}", f"{it.difference:.1e}"] for it in programs
    ]
    header = ["program", "format", "MB", "largest difference from the model"]
    return tabulate(rows, header, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    sys.exit(main())
