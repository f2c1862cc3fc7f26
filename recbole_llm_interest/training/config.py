"""RecBole's configuration of a run, from files and overrides, checked before data is read."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import recbole
from recbole.config import Config
from recbole.evaluator import register

from recbole_llm_interest.content.data_set_check import check_data_set
from recbole_llm_interest.content.run_settings import read_given_settings
from recbole_llm_interest.data.evaluation_loader import check_seen_items, has_both_candidates
from recbole_llm_interest.data.time_split import check_time_split
from recbole_llm_interest.errors import SettingsError, TrainingError, is_out_of_memory
from recbole_llm_interest.evaluation.collector import FILTERED
from recbole_llm_interest.io.config_files import models_and_dataset
from recbole_llm_interest.io.files import is_write_error, storage_error
from recbole_llm_interest.settings import (
    ALL_SETTINGS,
    BASELINE_SETTINGS,
    PROPERTIES,
    check_given_keys,
    check_model,
    check_recbole_values,
    read_settings,
)
from recbole_llm_interest.settings.listed_names import check_metrics

#: exceptions that RecBole raises for settings and data that it cannot use
RECBOLE_ERRORS = (
    *(ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError),
    *(NotImplementedError, RuntimeError, SyntaxError, ImportError, OSError),
)

#: what integers of torch can be
_INTEGERS = range(-(2**63), 2**63)


def configure(
    model: str | None = None,
    dataset: str | None = None,
    files: Sequence[str] = (),
    overrides: dict[str, Any] | None = None,
) -> Config:
    """Return RecBole's configuration of a model under the protocol that all models share, checked.

    Args:
        model: name of the model; None for the one that ``overrides`` or ``files`` name.
        dataset: name of the data set; None likewise.
        files: YAML files; a later one takes precedence.
        overrides: settings that take precedence over the files.

    Raises:
        LLMInterestError: a setting is unknown or out of range, several models are named, or the data set does not
            exist.
    """
    overrides = dict(overrides or {})
    models, dataset = models_and_dataset([model] if model else [], dataset, files, overrides)
    if len(models) > 1:
        raise SettingsError(f"model={','.join(models)}: only a comparison takes several models: name one")
    check_model(models[0])
    _check_given(read_given_settings(files, overrides))
    protocol = str(PROPERTIES / "protocol.yaml")
    with as_user_error("the settings"):
        config = Config(models[0], dataset, [protocol, *files], overrides)
    for key in ("model", "dataset"):  # what files name: other models of a comparison, or another data set
        config.external_config_dict.pop(key, None)
    _check_values(config)
    with as_user_error("the settings"):  # RecBole's own may have values of any type
        check_data_set(config)
        _check_valid_metric(config)
    check_time_split(config)
    check_seen_items(config)
    for settings in (*ALL_SETTINGS, *BASELINE_SETTINGS.get(config["model"], ())):
        read_settings(settings, config)
    return config


def comes_with_recbole(config: Config) -> bool:
    """Whether a data set is part of RecBole's installation, which reads it from there alone."""
    return Path(config["data_path"]).resolve().is_relative_to(Path(recbole.__file__).resolve().parent)


@contextmanager
def empty_command_line() -> Iterator[None]:
    """Hide the process' command line from RecBole, which would read any program's arguments as settings."""
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        yield
    finally:
        sys.argv = arguments


@contextmanager
def as_user_error(what: str, log: str | None = None) -> Iterator[None]:
    """Turn RecBole's exceptions into one-line errors; the traceback goes to the log file.

    Args:
        what: what RecBole cannot use, for the message: ``the settings``.
        log: the log file, for the message.

    Raises:
        SettingsError: RecBole cannot use the settings or the data.
        StorageError: a file cannot be written.
        TrainingError: memory ran out.
    """
    try:
        yield
    except (MemoryError, *RECBOLE_ERRORS) as error:
        if is_out_of_memory(error):
            raise TrainingError(
                "memory ran out while data was read or the model built: lower MAX_ITEM_LIST_LENGTH or embedding_size, "
                "or give the process more"
            ) from error
        if isinstance(error, OSError) and is_write_error(error):
            raise storage_error(Path(error.filename or log or "log"), error) from error
        # INFO is written to the log file only: log_to_file raises the level of the console
        logging.getLogger().info("RecBole stopped", exc_info=True)
        details = f" (the traceback is in {log})" if log else ""
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise SettingsError(f"RecBole cannot use {what}: {message}{details}") from error


def _check_values(config: Config) -> None:
    """Check RecBole's settings whose wrong type would be noticed late or never."""
    for key, value in config.external_config_dict.items():
        if any(isinstance(part, int) and part not in _INTEGERS for part in _parts(value)):
            raise SettingsError(f"{key} has an integer of more than 64 bits")


def _parts(value: Any) -> Iterator[Any]:
    """A value, and what is in it."""
    yield value
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _parts(part)


def _check_given(given: Mapping[str, Any]) -> None:
    """Check keys, and the values of RecBole's settings that it reports late or unclearly."""
    check_given_keys(given)
    check_recbole_values(given)
    check_metrics(given.get("metrics"), (metric.__name__ for metric in register.metrics_dict.values()))


def _check_valid_metric(config: Config) -> None:
    kinds = ["", FILTERED] if has_both_candidates(config, "valid") else [""]
    reported = {f"{kind}{metric}@{k}".lower() for kind in kinds for metric in config["metrics"] for k in config["topk"]}
    if "@" in config["valid_metric"] and config["valid_metric"].lower() not in reported:
        raise SettingsError(
            f"valid_metric={config['valid_metric']} is not among what is computed ({', '.join(sorted(reported))}): "
            "set it, or metrics and topk, so that it is"
        )
