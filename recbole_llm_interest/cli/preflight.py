"""What is wrong with a command line, as far as that can be known without RecBole and torch: it is said at once."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_llm_interest.cli.arguments import parse_arguments
from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.cli.parsers import PARSERS
from recbole_llm_interest.io.config_files import models_and_dataset, read_config_files
from recbole_llm_interest.io.opening import is_folder
from recbole_llm_interest.settings import (
    ALL_SETTINGS,
    BASELINE_SETTINGS,
    check_given_keys,
    check_keys,
    check_model,
    data_set_error,
    read_settings,
)

#: commands that take no settings
_WITHOUT_SETTINGS = {"doctor", "migrate", "settings"}
#: the data set that comes with RecBole
_INCLUDED = "ml-100k"


def preflight(name: str, words: Sequence[str]) -> int:
    """Print the help of a command, or what is wrong with its words.

    Args:
        name: of the command.
        words: its options and settings.

    Returns:
        The exit code: 0, 2 for a mistake, 130 when interrupted.

    Raises:
        SystemExit: the help was printed.
    """
    return exit_code(lambda: _check(name, words), kept="nothing was started")


def _check(name: str, words: Sequence[str]) -> None:
    if name not in PARSERS:  # the command itself is as quick
        return
    parser = PARSERS[name]()
    if name in _WITHOUT_SETTINGS:
        parser.parse_args(words)
        return
    options, overrides = parse_arguments(parser, words)
    if "config_files" not in options:
        check_keys(overrides)
        return
    _check_settings(options, overrides)


def _check_settings(options: argparse.Namespace, overrides: dict[str, str | None]) -> None:
    given = {**read_config_files(options.config_files), **{key: _value(text) for key, text in overrides.items()}}
    check_given_keys(given)
    if getattr(options, "rows", None):
        return  # rows have models and settings of their own
    names = options.model.split(",") if getattr(options, "model", None) else []
    models, dataset = models_and_dataset(names, options.dataset, options.config_files, overrides)
    for model in models:
        check_model(model)
    groups = dict.fromkeys([*ALL_SETTINGS, *(group for model in models for group in BASELINE_SETTINGS.get(model, ()))])
    for group in groups:
        read_settings(group, given)
    _check_data_set(dataset, given)


def _check_data_set(dataset: str, given: Mapping[str, Any]) -> None:
    path = given.get("data_path")
    if path is None and dataset == _INCLUDED:
        return
    folder = Path(str(path or "dataset")) / dataset
    if not is_folder(folder):
        raise data_set_error(dataset, folder)


def _value(text: str | None) -> Any:
    """The value of a setting's text, as RecBole reads it."""
    if text is None:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {"true": True, "false": False}.get(text.lower(), text)
