"""What the commands share: settings as ``--key=value``, output, errors in one line, exit codes, SIGTERM."""

from __future__ import annotations

import argparse
import difflib
import logging
import signal
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO

from recbole_llm_interest.errors import LLMInterestError, SettingsError, Terminated
from recbole_llm_interest.io.escaping import LogFormatter, one_line, several_lines
from recbole_llm_interest.settings.rendering import settings_help

#: beginning of ``sys.argv[0]`` where the console script runs the command
_CONSOLE_SCRIPT = "llm-interest "


class _Parser(argparse.ArgumentParser):
    """A parser that reports a mistake as a ``SettingsError``: one line, no usage. All words have to be UTF-8."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = sys.argv[1:] if args is None else args
        for word in words:
            if any("\ud800" <= character <= "\udfff" for character in word):  # Python's escapes of invalid bytes
                raise SettingsError(f"command line: {word!r} is not UTF-8: write it in UTF-8")
            if word.startswith("-") and word.endswith("=--"):  # argparse would return an empty list
                raise SettingsError(f"command line: {word!r} has no value")
        return super().parse_known_args(words, namespace)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._suggestion(unknown[0])}")
        return options

    def _suggestion(self, word: str) -> str:
        nearest = difflib.get_close_matches(word.partition("=")[0], self._option_string_actions, n=1, cutoff=0.7)
        return f"; did you mean {nearest[0]}?" if nearest and word.startswith("-") else ""

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


def file_option(option: str, value: str) -> Path:
    """Return the path of a file that an option names.

    Args:
        option: name of the option.
        value: the path.

    Raises:
        SettingsError: it is empty, ends with a slash, ``.`` or ``..``, or is a folder.
    """
    path = Path(value)
    try:
        is_folder = value.rpartition("/")[2] in ("", ".", "..") or path.is_dir()
    except OSError as error:  # such as a name of more than 255 bytes
        raise SettingsError(f"command line: --{option}={value}: {error.strerror}") from error
    if is_folder:
        raise SettingsError(f"command line: --{option}={value} is a folder, or empty: name a file")
    return path


def show(text: object, stream: TextIO | None = None) -> None:
    """Print text with control characters escaped. Commands print only by this function.

    Args:
        text: of several lines. What comes from files and should not begin a line has been through ``one_line``.
        stream: standard output if None.
    """
    stream = sys.stdout if stream is None else stream
    encoding = stream.encoding or "utf-8"
    print(several_lines(text).encode(encoding, "backslashreplace").decode(encoding), file=stream)


def exit_code(job: Callable[[], object], kept: str) -> int:
    """Run a command's job; report an error or an interrupt in one line.

    Args:
        job: the command's work.
        kept: what is kept after an interrupt. The line also has the notes of the ``KeyboardInterrupt``.

    Returns:
        0 on success, 2 for an ``LLMInterestError`` or a file that cannot be used, 130 after SIGINT, 143 after SIGTERM.
    """
    try:
        with _sigterm_as_interrupt(), _escaped_warnings():
            job()
    except LLMInterestError as error:
        show(f"error: {one_line(error)}", sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:  # such as a closed pipe
            raise
        show(f"error: {one_line(f'{error.filename}: {error.strerror}')}", sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        is_terminated = isinstance(interrupt, Terminated)
        notes = "; ".join([*getattr(interrupt, "__notes__", []), kept])
        show(f"\n{'terminated' if is_terminated else 'interrupted'}: {one_line(notes)}", sys.stderr)
        return 128 + (signal.SIGTERM if is_terminated else signal.SIGINT)
    return 0


@contextmanager
def _escaped_warnings() -> Iterator[None]:
    """Escape the messages of warnings, and those of logs where nothing else is set up to show them."""
    format_warning, last_resort = warnings.formatwarning, logging.lastResort

    def format_escaped(message: Warning | str, *place: Any) -> str:
        return format_warning(one_line(message), *place)

    warnings.formatwarning = format_escaped  # type: ignore[assignment]
    if last_resort is not None:
        last_resort.setFormatter(LogFormatter(logging.Formatter()))
    try:
        yield
    finally:
        warnings.formatwarning = format_warning
        if last_resort is not None:
            last_resort.setFormatter(None)


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
