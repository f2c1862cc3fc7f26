"""The files of an exported folder, and the settings that it may have: what its writer and its reader share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_llm_interest.settings import MODALITIES, ContentSettings, ModelSettings
from recbole_llm_interest.settings.portable import ENCODER_NAMES, is_path_outside
from recbole_llm_interest.training.run_metadata import RESULT_NEUTRAL_SETTINGS

CONFIG, WEIGHTS, FEATURES = "config.json", "model.safetensors", "features.safetensors"
VOCABULARY, TEXTS, CARD = "vocabulary.json", "texts.json", "README.md"
#: files of the encoders' adapters, by the setting that names one
ADAPTERS = {f"{modality}_adapter": f"{modality}_adapter.safetensors" for modality in MODALITIES}
#: version of the folder's format; another one is not read
FORMAT = 1
#: suffixes of settings that name files of features
_FEATURE_FILES = tuple(f"_{modality}_features" for modality in MODALITIES)
CONTENT_KEYS = {field.name for field in dataclasses.fields(ContentSettings)}
_MODEL_KEYS = {field.name for field in dataclasses.fields(ModelSettings)}
#: settings that a folder may have; those that grant access, such as ``allow_pickle``, are the caller's
FOLDER_SETTINGS = (CONTENT_KEYS | _MODEL_KEYS) - RESULT_NEUTRAL_SETTINGS


def published(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that determine the model, without paths of this machine; adapters are by their files in the folder."""
    kept = {name: value for name, value in settings.items() if name in FOLDER_SETTINGS}
    for name, value in kept.items():
        if name in ADAPTERS and value is not None:
            kept[name] = ADAPTERS[name]
        elif isinstance(value, str) and (name in ENCODER_NAMES or name.endswith(_FEATURE_FILES)):
            kept[name] = _without_folder(value)
    return kept


def _without_folder(name: str) -> str:
    """The name of an encoder or a file, which may begin with its kind and a colon."""
    kind, colon, path = name.rpartition(":")
    is_path = Path(path).expanduser().exists() or is_path_outside(path)
    return kind + colon + Path(path).name if is_path else name
