"""``llm-interest forget``: deletes users or items from everything that is stored about a data set."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from recbole_llm_interest.cli.arguments import parse_arguments
from recbole_llm_interest.cli.common import exit_code, show, show_json
from recbole_llm_interest.cli.early_checks import check_erasure
from recbole_llm_interest.cli.parsers import forget_parser
from recbole_llm_interest.erasure import Erasure, erase
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.training.config import configure

#: exit code if a file is left
LEFT = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Returns:
        The exit code: 0 if no file is left, 3 if one is, 2 for a mistake, 130 when interrupted, 143 when
        terminated.
    """
    parser = forget_parser()
    erasures: list[Erasure] = []

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        check_erasure(options, overrides)
        config = configure("LLMInterest", options.dataset, options.config_files, overrides)
        flags = {"checkpoints": options.checkpoints, "results": options.results}
        erasures.append(erase(config, options.user, options.item, **flags))
        if options.json:
            show_json(_as_dict(erasures[0]))
        else:
            _print(erasures[0])

    code = exit_code(job, kept="each file is complete, either rewritten or unchanged; the same command continues")
    return code or (LEFT if any(erasure.left for erasure in erasures) else 0)


def _as_dict(erasure: Erasure) -> dict[str, Any]:
    return {
        "rewritten": erasure.rewritten,
        "deleted": erasure.deleted,
        "left": [{"file": path, "reason": why} for path, why in erasure.left.items()],
        "unknown": erasure.unknown,
    }


def _print(erasure: Erasure) -> None:
    for unknown in erasure.unknown:
        show(f"unknown: {one_line(unknown)}")
    for action, paths in (("rewritten", erasure.rewritten), ("deleted", erasure.deleted)):
        for path in paths:
            show(f"{action}: {one_line(path)}")
    for path, why in erasure.left.items():
        show(f"left: {one_line(path)}: {one_line(why)}")
    if not (erasure.rewritten or erasure.deleted or erasure.left):
        show("nothing is stored about them")


if __name__ == "__main__":
    sys.exit(main())
