"""``llm-interest join``: makes one data set of several."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from recbole_llm_interest import conversion
from recbole_llm_interest.cli.arguments import command_parser
from recbole_llm_interest.cli.common import exit_code, show, show_json

_DESCRIPTION = """
Write one data set with the events and the content of several: to train a model on all of them, or to replay the events
of one while those of another are learned.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = _parser()

    def job() -> None:
        options = parser.parse_args(arguments)
        made = conversion.join_data_sets(
            options.datasets, options.name, data_path=options.data_path, output=options.output, ids=options.ids
        )
        if options.json:
            show_json(made.as_dict())
        else:
            show(made)

    return exit_code(job, kept="nothing was written")


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("python -m recbole_llm_interest.cli.join", _DESCRIPTION)
    parser.add_argument(
        "datasets",
        nargs="+",
        metavar="dataset",
        help="names of two data sets or more; of those elsewhere, their folders",
    )
    parser.add_argument("--name", required=True, help="of the new data set")
    parser.add_argument(
        "--data_path", default="data", metavar="FOLDER", help="holds the folders of the data sets [data]"
    )
    parser.add_argument("--output", default="data", metavar="FOLDER", help="where the new folder is made [data]")
    parser.add_argument(
        "--ids",
        default="unique",
        choices=conversion.ID_MODES,
        help="whether no user or item is in two data sets, the same id means the same in all, or each id gets the name "
        "of its data set in front [unique]",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
