"""Reads settings from RecBole's configuration and checks their keys and values."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import NonNegativeFloat, TypeAdapter, ValidationError

from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.settings.baselines import BASELINE_SETTINGS
from recbole_llm_interest.settings.groups import ALL_SETTINGS, ModelSettings
from recbole_llm_interest.settings.peers import PEER_SETTING
from recbole_llm_interest.settings.recbole_sources import recbole_keys
from recbole_llm_interest.settings.registry import OBJECTIVE_WEIGHT, REGISTRIES

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Settings = TypeVar("_Settings", bound="DataclassInstance")

#: RecBole's settings for several processes; here the option ``nproc`` sets them
_DISTRIBUTED_KEYS = {"nproc", "world_size", "local_rank", "ip", "port", "offset"}
#: options of the commands, which are not settings
_OPTIONS = {"checkpoint", "config_files", "resume", "rows", "seeds", "strict", "table"}
#: characters of a value, and of what is wrong with it, that a message shows
_SHOWN_CHARACTERS = 500


def settings_keys() -> list[str]:
    """Return the plug-in's own keys as declared, and then the weights of SSL objectives registered from outside."""
    declared = [field.name for group in ALL_SETTINGS for field in dataclasses.fields(group)]
    weights = [OBJECTIVE_WEIGHT.format(name=name) for name in REGISTRIES.get(OBJECTIVE_WEIGHT, ())]
    return list(dict.fromkeys([*declared, *weights]))


def list_valued_keys() -> list[str]:
    """Return the plug-in's own keys whose values are lists."""
    fields = [field for group in ALL_SETTINGS for field in dataclasses.fields(group)]
    return [field.name for field in fields if str(field.type).startswith("tuple[")]


def baseline_keys(model: str | None = None) -> list[str]:
    """Return the keys of a baseline's own settings: none of another model, and those of all baselines for None."""
    models = BASELINE_SETTINGS if model is None else [model]
    groups = [group for name in models for group in BASELINE_SETTINGS.get(name, ())]
    return [field.name for group in groups for field in dataclasses.fields(group)]


def read_settings(settings: type[_Settings], config: Mapping[str, Any] | Any) -> _Settings:
    """Read a group of settings from RecBole's configuration.

    Args:
        settings: the group, such as ``ModelSettings``.
        config: RecBole's ``Config``, or a mapping of values by key. A key that it lacks has its default.

    Raises:
        SettingsError: a key that the user gave is unknown, or a value has the wrong type or is out of range.

    Example:
        >>> from recbole_llm_interest.settings import ModelSettings, read_settings
        >>> settings = read_settings(ModelSettings, {"hidden_size": 32})
        >>> settings.hidden_size, settings.num_layers
        (32, 1)
    """
    check_keys(getattr(config, "external_config_dict", {}))
    names = [field.name for field in dataclasses.fields(settings)]
    values = {name: config[name] for name in names if name in config}
    try:
        return settings(**values)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise invalid_value(name, values[name], error) from error


def ssl_weights(config: Mapping[str, Any] | Any) -> dict[str, float]:
    """Read the weights of the SSL objectives that are on, by the objective's name.

    Args:
        config: as for ``read_settings``.

    Returns:
        The weights above 0, in the order of ``ModelSettings``; objectives from outside the package come last.

    Raises:
        SettingsError: as for ``read_settings``.
    """
    declared = dataclasses.asdict(read_settings(ModelSettings, config))
    pattern = re.compile(OBJECTIVE_WEIGHT.format(name="(.+)"))
    weights = {}
    for key in settings_keys():
        if match := pattern.fullmatch(key):
            weights[match[1]] = declared[key] if key in declared else _external_weight(key, config)
    return {name: weight for name, weight in weights.items() if weight}


def _external_weight(key: str, config: Mapping[str, Any] | Any) -> float:
    if key not in config:
        return 0.0
    try:
        return TypeAdapter(NonNegativeFloat).validate_python(config[key])
    except ValidationError as error:
        raise invalid_value(key, config[key], error) from error


def invalid_value(name: str, value: Any, error: ValidationError) -> SettingsError:
    """Return the error of a setting whose value pydantic refuses.

    Args:
        name: of the setting.
        value: that it has.
        error: pydantic's.
    """
    details = error.errors()[0]
    reason = details["msg"].removeprefix("Value error, ")
    if details["type"] == "tuple_type" and value is not None:
        words = [word.strip() for word in str(value).split(",")]
        reason = f"it is a list, written --{name}={','.join(words)} on the command line, [{', '.join(words)}] in YAML"
    return SettingsError(f"{name}={_cut(repr(value))} is not a value of this setting: {_cut(reason)}")


def _cut(text: str) -> str:
    """Cut what a file may have filled with a million values."""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def check_keys(keys: Iterable[str], options: Iterable[str] = ()) -> None:
    """Check that RecBole or the plug-in knows every key. RecBole alone ignores an unknown key silently.

    Args:
        keys: of settings.
        options: of the command line, which may have been meant.

    Raises:
        SettingsError: a key is unknown. The message suggests the nearest known key.
    """
    known = {*settings_keys(), *baseline_keys(), *recbole_keys()}
    for key in keys:
        if key not in known and not key.startswith(PEER_SETTING):
            nearest = difflib.get_close_matches(key, {*known, *options}, n=1, cutoff=0.6)
            hint = f": did you mean {nearest[0]!r}?" if nearest else "; docs/settings.md lists the settings"
            raise SettingsError(f"unknown setting {key!r}{hint}")


def check_given_keys(keys: Iterable[str], options: Iterable[str] = ()) -> None:
    """Check the keys of files and of the command line; arguments as for ``check_keys``.

    Raises:
        SettingsError: a key is unknown, or is an option of the command line.
    """
    keys = list(keys)
    for key in _OPTIONS.intersection(keys):
        raise SettingsError(f"{key} is an option of the command line, not a setting: give --{key}")
    check_keys(keys, options)
    for key in _DISTRIBUTED_KEYS.intersection(keys):
        raise SettingsError(f"{key} cannot be set here: run_recbole.py --nproc=2 trains with two processes")


def data_set_error(dataset: str, folder: Path) -> DataError:
    """Return the error that a data set has no folder.

    Args:
        dataset: its name.
        folder: where it was expected.
    """
    others = [path.name for path in folder.parent.glob("*") if path.is_dir()]
    nearest = difflib.get_close_matches(dataset, others, n=1, cutoff=0.6)
    hint = f": did you mean {nearest[0]!r}? Or" if nearest else ";"
    return DataError(
        f"data set {dataset!r}: there is no folder {folder}{hint} set --data_path to the folder that holds "
        f"{dataset}/{dataset}.inter (RecBole's ml-100k needs none)"
    )
