"""The command line's words: options of a command, and settings as ``--key=value`` or ``--key value``."""

from __future__ import annotations

import argparse
import difflib
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.settings import PROPERTIES, list_valued_keys

#: settings whose values are lists, which may also be written as words separated by commas
_LISTS = {"benchmark_filename", "metrics", "topk", *list_valued_keys()}
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


def command_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """A parser with the option of every command, ``--json``; arguments as for ``bare_parser``."""
    parser = bare_parser(prog, description)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object in the last line")
    return parser


def settings_text() -> str:
    """Every setting with its values, default and meaning, as ``make settings`` has written it."""
    return (PROPERTIES / "settings.txt").read_text("utf-8").rstrip()


def data_set_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options of every command that reads a data set; ``--help`` lists the settings, too.

    Args:
        prog: as for ``command_parser``.
        description: as for ``command_parser``.
    """
    parser = command_parser(prog, textwrap.fill(description, 80))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = settings_text()
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
    """Settings by name from words of the form ``--key=value``, or ``--key`` and ``value``.

    Raises:
        SettingsError: a word has another form, or a setting is given twice with different values.
    """
    settings: dict[str, str] = {}
    for word in _joined(words):
        key, separator, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not separator or not key:
            raise SettingsError(f"command line: {word!r} is not understood; settings are written --key=value")
        value = _as_list(value) if key in _LISTS else value
        if settings.get(key, value) != value:
            raise SettingsError(f"command line: --{key} is given twice, as {settings[key]!r} and as {value!r}")
        settings[key] = value
    return {key: None if value == "~" else value for key, value in settings.items()}  # ~ as in YAML


def _joined(words: Sequence[str]) -> list[str]:
    """The words with ``--key`` and ``value`` as one word."""
    joined: list[str] = []
    for word in words:
        has_key_before = joined and joined[-1].startswith("--") and "=" not in joined[-1]
        if has_key_before and not word.startswith("--"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _as_list(value: str) -> str:
    """A list as YAML and Python write it, from words separated by commas."""
    if value in ("~", "None") or value.startswith(("[", "(")):
        return value
    return repr([int(word) if word.isdecimal() else word for word in map(str.strip, value.split(","))])


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
