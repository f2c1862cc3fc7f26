"""A trained model as a folder in the Hub's conventions: all that serving it takes, and nobody's id.

The files have fixed names, so that nothing in a folder says what else to read. None is a pickle; each but the card is
known by its hash in ``config.json``, which is written last.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

import recbole_llm_interest
from recbole_llm_interest.content.features import Conditioning, Content, Features
from recbole_llm_interest.errors import CheckpointError, LLMInterestError, RequestError, SettingsError
from recbole_llm_interest.io.files import write_atomically
from recbole_llm_interest.model.build import SavedTables
from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.former_names import current_name
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.recommender.loading import Origin, Trained, content_reader
from recbole_llm_interest.settings import MODALITIES, ContentSettings, ModelSettings, read_settings
from recbole_llm_interest.training.run_metadata import RESULT_NEUTRAL_SETTINGS

CONFIG, WEIGHTS, FEATURES = "config.json", "model.safetensors", "features.safetensors"
VOCABULARY, TEXTS, CARD = "vocabulary.json", "texts.json", "README.md"
#: of the folder; another one is refused
_FORMAT = 1
#: what else to do where a file cannot be written
_OTHERWISE = "name another folder"
#: seconds to wait for the hub's first word
_HUB_PATIENCE = 2
#: settings that name an encoder, or the weights of one
_NAMES_OF_ENCODERS = ("text_encoder", "image_encoder", "image_weights", "audio_encoder")
#: how settings end that name files of features
_FEATURE_FILES = tuple(f"_{modality}_features" for modality in MODALITIES)
_CONTENT_KEYS = {field.name for field in dataclasses.fields(ContentSettings)}
_MODEL_KEYS = {field.name for field in dataclasses.fields(ModelSettings)}
#: settings that a folder may hold: those that open something are left to who loads it
_SETTINGS = (_CONTENT_KEYS | _MODEL_KEYS) - RESULT_NEUTRAL_SETTINGS
#: what building a model raises where settings and weights do not belong together
_OF_ANOTHER_MODEL = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)

_Tensors = dict[str, Tensor]


# --- writing


def write_pretrained(trained: Trained, folder: Path, card: str) -> list[Path]:
    """Write a trained model and what serving it takes, and say where.

    Args:
        trained: as ``load_trained`` gives it.
        folder: is made if it is not there; other files in it stay.
        card: what the model's page says, Markdown with YAML before it.

    Raises:
        RequestError: it is not known what the model was trained on.
        StorageError: a file cannot be written.
    """
    origin, model = trained.origin, trained.model
    if origin is None:
        raise RequestError("a model can be saved that was loaded from a checkpoint or a folder: this one was not")
    texts = {"texts": trained.texts, "labels": trained.labels}
    parts = {
        WEIGHTS: save({name: values.detach().cpu().contiguous() for name, values in model.state_dict().items()}),
        FEATURES: save(_features_of(model)),
        VOCABULARY: json.dumps(trained.tokens, ensure_ascii=False).encode(),
        TEXTS: json.dumps(texts, ensure_ascii=False).encode(),
        CARD: card.encode(),
    }
    readers = {"item": trained.item_reader, "user": trained.user_reader}
    described = {
        "library_name": recbole_llm_interest.__name__,
        "library_version": recbole_llm_interest.__version__,
        "model_type": "llm_interest",
        "architectures": [LLMInterest.__name__],
        "format": _FORMAT,
        "dataset": origin.dataset,
        "counts": origin.counts,
        "id_fields": origin.id_fields,
        "max_length": trained.max_length,
        "encoders": {kind: {} if it is None else it.found_fingerprints() for kind, it in readers.items()},
        "settings": published(origin.settings),
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in parts.items() if name != CARD},
    }
    parts[CONFIG] = json.dumps(described, indent=1, ensure_ascii=False).encode()
    for name, data in parts.items():
        write_atomically(folder / name, lambda file, data=data: file.write(data), _OTHERWISE)  # type: ignore[misc]
    return [folder / name for name in parts]


def _features_of(model: LLMInterest) -> _Tensors:
    """Frozen features of all items, as encoded; of users, the width alone."""
    tensors = _table("item", model.item_encoder, slice(None))
    tensors["item_neighbours"] = model.item_encoder.get_buffer("neighbours")
    if model.user_encoder is not None:
        tensors |= _table("user", model.user_encoder, slice(1))
    return {name: values.cpu().contiguous() for name, values in tensors.items()}


def _table(kind: str, fusion: EntityEncoder, rows: slice) -> _Tensors:
    values = {f"{kind}_{name}": features.values[rows] for name, features in fusion.content.items()}
    return values | {f"{kind}_present": fusion.get_buffer("present")[rows]}


def published(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that decide what the model is, without the folders of this machine."""
    kept = {name: value for name, value in settings.items() if name in _SETTINGS}
    for name, value in kept.items():
        if isinstance(value, str) and (name in _NAMES_OF_ENCODERS or name.endswith(_FEATURE_FILES)):
            kind, colon, path = value.rpartition(":")
            if Path(path).expanduser().exists() or _leads_elsewhere(path):
                kept[name] = kind + colon + Path(path).name
    return kept


def _leads_elsewhere(name: str) -> bool:
    """Whether a name is a path that may lead anywhere on a machine."""
    path = name.rpartition(":")[2].replace("\\", "/")
    return path.startswith(("/", "~")) or ".." in path.split("/")


# --- reading


def read_pretrained(
    name: str, *, revision: str | None = None, device: str | None = None, settings: Mapping[str, Any] | None = None
) -> Trained:
    """Read a model that ``write_pretrained`` wrote. No code in the folder is run, and nothing else is read.

    Args:
        name: a folder, or the hub's name of a model, which is fetched only where ``download_weights`` is set.
        revision: of the hub's model; None for its newest.
        device: where it is to compute; None for a GPU if there is one.
        settings: of the encoders, where they are otherwise than in training.

    Raises:
        LLMInterestError: the folder is missing, damaged or of another version, or a setting cannot be used.
    """
    given = dict(settings or {})
    for key in given.keys() - _CONTENT_KEYS:
        raise SettingsError(f"{key} is no setting of the encoders: what the model is, its folder says")
    content = read_settings(ContentSettings, given)
    folder = _find(name, revision, content.download_weights)
    described = _described(folder)
    data = {part: _part(folder, part, described["sha256"]) for part in (WEIGHTS, FEATURES, VOCABULARY)}
    try:
        weights, features = load(data[WEIGHTS]), load(data[FEATURES])
    except SafetensorError as error:
        raise CheckpointError(f"{folder} is damaged: {' '.join(str(error).split())}") from error
    tokens = _json(folder / VOCABULARY, data[VOCABULARY])
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise CheckpointError(f"{folder / VOCABULARY} is no list of items")
    texts = _texts(folder, described["sha256"])
    content = read_settings(ContentSettings, {**_of_encoders(folder, described["settings"], given), **given})
    try:
        model = _build(described, weights, features, len(tokens))
    except LLMInterestError:
        raise
    except _OF_ANOTHER_MODEL as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder} is damaged: its settings and its weights do not fit: {reason}") from error
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    fields = described["id_fields"]
    readers = {
        kind: content_reader(kind, fields[kind], content, fusion, described["encoders"][kind])
        for kind, fusion in (("item", model.item_encoder), ("user", model.user_encoder))
    }
    return Trained(
        model=model,
        tokens=tokens,
        users={},
        max_length=described["max_length"],
        texts=texts["texts"],
        labels=texts["labels"],
        item_reader=readers["item"],
        user_reader=readers["user"],
        recorded=lambda users: [([], []) for _ in users],
        origin=Origin(described["dataset"], described["counts"], fields, described["settings"]),
    )


def _find(name: str, revision: str | None, download: bool) -> Path:
    if Path(name).is_dir():
        return Path(name)
    try:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.utils import HFValidationError, validate_repo_id
    except ImportError as error:
        raise CheckpointError(
            f"there is no folder {name}, and the hub needs huggingface_hub: pip install 'recbole_llm_interest[export]'"
        ) from error
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise CheckpointError(f"there is no folder {name}, and it is no name of a model on the hub") from error
    wanted = [CONFIG, WEIGHTS, FEATURES, VOCABULARY, TEXTS, CARD]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted, local_files_only=True))
    except Exception as error:  # not in the cache
        if not download:
            raise CheckpointError(
                f"there is no folder {name}, the hub's cache has no such model, and the hub is not asked unless "
                "download_weights=True"
            ) from error
    try:
        # snapshot_download would ask the same without a limit, and wait for ever where a firewall swallows the answer
        commit = HfApi().repo_info(name, revision=revision, timeout=_HUB_PATIENCE).sha
        return Path(snapshot_download(name, revision=commit, allow_patterns=wanted))
    except Exception as error:
        raise CheckpointError(f"the hub did not give the model {name} ({type(error).__name__})") from error


def _described(folder: Path) -> dict[str, Any]:
    """``config.json``, checked as far as reading on depends on it."""
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {CONFIG}: it is no folder that save_pretrained wrote")
    described = _json(path, path.read_bytes())
    if not isinstance(described, dict) or described.get("model_type") != "llm_interest":
        raise CheckpointError(f"{path} is not of LLMInterest")
    if described.get("format") != _FORMAT:
        raise CheckpointError(
            f"{folder} is of format {str(described.get('format'))[:20]}, and this version reads {_FORMAT}"
        )
    kinds: dict[str, type] = {
        **dict.fromkeys(("sha256", "settings", "id_fields", "encoders", "counts"), dict),
        "dataset": str,
        "max_length": int,
    }
    is_whole = all(type(described.get(key)) is kind for key, kind in kinds.items()) and all(
        isinstance(described["id_fields"].get(kind), str) and isinstance(described["encoders"].get(kind), dict)
        for kind in ("item", "user")
    )
    is_whole = is_whole and all(type(count) is int for count in described["counts"].values())
    if not is_whole or described["max_length"] < 1:
        raise CheckpointError(f"{path} is damaged: it lacks what says how the model is built")
    for key in described["settings"].keys() - _SETTINGS:
        raise CheckpointError(f"{path} sets {key[:80]!r}, which is not for a model to set")
    return described


def _of_encoders(folder: Path, settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The folder's settings of encoders. It cannot have a model loaded from anywhere on this machine."""
    for key in _NAMES_OF_ENCODERS:
        if key not in given and _leads_elsewhere(str(settings.get(key, ""))):
            raise CheckpointError(f"{folder / CONFIG}: {key}={settings[key]!r} is a path: name the encoder by {key}")
    return {key: value for key, value in settings.items() if key in _CONTENT_KEYS}


def _part(folder: Path, name: str, digests: Mapping[str, Any]) -> bytes:
    path = folder / name
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {name}; weights in pickles, as in pytorch_model.bin, are not read")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digests.get(name):
        raise CheckpointError(f"{path} is damaged, or of another model than {CONFIG}: it is not what was written")
    return data


def _texts(folder: Path, digests: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """What is known of items in words; nothing where the file was left out."""
    if not (folder / TEXTS).is_file():
        return {"texts": {}, "labels": {}}
    found = _json(folder / TEXTS, _part(folder, TEXTS, digests))
    if not isinstance(found, dict) or not all(
        isinstance(found.get(key), dict) and all(isinstance(value, str) for value in found[key].values())
        for key in ("texts", "labels")
    ):
        raise CheckpointError(f"{folder / TEXTS} does not hold texts and labels of items")
    return found


def _json(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: it is no JSON") from error


# --- building


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
