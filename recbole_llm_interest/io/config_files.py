"""Reads YAML config files, and the models and the data set that they name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.opening import FileKind
from recbole_llm_interest.io.yaml_files import read_yaml

#: the file of a search, in RecBole's format
SEARCH_SPACE = FileKind("search space", SettingsError, 250_000, "give one by --space")
#: what is trained, and on which data, if nothing names them; the data set comes with RecBole, which reads it from its
#: own folder, whatever ``data_path`` is
DEFAULT_MODEL, DEFAULT_DATASET = "LLMInterest", "ml-100k"


def read_config_files(files: Sequence[str]) -> dict[str, Any]:
    """Return the settings of YAML files; a later file takes precedence.

    Raises:
        SettingsError: a file does not exist, has another form, or names a setting twice.
    """
    merged: dict[str, Any] = {}
    for file in files:
        settings, named = read_yaml(Path(file), "config file")
        if settings is None:
            raise SettingsError(f"config file {file} is empty: it has to hold 'key: value' lines")
        if not isinstance(settings, dict):
            raise SettingsError(f"config file {file} does not hold 'key: value' lines")
        for key in named:
            if named.count(key) > 1:
                raise SettingsError(f"config file {file} names {key!r} twice: one of the two would have no effect")
        merged |= {str(key): value for key, value in settings.items()}
    return merged


def named_models(settings: Mapping[str, Any]) -> list[str]:
    """Return the models that the setting ``model`` names: a name, names separated by commas, or a list of names.

    Raises:
        SettingsError: it has another value.

    Example:
        >>> named_models({"model": "Pop, GRU4Rec"}), named_models({"model": ["Pop"]}), named_models({})
        (['Pop', 'GRU4Rec'], ['Pop'], [])
    """
    value = settings.get("model")
    names = value.split(",") if isinstance(value, str) else value or []
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name.strip() for name in names):
        raise SettingsError(f"model={value!r} is neither a name of a model nor a list of names")
    return [name.strip() for name in names]


def named_dataset(settings: Mapping[str, Any]) -> str | None:
    """Return the data set that the setting ``dataset`` names; None if it is not set.

    Raises:
        SettingsError: its value is not a string.
    """
    value = settings.get("dataset")
    if value is not None and not (isinstance(value, str) and value):
        raise SettingsError(f"dataset={value!r} is not the name of a data set: give one name; put numbers in quotes")
    return value


def models_and_dataset(
    models: Sequence[str], dataset: str | None, files: Sequence[str], settings: Mapping[str, Any]
) -> tuple[list[str], str]:
    """Return the models and the data set of a command, with RecBole's precedence.

    Arguments come before ``model`` and ``dataset`` in settings, these before files, and later files before earlier
    ones. If nothing names them, they are LLMInterest and ml-100k.

    Args:
        models: names of models; empty if none is given.
        dataset: name of the data set; None if none is given.
        files: YAML files.
        settings: settings that take precedence over the files.

    Raises:
        SettingsError: a file cannot be read, a value is not a name, or ``settings`` differ from the arguments.
    """
    for key, given, other in (
        ("model", ",".join(models), ",".join(named_models(settings))),
        ("dataset", dataset, named_dataset(settings)),
    ):
        if given and other and given != other:
            raise SettingsError(f"{key}={other} would have no effect: {given} is also given")
    named = {**read_config_files(files), **settings}
    return [*models] or named_models(named) or [DEFAULT_MODEL], dataset or named_dataset(named) or DEFAULT_DATASET
