"""Reads a trained model from a folder in the Hub's conventions: everything that serving needs, and no user's id.

The files have fixed names, so that a folder cannot name other files to read. None is a pickle. ``config.json`` has the
hash of each file except the card, and is written last.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from recbole_llm_interest.content.features import Conditioning, Content, Features
from recbole_llm_interest.errors import CheckpointError, LLMInterestError, SettingsError
from recbole_llm_interest.io.manifest import Artifact, source_of
from recbole_llm_interest.model.build import SavedTables
from recbole_llm_interest.model.former_names import current_name
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.recommender.folder_format import (
    CARD,
    CONFIG,
    CONTENT_KEYS,
    ENCODER_NAMES,
    FEATURES,
    FOLDER_SETTINGS,
    FORMAT,
    TEXTS,
    VOCABULARY,
    WEIGHTS,
    is_path_outside,
)
from recbole_llm_interest.recommender.hub import find_folder
from recbole_llm_interest.recommender.loading import Origin, Trained, content_reader
from recbole_llm_interest.settings import ContentSettings, ModelSettings, read_settings

#: errors of building a model from settings and weights that do not fit
_BUILD_ERRORS = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)

_Tensors = dict[str, Tensor]


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
    given = dict(settings or {})
    for key in given.keys() - CONTENT_KEYS:
        raise SettingsError(f"{key} is not a setting of the encoders: the folder determines the model")
    content = read_settings(ContentSettings, given)
    files = [CONFIG, WEIGHTS, FEATURES, VOCABULARY, TEXTS, CARD]
    folder = find_folder(name, revision, files, content.download_weights)
    config = _read_config(folder)
    tokens = _read_vocabulary(folder, config["sha256"])
    texts = _read_texts(folder, config["sha256"])
    content = read_settings(ContentSettings, {**_encoder_settings(folder, config["settings"], given), **given})
    model = _read_model(folder, config, len(tokens))
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    fields, fingerprints = config["id_fields"], config["encoders"]
    return Trained(
        model=model,
        tokens=tokens,
        users={},
        max_length=config["max_length"],
        texts=texts["texts"],
        labels=texts["labels"],
        item_reader=content_reader("item", fields["item"], content, model.item_encoder, fingerprints["item"]),
        user_reader=content_reader("user", fields["user"], content, model.user_encoder, fingerprints["user"]),
        recorded=lambda users: [([], []) for _ in users],
        source=_source(folder, config["dataset"]),
        origin=Origin(config["dataset"], config["counts"], fields, config["settings"], config.get("time_unit")),
    )


def _source(folder: Path, dataset: str) -> Artifact:
    """The record of a folder that this user exported; of others, only the name of the data set is known."""
    return replace(source_of(folder / CONFIG, dataset), kind="export")


def _read_vocabulary(folder: Path, hashes: Mapping[str, Any]) -> list[str]:
    tokens = _parse_json(folder / VOCABULARY, _read_part(folder, VOCABULARY, hashes))
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise CheckpointError(f"{folder / VOCABULARY} is not a list of items")
    return tokens


def _read_model(folder: Path, config: Mapping[str, Any], items: int) -> LLMInterest:
    parts = {part: _read_part(folder, part, config["sha256"]) for part in (WEIGHTS, FEATURES)}
    try:
        weights, features = load(parts[WEIGHTS]), load(parts[FEATURES])
    except SafetensorError as error:
        raise CheckpointError(f"{folder} is damaged: {' '.join(str(error).split())}") from error
    try:
        return _build(config, weights, features, items)
    except LLMInterestError:
        raise
    except _BUILD_ERRORS as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder} is damaged: its settings and its weights do not fit: {reason}") from error


def _read_config(folder: Path) -> dict[str, Any]:
    """``config.json``, with every key that reading the folder needs.

    Raises:
        CheckpointError: the file is missing, damaged or of another model, or has a setting that a folder may not have.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {CONFIG}: name a folder that save_pretrained wrote")
    config = _parse_json(path, path.read_bytes())
    if not isinstance(config, dict) or config.get("model_type") != "llm_interest":
        raise CheckpointError(f"{path} is not of LLMInterest")
    if config.get("format") != FORMAT:
        raise CheckpointError(f"{folder} has format {str(config.get('format'))[:20]}, and this version reads {FORMAT}")
    if not _is_complete(config):
        raise CheckpointError(f"{path} is damaged: it lacks what the model is built from")
    for key in config["settings"].keys() - FOLDER_SETTINGS:
        raise CheckpointError(f"{path} sets {key[:80]!r}, which a folder may not set")
    return config


def _is_complete(config: Mapping[str, Any]) -> bool:
    """Whether the keys that reading depends on are there, and their values of the right types."""
    types: dict[str, type] = {
        **dict.fromkeys(("sha256", "settings", "id_fields", "encoders", "counts"), dict),
        "dataset": str,
        "max_length": int,
    }
    return (
        all(type(config.get(key)) is kind for key, kind in types.items())
        and all(isinstance(config["id_fields"].get(kind), str) for kind in ("item", "user"))
        and all(isinstance(config["encoders"].get(kind), dict) for kind in ("item", "user"))
        and all(type(count) is int for count in config["counts"].values())
        and config.get("time_unit") in (None, "s", "ms")
        and config["max_length"] >= 1
    )


def _encoder_settings(folder: Path, settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The folder's settings of encoders. A folder cannot name a path from which to load an encoder."""
    for key in ENCODER_NAMES:
        if key not in given and is_path_outside(str(settings.get(key, ""))):
            raise CheckpointError(f"{folder / CONFIG}: {key}={settings[key]!r} is a path: name the encoder by {key}")
    return {key: value for key, value in settings.items() if key in CONTENT_KEYS}


def _read_part(folder: Path, name: str, hashes: Mapping[str, Any]) -> bytes:
    path = folder / name
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {name}; weights in pickles, as in pytorch_model.bin, are not read")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != hashes.get(name):
        raise CheckpointError(f"{path} is damaged, or of another model than {CONFIG}: its checksum does not match")
    return data


def _read_texts(folder: Path, hashes: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Texts and titles of items; none if the file was deleted."""
    if not (folder / TEXTS).is_file():
        return {"texts": {}, "labels": {}}
    texts = _parse_json(folder / TEXTS, _read_part(folder, TEXTS, hashes))
    if not isinstance(texts, dict) or not all(
        isinstance(texts.get(key), dict) and all(isinstance(value, str) for value in texts[key].values())
        for key in ("texts", "labels")
    ):
        raise CheckpointError(f"{folder / TEXTS} does not have texts and labels of items")
    return texts


def _parse_json(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: it is not JSON") from error


def _build(described: Mapping[str, Any], weights: _Tensors, features: _Tensors, items: int) -> LLMInterest:
    """Build the model and load its weights.

    Raises:
        ValueError: settings, weights and features do not fit.
    """
    config = {
        **described["settings"],
        "MAX_ITEM_LIST_LENGTH": described["max_length"],
        "ITEM_ID_FIELD": described["id_fields"]["item"],
        "USER_ID_FIELD": described["id_fields"]["user"],
        "LIST_SUFFIX": "_list",
        "ITEM_LIST_LENGTH_FIELD": "item_length",
        "NEG_PREFIX": "neg_",
        "device": torch.device("cpu"),
    }
    weights = {current_name(name): values for name, values in weights.items()}
    _check_sizes(read_settings(ModelSettings, config), described["max_length"], weights)
    neighbours = features["item_neighbours"]
    if len(neighbours) != items or not _are_rows(neighbours, items):
        raise ValueError("the neighbours are not of these items")
    once = torch.ones(items, dtype=torch.long).index_fill_(0, torch.tensor([0]), 0)  # as if each item occurred once
    content = {kind: _content(kind, weights, features) for kind in ("item", "user")}
    model = LLMInterest(config, SavedTables(content["item"], content["user"], once, neighbours))
    model.load_state_dict(weights)
    model.item_encoder.get_buffer("present").copy_(features["item_present"])  # also which items have an ID
    return model


def _check_sizes(settings: ModelSettings, max_length: int, weights: _Tensors) -> None:
    """Refuse sizes that the weights do not have, before anything of that size is allocated."""
    layers = {match[1] for name in weights if (match := re.match(r"tracker\.encoder\.(?:\w+\.)?layers\.(\d+)\.", name))}
    sizes = {
        "embedding_size": (settings.embedding_size, weights["item_encoder.missing"].shape[1]),
        "hidden_size": (settings.hidden_size, weights["tracker.output.weight"].shape[1]),
        "num_layers": (settings.num_layers, len(layers)),
    }
    if "tracker.encoder.position.weight" in weights:
        sizes["max_length"] = (max_length, len(weights["tracker.encoder.position.weight"]) - 1)
    for name, (stated, actual) in sizes.items():
        if stated != actual:
            raise ValueError(f"{name} is {stated} in {CONFIG} and {actual} in {WEIGHTS}")


def _content(kind: str, weights: _Tensors, features: _Tensors) -> Content:
    """Features by modality, and how they are conditioned, which the weights say."""
    names = [name.removeprefix(f"{kind}_") for name in features if name.startswith(f"{kind}_")]
    modalities = sorted(set(names) - {"present", "neighbours"})
    content: Content = {}
    for column, name in enumerate(modalities):
        fitted = [weights.get(f"{kind}_encoder.features.{name}.{part}") for part in ("mean", "weight")]
        conditioning = None if fitted[0] is None or fitted[1] is None else Conditioning(fitted[0], fitted[1])
        present = features[f"{kind}_present"][:, column]
        content[name] = Features(features[f"{kind}_{name}"], present, conditioning)
    return content


def _are_rows(rows: Tensor, count: int) -> bool:
    return rows.dtype == torch.int32 and (not rows.numel() or 0 <= int(rows.min()) <= int(rows.max()) < count)
