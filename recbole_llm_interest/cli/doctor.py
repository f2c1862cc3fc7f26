"""``llm-interest doctor``: checks which encoders and file formats work on this machine, and how to add the others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict

from tabulate import tabulate

from recbole_llm_interest.cli.checks import Check, run_checks
from recbole_llm_interest.cli.common import exit_code, show, show_json
from recbole_llm_interest.cli.parsers import doctor_parser
from recbole_llm_interest.io.escaping import markdown_cell, one_line


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Returns the exit code: 0, 1 where something that the default settings need does not work, 2 for a mistake, 130 when
    interrupted, 143 when terminated.
    """
    parser = doctor_parser()
    checks: list[Check] = []

    def job() -> None:
        options = parser.parse_args(arguments)
        checks.extend(run_checks(options.imports))
        if options.json:
            broken = [check.name for check in checks if check.is_broken]
            show_json({"broken": broken, "checks": [{"mark": check.mark, **asdict(check)} for check in checks]})
            return
        works = "works here" if options.imports else "has all it needs here; --imports also imports each package"
        _print(checks, works)

    return exit_code(job, kept="nothing was changed") or int(any(check.is_broken for check in checks))


def _print(checks: Sequence[Check], result: str) -> None:
    rows = [(check.mark, markdown_cell(check.name), markdown_cell(check.state)) for check in checks]
    show(tabulate(rows, headers=("", "check", "state"), tablefmt="github", maxcolwidths=[None, None, 90]))
    for check in checks:
        if check.remedy:
            show(f"\n{check.name}: {one_line(check.remedy)}")
    broken = ", ".join(check.name for check in checks if check.is_broken)
    show(f"\n{f'broken: {broken}' if broken else f'the default text encoder {result}'}")


if __name__ == "__main__":
    sys.exit(main())
