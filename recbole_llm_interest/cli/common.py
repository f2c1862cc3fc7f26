"""What the commands share: settings as ``--key=value``, errors in one line, exit codes, SIGTERM as an interrupt."""

from __future__ import annotations

import argparse
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from recbole_llm_interest.errors import LLMInterestError, SettingsError, Terminated
from recbole_llm_interest.settings.rendering import settings_help

#: beginning of ``sys.argv[0]`` where the console script runs the command
_CONSOLE_SCRIPT = "llm-interest "


class _Parser(argparse.ArgumentParser):
    """A parser that reports a mistake as a ``SettingsError``: one line, no usage."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"command line: {message}; --help lists the options")


def bare_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """A parser without options.

    Args:
        prog: how the command is called; the console script's name for it replaces this where that runs.
        description: what the command does, for ``--help``.
    """
    called = str(sys.argv[0])  # None for modules of former names, which have no file
    shown = called if called.startswith(_CONSOLE_SCRIPT) else prog
    return _Parser(prog=shown, description=description, allow_abbrev=False)


def settings_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options of every command that reads a data set; ``--help`` lists the settings, too.

    Args:
        prog: as for ``bare_parser``.
        description: as for ``bare_parser``.
    """
    parser = bare_parser(prog, textwrap.fill(description, 80))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = settings_help()
    parser.add_argument("--dataset", "-d", help="name of the data set, a folder in data_path [ml-100k]")
    parser.add_argument(
        "--config_files",
        help="YAML files, separated by spaces; the last one takes precedence. They may set model and dataset, too",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refused or missing data is an error: --strict_data=True --strict_content=True",
    )
    return parser


def parse_arguments(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None
) -> tuple[argparse.Namespace, dict[str, str | None]]:
    """Parse a command's options, and any setting given as ``--key=value``.

    ``--config_files`` becomes a list, ``--strict`` the settings ``strict_data`` and ``strict_content``.

    Args:
        parser: of the options that are not settings.
        arguments: the words; None for those of the process. Either way ``sys.argv`` loses its arguments: RecBole would
            parse them again and ignore what it does not know.

    Returns:
        The options, and the settings by name; None for a value of ``~``.

    Raises:
        SettingsError: a word is not ``--key=value``, a setting is given twice with different values, or an option is
            missing or has an invalid value.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    sys.argv = sys.argv[:1]
    options, words = parser.parse_known_args(arguments)
    if "config_files" in options:
        options.config_files = options.config_files.split() if options.config_files else []
    settings = _parse_settings(words)
    if "strict" in options and options.strict:
        settings |= {"strict_data": "True", "strict_content": "True"}
    return options, settings


def _parse_settings(words: Sequence[str]) -> dict[str, str | None]:
    """Settings by name from words of the form ``--key=value``.

    Raises:
        SettingsError: a word has another form, or a setting is given twice with different values.
    """
    settings: dict[str, str] = {}
    for word in words:
        key, separator, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not separator or not key:
            raise SettingsError(f"command line: {word!r} is not understood; settings are written --key=value")
        if settings.get(key, value) != value:
            raise SettingsError(f"command line: --{key} is given twice, as {settings[key]!r} and as {value!r}")
        settings[key] = value
    return {key: None if value == "~" else value for key, value in settings.items()}  # ~ as in YAML


def exit_code(job: Callable[[], object], kept: str) -> int:
    """Run a command's job; report an error or an interrupt in one line.

    Args:
        job: the command's work.
        kept: what is kept after an interrupt. The line also has the notes of the ``KeyboardInterrupt``.

    Returns:
        0 on success, 2 for an ``LLMInterestError``, 130 after SIGINT, 143 after SIGTERM.
    """
    try:
        with _sigterm_as_interrupt():
            job()
    except LLMInterestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        is_terminated = isinstance(interrupt, Terminated)
        notes = "; ".join([*getattr(interrupt, "__notes__", []), kept])
        print(f"\n{'terminated' if is_terminated else 'interrupted'}: {notes}", file=sys.stderr)
        return 128 + (signal.SIGTERM if is_terminated else signal.SIGINT)
    return 0


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Raise ``Terminated``, a ``KeyboardInterrupt``, on SIGTERM, which schedulers send to end a job."""

    def terminate(*_: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # signal handlers are the main thread's
        yield
        return
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
