"""``llm-interest convert``: makes a data set of tables of events, items and users."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from recbole_llm_interest import conversion
from recbole_llm_interest.cli.arguments import command_parser
from recbole_llm_interest.cli.common import exit_code, show, show_json
from recbole_llm_interest.errors import LLMInterestError

_DESCRIPTION = """
Make a data set of a table of events: CSV, TSV, JSON lines (each also as .gz), Parquet, or a folder that save_to_disk of
Hugging Face has written. Columns and times are recognised, and the output says as what. Nothing is downloaded, and the
tables are not changed.
"""
_OPTION = re.compile(rf"(?<![\w-])({'|'.join(['name', *conversion.Options.__annotations__])})=")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = _parser()

    def job() -> None:
        options = vars(parser.parse_args(_with_values(sys.argv[1:] if arguments is None else arguments)))
        as_json = options.pop("json")
        tables = [options.pop(name) for name in ("events", "items", "users")]
        try:
            made = conversion.from_pandas(*tables, data_path=options.pop("output"), **options)
        except LLMInterestError as error:
            raise type(error)(_with_dashes(str(error))) from error
        if as_json:
            show_json(made.as_dict())
        else:
            show(made)

    return exit_code(job, kept="nothing was written, or a data set that was there is unchanged")


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("python -m recbole_llm_interest.cli.convert", _DESCRIPTION)
    parser.usage = "%(prog)s [-h] [--items FILE] [--users FILE] [--name NAME] [OPTION ...] events"
    parser.add_argument("events", help="table with one row an event: a user, an item, a time, and any other columns")
    parser.add_argument("--items", metavar="FILE", help="table with one row an item: its id, texts, paths of files")
    parser.add_argument("--users", metavar="FILE", help="the same of users")
    parser.add_argument("--encoding", default="utf-8", help="of text files [utf-8]")
    parser.add_argument(
        "--quoting",
        default=conversion.QUOTING[0],
        choices=conversion.QUOTING,
        help="none: quotes in CSV and TSV are characters, and enclose no cells [minimal]",
    )
    written = parser.add_argument_group("data set")
    written.add_argument("--name", help="of the data set [the name of the events' file]")
    written.add_argument("--output", default="data", metavar="FOLDER", help="where its folder is made [data]")
    written.add_argument("--overwrite", action="store_true", help="replace the files of a data set that exists")
    columns = parser.add_argument_group("columns, recognised if not given")
    columns.add_argument("--user", metavar="COLUMN", help="the users' in the table of events")
    columns.add_argument("--item", metavar="COLUMN", help="the items'")
    columns.add_argument("--time", metavar="COLUMN", help="the times'; without one, the order of the rows counts")
    columns.add_argument("--time_format", metavar="FORMAT", help="how times are written, such as %%d.%%m.%%Y")
    columns.add_argument("--items_id", metavar="COLUMN", help="the ids' in the table of items")
    columns.add_argument("--users_id", metavar="COLUMN", help="the ids' in the table of users")
    columns.add_argument("--drop", default=(), type=_names, metavar="COLUMNS", help="to leave out, with commas between")
    filters = parser.add_argument_group("filters, in this order")
    filters.add_argument(
        "--deduplicate",
        nargs="?",
        choices=conversion.DEDUPLICATIONS,
        help="remove events of the same user, item and time, or also an item that a user repeats at once [exact]",
    )
    filters.add_argument("--min_length", type=int, default=0, metavar="N", help="keep users with N events or more")
    filters.add_argument("--k_core", type=int, default=0, metavar="N", help="keep users and items with N events each")
    return parser


def _with_dashes(message: str) -> str:
    """Write the options in a message of ``from_pandas`` as those of the command line."""
    return _OPTION.sub(r"--\1=", message).replace("--overwrite=True", "--overwrite")


def _names(value: str) -> list[str]:
    return [name.strip() for name in value.split(",") if name.strip()]


def _with_values(words: Sequence[str]) -> list[str]:
    """Give ``--deduplicate`` its value, which may be left out: the next word is not its value if it is another one."""
    following = [*words[1:], ""][: len(words)]
    return [
        f"{word}={conversion.DEDUPLICATIONS[0]}"
        if word == "--deduplicate" and after not in conversion.DEDUPLICATIONS
        else word
        for word, after in zip(words, following, strict=True)
    ]


if __name__ == "__main__":
    sys.exit(main())
