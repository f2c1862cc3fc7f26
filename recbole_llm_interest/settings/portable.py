"""Selects the settings that a checkpoint may set: no paths, devices, addresses or permissions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from recbole_llm_interest.settings.types import MODALITIES

#: settings that only the caller may set: paths, devices, addresses, permissions, and outputs
CALLERS_SETTINGS = frozenset(
    {
        *("data_path", "checkpoint_dir", "config_file", "config_files", "feature_cache"),
        *("dataset_save_path", "dataloaders_save_path", "save_dataset", "save_dataloaders"),
        *("gpu_id", "use_gpu", "device", "encoder_device", "worker"),
        *("nproc", "world_size", "local_rank", "ip", "port", "offset", "single_spec"),
        *("allow_pickle", "download_weights", "name_users"),
        "init_from",
        *("tracking", "log_wandb", "wandb_project", "state", "show_progress"),
        # pretrained weights of RecBole's models, and parameters by which tree libraries read files
        *("pretrain_path", "pre_model_path", "mf_pretrain_path", "mlp_pretrain_path", "use_pretrain", "warm_up"),
        *("xgb_model", "xgb_params", "lgb_model", "lgb_params"),
        *("model", "dataset"),  # separate parts of a checkpoint
    }
)
#: settings of any model whose name says that the value is a path
_PATH_NAME = re.compile(r"(^|_)(path|dir|file|folder|url|cache)s?$")
#: settings whose values become parts of file names
_NAME_PARTS = ("benchmark_filename", "additional_feat_suffix", "load_col", "unload_col", "unused_col")
#: settings that name an encoder, its weights or its adapter, or a file of features in the data set's folder
ENCODER_NAMES = (
    *("text_encoder", "image_encoder", "image_weights", "audio_encoder"),
    *(f"{modality}_adapter" for modality in MODALITIES),
)
_FEATURE_FILES = tuple(f"{kind}_{modality}_features" for kind in ("item", "user") for modality in MODALITIES)


def portable_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a checkpoint may set.

    Args:
        settings: of a checkpoint, by key.

    Example:
        >>> portable_settings({"hidden_size": 32, "download_weights": True, "text_encoder": "/etc", "ip": "1.2.3.4"})
        {'hidden_size': 32}
    """
    return {key: value for key, value in settings.items() if _is_portable(key, value)}


def withheld_content(settings: Mapping[str, Any]) -> list[str]:
    """Return the content settings of a checkpoint that it may not set: encoders and features at other paths.

    Without them, the content would differ from that of training.

    Args:
        settings: of a checkpoint, by key.
    """
    return [
        key for key in (*ENCODER_NAMES, *_FEATURE_FILES) if key in settings and not _is_portable(key, settings[key])
    ]


def is_path_outside(name: str) -> bool:
    """Return whether a name is an absolute path or a path out of its folder."""
    path = name.rpartition(":")[2].replace("\\", "/")
    return path.startswith(("/", "~")) or ".." in path.split("/")


def _is_portable(key: str, value: Any) -> bool:
    if key in CALLERS_SETTINGS or _PATH_NAME.search(key) or not is_plain(value):
        return False
    if key in ENCODER_NAMES or key in _FEATURE_FILES:
        return value is None or (isinstance(value, str) and not is_path_outside(value))
    return key not in _NAME_PARTS or not any("/" in text for text in _texts(value))


def is_plain(value: Any) -> bool:
    """Return whether a value is a number, a string, or a list or mapping of these."""
    if isinstance(value, Mapping):
        return all(map(is_plain, (*value, *value.values())))
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return _texts([*value, *value.values()])
    if isinstance(value, list | tuple):
        return [text for part in value for text in _texts(part)]
    return [value] if isinstance(value, str) else []
