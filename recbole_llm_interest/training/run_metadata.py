"""The metadata that identify a run: its settings and digests of its data."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config

from recbole_llm_interest.content.event_fields import EVENT_KINDS
from recbole_llm_interest.content.event_inputs import NO_INPUTS
from recbole_llm_interest.content.features import Content
from recbole_llm_interest.io.atomic_files import ATOMIC_FILE
from recbole_llm_interest.io.opening import open_regular
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.settings import baseline_keys, settings_keys

#: settings that are not recorded: locations, output and devices; ``seed`` is recorded in a field of its own
_UNRECORDED_SETTINGS = {
    *("seed", "data_path", "checkpoint_dir", "feature_cache", "show_progress", "state", "gpu_id", "use_gpu", "worker"),
    *("encoder_device", "eval_scores_mb", "tracking", "log_wandb", "wandb_project"),
}

#: suffixes of files of embeddings, which RecBole reads only where ``additional_feat_suffix`` names them
EMBEDDING_SUFFIXES = ("itememb", "useremb")
#: settings that change the speed of a run or what is reported of it, not its result: a checkpoint or a run of a table
#: may differ in them
RESULT_NEUTRAL_SETTINGS = {
    *("text_batch_size", "image_batch_size", "audio_batch_size", "encoder_device"),
    *("feature_cache", "strict_content", "strict_data", "allow_pickle", "download_weights", "name_users"),
    *("eval_scores_mb", "metrics", "tracking", "log_wandb", "wandb_project"),
}


def explicit_settings(config: Config) -> dict[str, Any]:
    """Return the settings of a run that files, Python or the command line set, as JSON values."""
    return json_values(
        {key: value for key, value in config.external_config_dict.items() if key not in _UNRECORDED_SETTINGS}
    )


def effective_settings(config: Config) -> dict[str, Any]:
    """Return all settings of one of the plug-in's models, defaults included; none for other models."""
    own = ["learning_rate", *settings_keys()] if config["model"] == LLMInterest.__name__ else []
    keys = [key for key in (*own, *baseline_keys(config["model"])) if key not in _UNRECORDED_SETTINGS]
    return json_values({key: config[key] for key in keys})


def run_identity(config: Config) -> dict[str, Any]:
    """Return what distinguishes a run from others, for ``changed_setting``."""
    names = {key: config[key] for key in ("model", "dataset", "seed")}
    return names | {"settings": explicit_settings(config), "effective_settings": effective_settings(config)}


def changed_setting(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """Compare two runs by their ``run_identity``.

    Settings that only one of the two versions of the package has are ignored.

    Returns:
        The first setting that differs, its value then and its value now; None if the results are the same.
    """
    shared = then["effective_settings"].keys() & now["effective_settings"].keys()
    old, new = (
        {
            **run["settings"],
            **{key: run["effective_settings"][key] for key in shared},
            **{key: run[key] for key in ("model", "dataset", "seed")},
        }
        for run in (then, now)
    )
    for key in sorted({*old, *new} - RESULT_NEUTRAL_SETTINGS):
        if old.get(key) != new.get(key):
            return key, old.get(key), new.get(key)
    return None


def file_digests(config: Config) -> dict[str, str]:
    """Return SHA-256 hashes of the data set's files by name.

    These are its atomic files, with the parts that ``benchmark_filename`` names, and the JSON lines of its content,
    whichever of them the model reads. Images and audio are identified by the features that are encoded from them.

    Raises:
        DataError: a file cannot be read.
    """
    folder = Path(config["data_path"])
    patterns = (f"{glob.escape(config['dataset'])}.*", "content/*.jsonl")
    unread = {f".{suffix}" for suffix in EMBEDDING_SUFFIXES if suffix not in (config["additional_feat_suffix"] or ())}
    found = (path for pattern in patterns for path in folder.glob(pattern) if path.suffix not in unread)
    paths = sorted(path for path in found if path.is_file())
    return {path.relative_to(folder).as_posix(): _file_digest(path) for path in paths}


def _file_digest(path: Path) -> str:
    with open_regular(path, ATOMIC_FILE) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_digests(config: Config, dataset: Any) -> dict[str, str]:
    """Return SHA-256 hashes of the data set's files and of the content features of the model.

    Raises:
        DataError: a file cannot be read.
    """
    digests = file_digests(config)
    for kind, content in contents_of(dataset).items():
        for modality, features in content.items():
            values = features.values.contiguous().view(torch.uint8).numpy()
            digests[f"{kind} {modality}"] = hashlib.sha256(values.data).hexdigest()
    return digests


def contents_of(dataset: Any) -> dict[str, Content]:
    """Return the features that a data set has of items, users, events and contexts, by kind."""
    contents: dict[str, Content] = {kind: getattr(dataset, f"{kind}_content", {}) for kind in ("item", "user")}
    for kind in EVENT_KINDS:
        contents[kind] = getattr(dataset, f"{kind}_inputs", NO_INPUTS).content
    return contents


def json_values(values: dict[str, Any]) -> dict[str, Any]:
    """Return ``values`` as they are after a round trip through JSON: tuples become lists, other objects strings."""
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def digest(lines: Iterable[Any]) -> str:
    """Return the SHA-256 hash of lines in their order."""
    return hashlib.sha256("\n".join(map(str, lines)).encode()).hexdigest()
