"""``llm-interest forget``: deletes users or items from everything that is stored about a data set."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from recbole_llm_interest.cli.common import exit_code, parse_arguments, settings_parser, show
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.training.config import configure
from recbole_llm_interest.training.erasure import Erasure, erase

_DESCRIPTION = """
Delete users or items from the data set's files, with images and audio, from encoded features, RecBole's saved data sets
and logs. Trained models are listed, or deleted with --checkpoints. After an interrupt, the same command continues.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = settings_parser("python -m recbole_llm_interest.forget", _DESCRIPTION)
    parser.add_argument("--user", action="append", default=[], help="id of a user; may be given several times")
    parser.add_argument("--item", action="append", default=[], help="id of an item; may be given several times")
    parser.add_argument("--checkpoints", action="store_true", help="delete the data set's trained models, too")

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        if not options.user and not options.item:
            raise SettingsError("command line: nothing to forget: give --user or --item")
        config = configure("LLMInterest", options.dataset, options.config_files, overrides)
        for kind, tokens in (("user", options.user), ("item", options.item)):
            if tokens:
                _print(erase(config, kind, tokens, checkpoints=options.checkpoints))

    return exit_code(job, kept="each file is complete, with or without them; the same command continues from there")


def _print(erasure: Erasure) -> None:
    for action, paths in (("rewritten", erasure.rewritten), ("deleted", erasure.deleted)):
        show(f"{action}: {', '.join(map(one_line, paths)) or 'nothing'}")
    for path, advice in erasure.remaining.items():
        show(f"left: {one_line(path)} {one_line(advice)}")


if __name__ == "__main__":
    sys.exit(main())
