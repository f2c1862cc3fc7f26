"""What the package's commands share: settings as ``--key=value``, one line for a mistake, exit codes."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from recbole_llm_interest.errors import LLMInterestError, SettingsError, Terminated


class _Parser(argparse.ArgumentParser):
    """One that says what is wrong in one line, as everything here does."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"command line: {message}; --help names the options")


def bare_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """A parser of no options yet."""
    return _Parser(prog=prog, description=description, allow_abbrev=False)


def settings_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """A parser of what every command on a data set takes; the command adds its own options."""
    parser = bare_parser(prog, description)
    parser.add_argument("--dataset", "-d", default="ml-100k", help="name of the data set, a folder below data_path")
    parser.add_argument("--config_files", help="YAML files, separated by spaces; a later one goes before an earlier")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="what is refused or missing is an error: --strict_data=True --strict_content=True",
    )
    return parser


def parse_arguments(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None
) -> tuple[argparse.Namespace, dict[str, str | None]]:
    """The parser's options, and any setting as ``--key=value``; ``--key=~`` for none. ``config_files`` becomes a list.

    ``--strict`` becomes the settings ``strict_data`` and ``strict_content``.

    Args:
        parser: of the options that are no settings.
        arguments: the words; None for those of the process. ``sys.argv`` is emptied in either case: RecBole would
            read it once more, and pass over what it cannot parse.

    Raises:
        SettingsError: a word is not of that form (RecBole would ignore it), a setting comes twice, or an option is
            missing or has no such value.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    sys.argv = sys.argv[:1]
    options, rest = parser.parse_known_args(arguments)
    if "config_files" in options:
        options.config_files = options.config_files.split() if options.config_files else []
    overrides: dict[str, str] = {}
    for word in rest:
        key, separator, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not separator or not key:
            raise SettingsError(f"command line: {word!r} is not understood; settings are written --key=value")
        if overrides.get(key, value) != value:
            raise SettingsError(f"command line: --{key} comes twice, as {overrides[key]!r} and as {value!r}")
        overrides[key] = value
    if "strict" in options and options.strict:
        overrides |= {"strict_data": "True", "strict_content": "True"}
    # as in YAML, and in the README's table of settings
    return options, {key: None if value == "~" else value for key, value in overrides.items()}


def exit_code(job: Callable[[], object], kept: str) -> int:
    """Do ``job``; 0 if it ends well, 2 for a mistake of the user's, 130 when interrupted, 143 when terminated.

    Args:
        job: the command's work.
        kept: what an interrupted job leaves, for the closing line, behind the notes of the interrupt.
    """
    try:
        with _terminated_in_order():
            job()
    except LLMInterestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        is_terminated = isinstance(interrupt, Terminated)
        said = "; ".join([*getattr(interrupt, "__notes__", []), kept])
        print(f"\n{'terminated' if is_terminated else 'interrupted'}: {said}", file=sys.stderr)
        return 128 + (signal.SIGTERM if is_terminated else signal.SIGINT)
    return 0


@contextmanager
def _terminated_in_order() -> Iterator[None]:
    """Let SIGTERM, by which machines and schedulers end a job, end what is within as an interrupt does."""

    def end(*_: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # where Python takes no signals
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
