"""The settings of a run as RecBole merges them, for what does not need RecBole: importing it takes seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.config_files import DEFAULT_DATASET, DEFAULT_MODEL, read_config_files
from recbole_llm_interest.io.literals import parse_literal
from recbole_llm_interest.io.yaml_files import read_yaml
from recbole_llm_interest.settings import MODELS, PROPERTIES
from recbole_llm_interest.settings.peers import PEERS
from recbole_llm_interest.settings.recbole_sources import recbole_folder


class RunSettings(Mapping[str, Any]):
    """Settings by key, which is used like RecBole's ``Config``: a key that nothing sets is None.

    Args:
        values: all settings in effect.
        given: those of the user, from files and overrides.

    Attributes:
        external_config_dict: ``given``, by RecBole's name for it.

    Example:
        >>> settings = RunSettings({"epochs": 3}, {"epochs": 3})
        >>> settings["epochs"], settings["benchmark_filename"], "seed" in settings
        (3, None, False)
    """

    def __init__(self, values: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        self._values = dict(values)
        self.external_config_dict = dict(given)

    def __getitem__(self, key: str) -> Any:
        return self._values.get(key)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def read_run_settings(
    model: str, dataset: str, files: Sequence[str] = (), overrides: Mapping[str, Any] | None = None
) -> RunSettings:
    """Merge the settings files of RecBole and of this package, and what the user gives, as RecBole's ``Config`` does.

    ``load_col`` is None, which means all columns, unless a file of the data set or the user sets it. Left out are what
    RecBole computes, such as ``device``, and its own files of models, which say nothing about data.

    Args:
        model: name of the model.
        dataset: name of the data set.
        files: YAML files of the user; a later one takes precedence.
        overrides: settings that take precedence over the files; texts are read as values, as RecBole does.

    Raises:
        SettingsError: a file cannot be read, ``eval_args`` is no dictionary, or RecBole is not installed.

    Example:
        >>> settings = read_run_settings("LLMInterest", "mine", overrides={"data_path": "data", "epochs": "3"})
        >>> settings["data_path"], settings["epochs"], settings["TIME_FIELD"]
        ('data/mine', 3, 'timestamp')
    """
    given = read_given_settings(files, overrides)
    recbole, ours = recbole_folder() / "properties", PROPERTIES
    protocol = _read(ours / "protocol.yaml")
    name = _settings_name(model)
    values = _read(recbole / "overall.yaml") | _read(ours / "model" / f"{name}.yaml")
    values |= _read(recbole / "dataset" / "sample.yaml") | {"load_col": None}
    if name is not None:
        values |= _read(ours / "dataset" / f"{dataset}.yaml")
    values |= _read(recbole / "dataset" / f"{dataset}.yaml")
    values |= {**protocol, **given, "model": model, "dataset": dataset}
    values["data_path"] = _data_path(values["data_path"], dataset)
    values["eval_args"] = _completed_eval_args(values["eval_args"])
    return RunSettings(values, {**protocol, **given})


def read_given_settings(files: Sequence[str], overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the settings of a user: those of files, and those that take precedence over them.

    Args:
        files: as for ``read_run_settings``.
        overrides: as for ``read_run_settings``.

    Raises:
        SettingsError: a file cannot be read.

    Example:
        >>> read_given_settings([], {"use_item_id": "false", "topk": "[5]", "text_prompt": "a: b"})
        {'use_item_id': False, 'topk': [5], 'text_prompt': 'a: b'}
    """
    return {**read_config_files(files), **{key: _value(given) for key, given in (overrides or {}).items()}}


def _value(given: Any) -> Any:
    """The value of a setting's text."""
    if not isinstance(given, str):
        return given
    try:
        return parse_literal(given)
    except SyntaxError:
        return {"true": True, "false": False}.get(given.lower(), given)


def _settings_name(model: str) -> str | None:
    """The name of the model's settings file in this package; None for models that have none."""
    if model in PEERS:
        return DEFAULT_MODEL if PEERS[model] else None
    return model if model in MODELS else None


def _data_path(data_path: Any, dataset: str) -> Any:
    if dataset == DEFAULT_DATASET:
        return str(recbole_folder() / "dataset_example" / DEFAULT_DATASET)
    return str(Path(data_path) / dataset) if isinstance(data_path, str) else data_path


def _completed_eval_args(given: Any) -> dict[str, Any]:
    """Add RecBole's own defaults to what is given of ``eval_args``: its parts replace those of other files together."""
    if not isinstance(given, dict):
        raise SettingsError(f"eval_args={given!r:.80} is no dictionary, such as {{'order': 'TO', 'mode': 'full'}}")
    completed = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full", **given}
    mode = {"valid": completed["mode"]} if isinstance(completed["mode"], str) else completed["mode"]
    if isinstance(mode, dict):
        first = mode.get("valid", mode.get("test", "full"))
        completed["mode"] = {"valid": first, "test": mode.get("test", first)}
    return completed


def _read(path: Path) -> dict[str, Any]:
    settings = read_yaml(path, "settings file")[0] if path.is_file() else None
    return settings or {}
