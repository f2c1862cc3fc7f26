"""``llm-interest report``: an HTML report on a trained model and a comparison."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from recbole_llm_interest.cli.common import bare_parser, exit_code, parse_arguments, show
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.io.manifest import record_made_from, source_of
from recbole_llm_interest.recommender.loading import OpenedCheckpoint, checkpoint_in_use
from recbole_llm_interest.report.assembly import ModelOptions, assemble
from recbole_llm_interest.report.page import report_files, write_report
from recbole_llm_interest.report.statistics import MAX_DOTS, MapMethod

_DESCRIPTION = """
Write one HTML file that works offline, and its figures as PNG. A table gives the result in sentences, metrics of all
models, those of rare and frequent items, and training curves. A checkpoint gives modality weights, a map of the items,
and one user's recommendations, with reasons, and interest over time. Settings that differ from those of training, such
as data_path, are given as --key=value. The report names a user only with --user, and items' titles only with --titles;
otherwise it has the items' ids. The names of interests come from the texts of their items.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = _parser()

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        _check(options, overrides)
        checkpoint = _path(options.checkpoint)
        with checkpoint_in_use(checkpoint, overrides) if checkpoint else nullcontext() as opened:
            (page, *pictures), notes = _write(options, opened)
        for note in notes:
            show(note)
        show(f"report: {one_line(page)} | pictures: {', '.join(map(one_line, pictures))}")

    return exit_code(job, kept="no report was written, or the previous one is unchanged")


def _write(options: argparse.Namespace, opened: OpenedCheckpoint | None) -> tuple[list[Path], list[str]]:
    """Write the report; returns its files, and lines on letters that figures cannot show."""
    shown = ModelOptions(options.user, options.titles, options.category, options.events, options.map)
    report = assemble(opened, _path(options.table), shown)
    source = Path(options.checkpoint or options.table)
    folder = _path(options.output) or source.with_name(f"report-{source.stem}")
    dataset = report.facts["data set"]
    record_made_from(report.source or source_of(source, dataset), "report", report_files(folder, report.sections))
    return write_report(folder, f"Report on {dataset}", report)


def _parser() -> argparse.ArgumentParser:
    parser = bare_parser("python -m recbole_llm_interest.report", _DESCRIPTION)
    parser.add_argument("--checkpoint", help="of LLMInterest, as run_recbole.py writes them")
    parser.add_argument("--table", help="JSON file of a comparison on the same data set, as run_recbole.py writes them")
    parser.add_argument("--user", help="id of the user whose interest is drawn; the report then names this user")
    parser.add_argument("--titles", metavar="COLUMN", help="column of the items' file with their titles [ids]")
    parser.add_argument(
        "--category",
        metavar="COLUMN",
        help="column with the items' categories, for the map's colours; the first word of a list counts [interests]",
    )
    parser.add_argument("--events", type=int, default=30, help="number of the user's last events that are drawn [30]")
    parser.add_argument(
        "--map",
        choices=get_args(MapMethod),
        default="tsne",
        help=f"how the map of at most {MAX_DOTS:,} items is computed; umap needs umap-learn, pca is the fastest [tsne]",
    )
    parser.add_argument("--output", help="folder of the report [report-… beside the checkpoint or table]")
    return parser


def _check(options: argparse.Namespace, overrides: dict[str, Any]) -> None:
    """Refuse options that contradict each other.

    Raises:
        SettingsError: there is neither a checkpoint nor a table, an option needs a model, there are too few events, or
            a package is missing.
    """
    if not options.checkpoint and not options.table:
        raise SettingsError("command line: there is nothing to show: give --checkpoint, --table, or both")
    if not options.checkpoint:
        given = [name for name in ("user", "titles", "category") if getattr(options, name)] + list(overrides)
        if given:
            raise SettingsError(f"command line: --{given[0]} needs a model: give --checkpoint too")
    if options.map == "umap" and find_spec("umap") is None:
        raise SettingsError(
            "command line: --map=umap needs a package that is not installed: pip install umap-learn, or leave out --map"
        )
    if options.events < 2:
        raise SettingsError(f"command line: --events={options.events}: give 2 or more, for a change to be visible")


def _path(value: str | None) -> Path | None:
    return Path(value) if value else None


if __name__ == "__main__":
    sys.exit(main())
