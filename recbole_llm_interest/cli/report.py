"""``llm-interest report``: an HTML report on a trained model and a comparison."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from recbole_llm_interest.cli.arguments import parse_arguments
from recbole_llm_interest.cli.common import exit_code, show, show_json
from recbole_llm_interest.cli.model_checks import check_report
from recbole_llm_interest.cli.parsers import report_parser
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
        check_report(options, overrides)
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
    report = assemble(opened, _path(options.table), shown, _path(options.stream))
    source = Path(options.checkpoint or options.table)
    folder = _path(options.output) or source.with_name(f"report-{source.stem}")
    dataset = report.facts["data set"]
    record_made_from(report.source or source_of(source, dataset), "report", report_files(folder, report.sections))
    return write_report(folder, f"Report on {dataset}", report)


def _path(value: str | None) -> Path | None:
    return Path(value) if value else None


if __name__ == "__main__":
    sys.exit(main())
