"""``llm-interest report``: an HTML report on a trained model and a comparison."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recbole_llm_interest.cli.arguments import parse_arguments
from recbole_llm_interest.cli.common import exit_code, show, show_json
from recbole_llm_interest.cli.parsers import report_parser
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.io.manifest import record_made_from, source_of
from recbole_llm_interest.recommender.loading import OpenedCheckpoint, checkpoint_in_use
from recbole_llm_interest.report.assembly import ModelOptions, assemble
from recbole_llm_interest.report.page import report_files, write_report


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = report_parser()

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        _check(options, overrides)
        checkpoint = _path(options.checkpoint)
        with checkpoint_in_use(checkpoint, overrides) if checkpoint else nullcontext() as opened:
            (page, *pictures), notes = _write(options, opened)
        if options.json:
            show_json({"report": page, "pictures": pictures, "notes": notes})
            return
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
