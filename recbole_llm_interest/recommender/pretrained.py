"""Reads a trained model from a folder in the Hub's conventions: everything that serving needs, and no user's id.

The files have fixed names, so that a folder cannot name other files to read. None is a pickle. ``config.json`` has the
hash of each file except the card, and is written last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError

from recbole_llm_interest.errors import CheckpointError, LLMInterestError, SettingsError
from recbole_llm_interest.io.atomic_files import MAX_TOKEN_CHARACTERS
from recbole_llm_interest.io.folders import current_file
from recbole_llm_interest.io.manifest import Artifact, source_of
from recbole_llm_interest.io.opening import MEMORY_BYTES, FileKind, is_there, parse_json, read_bytes
from recbole_llm_interest.io.tensor_files import parse_tensors
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.recommender.folder_config import FolderConfig, Texts
from recbole_llm_interest.recommender.folder_format import (
    ADAPTERS,
    CARD,
    CONFIG,
    CONTENT_KEYS,
    FEATURES,
    FOLDER_SETTINGS,
    FORMAT,
    TEXTS,
    VOCABULARY,
    WEIGHTS,
)
from recbole_llm_interest.recommender.hub import find_folder
from recbole_llm_interest.recommender.loading import content_reader, event_readers
from recbole_llm_interest.recommender.pretrained_model import Tensors, build_model
from recbole_llm_interest.recommender.trained import Origin, Trained
from recbole_llm_interest.settings import ContentSettings, read_settings
from recbole_llm_interest.settings.portable import ENCODER_NAMES, is_path_outside

#: errors of building a model from settings and weights that do not fit
_BUILD_ERRORS = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)

_Model = TypeVar("_Model", bound=BaseModel)

_REMEDY = "export the model again, or fetch it again"
_KINDS = {
    CONFIG: FileKind("exported model", CheckpointError, 1_000_000, _REMEDY),
    VOCABULARY: FileKind("exported model", CheckpointError, 1_000_000_000, _REMEDY),
    TEXTS: FileKind("exported model", CheckpointError, 4_000_000_000, _REMEDY),
    WEIGHTS: FileKind("exported model", CheckpointError, MEMORY_BYTES // 2, _REMEDY),
    FEATURES: FileKind("exported model", CheckpointError, MEMORY_BYTES // 2, _REMEDY),
    **dict.fromkeys(ADAPTERS.values(), FileKind("exported model", CheckpointError, 2**31, _REMEDY)),
}


def read_pretrained(
    name: str, *, revision: str | None = None, device: str | None = None, settings: Mapping[str, Any] | None = None
) -> Trained:
    """Read a model that ``write_pretrained`` wrote. No code in the folder is run, and no other file is read.

    Args:
        name: of a folder, or of a model on the Hub, which is fetched only if ``download_weights`` is set.
        revision: of the model on the Hub; None for the newest.
        device: to compute on; None for a GPU if there is one.
        settings: of the encoders, those that differ from training.

    Raises:
        LLMInterestError: the folder is missing, damaged or of another version, or a setting is invalid.
    """
    given = _check_given(settings or {})
    content = read_settings(ContentSettings, given)
    files = [CONFIG, WEIGHTS, FEATURES, VOCABULARY, TEXTS, CARD, *ADAPTERS.values()]
    folder = find_folder(name, revision, files, content.download_weights)
    config = _read_config(folder)
    tokens = _read_vocabulary(folder, config.sha256)
    texts = _read_texts(folder, config.sha256)
    encoders = _encoder_settings(folder, config, given)
    content = read_settings(ContentSettings, encoders | given)
    model = _read_model(folder, config, len(tokens))
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    fields, fingerprints, of_items = config.id_fields, config.encoders, texts.texts.values()
    return Trained(
        model=model,
        tokens=tokens,
        users={},
        max_length=config.max_length,
        **texts.model_dump(),
        item_reader=content_reader("item", fields["item"], content, model.item_encoder, of_items, fingerprints["item"]),
        user_reader=content_reader("user", fields["user"], content, model.user_encoder, (), fingerprints["user"]),
        recorded=_no_histories,
        trained_on=_no_histories,
        source=_source(folder, config.dataset),
        event_readers=event_readers(content, model, fingerprints=fingerprints),
        origin=Origin(config.dataset, config.counts, fields, config.settings | encoders, config.time_unit, config.data),
    )


def _check_given(settings: Mapping[str, Any]) -> dict[str, Any]:
    for key in settings.keys() - CONTENT_KEYS:
        raise SettingsError(f"{key} is not a setting of the encoders: the folder determines the model")
    return dict(settings)


def _no_histories(users: Sequence[str]) -> list[tuple[list[str], list[float]]]:
    return [([], []) for _ in users]


def _source(folder: Path, dataset: str) -> Artifact:
    """The record of a folder that this user exported; of others, only the name of the data set is known."""
    return replace(source_of(folder / CONFIG, dataset), kind="export")


def _read_vocabulary(folder: Path, hashes: Mapping[str, str]) -> list[str]:
    tokens = _parse_json(folder, VOCABULARY, _read_part(folder, VOCABULARY, hashes))
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise _refusal(folder, VOCABULARY, "is not a list of items")
    if len(set(tokens)) < len(tokens):
        raise _refusal(folder, VOCABULARY, "names an item twice")
    if any(len(token) > MAX_TOKEN_CHARACTERS for token in tokens):
        raise _refusal(folder, VOCABULARY, f"has an id of more than {MAX_TOKEN_CHARACTERS} characters")
    return tokens


def _read_model(folder: Path, config: FolderConfig, items: int) -> LLMInterest:
    weights, features = (_read_tensors(folder, part, config.sha256) for part in (WEIGHTS, FEATURES))
    try:
        return build_model(config, weights, features, items)
    except LLMInterestError:
        raise
    except _BUILD_ERRORS as error:
        reason = " ".join(str(error).split())[:200]
        raise _refusal(folder, WEIGHTS, f"is damaged: its settings and its weights do not fit: {reason}") from error


def _read_tensors(folder: Path, name: str, hashes: Mapping[str, str]) -> Tensors:
    """Tensors of any shape, ``[...]``, whose numbers are finite."""
    try:
        tensors = parse_tensors(_read_part(folder, name, hashes)).tensors
    except ValueError as error:
        raise _refusal(folder, name, error) from error
    for tensor, values in tensors.items():
        if values.is_floating_point() and not values.isfinite().all():
            raise _refusal(folder, name, f"is damaged: {tensor[:80]} has NaN or Inf")
    return tensors


def _read_config(folder: Path) -> FolderConfig:
    """``config.json``, with every key that reading the folder needs.

    Raises:
        CheckpointError: the file is missing, damaged or of another model, or has a setting that a folder may not have.
    """
    if not is_there(current_file(folder, CONFIG)):
        raise CheckpointError(f"{folder} has no {CONFIG}: name a folder that save_pretrained wrote")
    config = _parse_json(folder, CONFIG, _read_file(folder, CONFIG))
    if not isinstance(config, dict) or config.get("model_type") != "llm_interest":
        raise _refusal(folder, CONFIG, "is not of LLMInterest")
    if config.get("format") != FORMAT or isinstance(config["format"], bool):
        found = str(config.get("format"))[:20]
        raise _refusal(folder, CONFIG, f"has format {found}, and this version reads {FORMAT}")
    described = _validate(folder, CONFIG, FolderConfig, config)
    for key in described.settings.keys() - FOLDER_SETTINGS:
        raise _refusal(folder, CONFIG, f"sets {key[:80]!r}, which a folder may not set")
    return described


def _encoder_settings(folder: Path, config: FolderConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """The folder's settings of encoders. A folder cannot name a path from which to load an encoder."""
    settings = config.settings
    for key in ENCODER_NAMES:
        if key not in given and is_path_outside(str(settings.get(key, ""))):
            raise CheckpointError(f"{folder / CONFIG}: {key}={settings[key]!r} is a path: name the encoder by {key}")
    return {key: value for key, value in settings.items() if key in CONTENT_KEYS} | _adapters(folder, config, given)


def _adapters(folder: Path, config: FolderConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """The adapters of the encoders: those that are given, else the files in the folder."""
    paths = {key: given[key] for key in ADAPTERS if key in given}
    for key in ADAPTERS.keys() - given.keys():
        if config.settings.get(key) is not None:
            _read_part(folder, ADAPTERS[key], config.sha256)  # which checks its hash
            paths[key] = str(current_file(folder, ADAPTERS[key]))
    return paths


def _read_part(folder: Path, name: str, hashes: Mapping[str, str]) -> bytes:
    if not is_there(current_file(folder, name)):
        raise CheckpointError(f"{folder} has no {name}; weights in pickles, as in pytorch_model.bin, are not read")
    data = _read_file(folder, name)
    if hashlib.sha256(data).hexdigest() != hashes.get(name):
        raise _refusal(folder, name, f"is damaged, or of another model than {CONFIG}: its checksum does not match")
    return data


def _read_file(folder: Path, name: str) -> bytes:
    """Read one of the folder's files. The Hub's cache has links to files beside its folders of snapshots."""
    is_cached = folder.parent.name == "snapshots"
    return read_bytes(current_file(folder, name), _KINDS[name], inside=folder.parent.parent if is_cached else folder)


def _read_texts(folder: Path, hashes: Mapping[str, str]) -> Texts:
    """Texts, titles and categories of items; none if the file was deleted."""
    if not is_there(current_file(folder, TEXTS)):
        return Texts()
    return _validate(folder, TEXTS, Texts, _parse_json(folder, TEXTS, _read_part(folder, TEXTS, hashes)))


def _parse_json(folder: Path, name: str, data: bytes) -> Any:
    try:
        value = parse_json(data.decode())
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise _refusal(folder, name, "is damaged: it has half of a surrogate pair") from error
    except ValueError as error:
        raise _refusal(folder, name, f"is damaged: it is not JSON: {error}") from error
    return value


def _validate(folder: Path, name: str, model: type[_Model], value: Any) -> _Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))[:80]
        raise _refusal(folder, name, f"is damaged: {place}: {fault['msg']}") from error


def _refusal(folder: Path, name: str, reason: object) -> LLMInterestError:
    return _KINDS[name].refusal(folder / name, reason)
