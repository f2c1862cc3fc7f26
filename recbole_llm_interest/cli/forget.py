"""``llm-interest forget``: deletes users or items from everything that is stored about a data set."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from recbole_llm_interest.cli.common import exit_code, parse_arguments, settings_parser, show
from recbole_llm_interest.erasure import Erasure, erase
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.training.config import configure

_DESCRIPTION = """
Delete users or items from the data set's files, including images and audio, and from everything that was made from it:
encoded features, saved data sets, user states, reports, texts of exported models and logs. Each file that is left is
listed with the reason and what to do, such as trained models without --checkpoints. After an interrupt, the same
command continues.
"""
#: exit code if a file is left
LEFT = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Returns:
        The exit code: 0 if no file is left, 3 if one is, 2 for a mistake, 130 when interrupted, 143 when
        terminated.
    """
    parser = settings_parser("python -m recbole_llm_interest.forget", _DESCRIPTION)
    parser.add_argument("--user", action="append", default=[], help="id of a user; may be given several times")
    parser.add_argument("--item", action="append", default=[], help="id of an item; may be given several times")
    parser.add_argument("--checkpoints", action="store_true", help="delete models trained on the data set, too")
    parser.add_argument("--results", action="store_true", help="delete tables, results of tuning and reports, too")
    erasures: list[Erasure] = []

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        if not options.user and not options.item:
            raise SettingsError("command line: nothing to forget: give --user or --item")
        for option in ("user", "item"):
            if "" in getattr(options, option):
                raise SettingsError(f"command line: --{option} is empty: give an id")
        config = configure("LLMInterest", options.dataset, options.config_files, overrides)
        flags = {"checkpoints": options.checkpoints, "results": options.results}
        erasures.append(erase(config, options.user, options.item, **flags))
        _print(erasures[0])

    code = exit_code(job, kept="each file is complete, either rewritten or unchanged; the same command continues")
    return code or (LEFT if any(erasure.left for erasure in erasures) else 0)


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
