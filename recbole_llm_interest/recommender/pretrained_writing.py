"""Writes a trained model as a folder in the Hub's conventions: everything that serving needs, and no user's id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

import recbole_llm_interest
from recbole_llm_interest.content.encoders.adapter_file import adapter_bytes
from recbole_llm_interest.content.transitions import Transitions
from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.evaluation.results import RunResult
from recbole_llm_interest.io.files import write_atomically
from recbole_llm_interest.io.folders import replace_files
from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.event_encoder import SideInformationEncoder
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.model.shared_content import SharedContent
from recbole_llm_interest.recommender.card import model_card
from recbole_llm_interest.recommender.trained import Origin, Trained
from recbole_llm_interest.training.model_folder.format import (
    ADAPTERS,
    CARD,
    CONFIG,
    FEATURES,
    FORMAT,
    TEXTS,
    VOCABULARY,
    WEIGHTS,
    published,
)


def write_pretrained(trained: Trained, folder: Path, result: RunResult | None, license: str) -> list[Path]:  # noqa: A002
    """Write a trained model and what serving it needs, and return the files.

    A former model of the folder is replaced as a whole: after a kill, the folder has one of the two.

    Args:
        trained: from ``load_trained`` or ``read_pretrained``.
        folder: is created if it does not exist; other files in it stay.
        result: of the training run, for the model card.
        license: for the model card.

    Raises:
        RequestError: it is unknown what the model was trained on.
        EncoderError: the adapter of an encoder is missing.
        StorageError: a file cannot be written, or another process is writing to the folder.
    """
    parts = model_files(trained, result, license)
    trained.record("export", [folder / name for name in parts])
    with replace_files(folder) as new:
        write_parts(parts, new)
    return [folder / name for name in parts]


def write_parts(parts: Mapping[str, bytes], folder: Path) -> None:
    """Write files by their names."""
    for name, data in parts.items():
        write_atomically(folder / name, lambda file, data=data: file.write(data), "name another folder")  # type: ignore[misc]


def model_files(trained: Trained, result: RunResult | None, license: str) -> dict[str, bytes]:  # noqa: A002
    """Return the content of an exported folder's files by their names; the arguments are those of ``write_pretrained``.

    Raises:
        RequestError: it is unknown what the model was trained on.
        EncoderError: the adapter of an encoder is missing.
    """
    if trained.origin is None:
        raise RequestError("only a model that was loaded from a checkpoint or a folder can be saved")
    texts = {"texts": trained.texts, "labels": trained.labels, "categories": trained.categories}
    weights = {name: values.detach().cpu().contiguous() for name, values in trained.model.state_dict().items()}
    settings = trained.origin.settings
    parts = {
        **{file: adapter_bytes(settings[key]) for key, file in ADAPTERS.items() if settings.get(key) is not None},
        WEIGHTS: save(weights),
        FEATURES: save(_features_of(trained.model)),
        VOCABULARY: json.dumps(trained.tokens, ensure_ascii=False).encode(),
        TEXTS: json.dumps(texts, ensure_ascii=False).encode(),
        CARD: model_card(trained, result, license).encode(),
    }
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in parts.items() if name != CARD}
    config = {**_describe(trained, trained.origin), "sha256": hashes}
    parts[CONFIG] = json.dumps(config, indent=1, ensure_ascii=False).encode()
    return parts


def _describe(trained: Trained, origin: Origin) -> dict[str, Any]:
    """The content of ``config.json``, except hashes."""
    readers = [("item", trained.item_reader), ("user", trained.user_reader), *trained.event_readers.items()]
    return {
        "library_name": recbole_llm_interest.__name__,
        "library_version": recbole_llm_interest.__version__,
        "model_type": "llm_interest",
        "architectures": [LLMInterest.__name__],
        "format": FORMAT,
        "dataset": origin.dataset,
        "counts": origin.counts,
        "data": origin.data,
        "id_fields": origin.id_fields,
        "time_unit": origin.time_unit,
        "trained_until": origin.trained_until,
        "max_length": trained.max_length,
        "encoders": {kind: {} if reader is None else reader.find_fingerprints() for kind, reader in readers},
        "event_fields": trained.model.event_codes,
        "settings": published(origin.settings),
    }


def _encoders_of(model: LLMInterest) -> list[SideInformationEncoder]:
    """What the model reads of events, and before a choice."""
    encoders = (model.event_encoder.side_information, model.context.side_information)
    return [encoder for encoder in encoders if encoder is not None]


def _features_of(model: LLMInterest) -> dict[str, Tensor]:
    """Features of all items before conditioning; of users and events one row, which gives the width."""
    tensors = _table("item", model.item_encoder, slice(None))
    tensors["item_neighbours"] = model.item_encoder.get_buffer("neighbours")
    if (transitions := model.history_bias.transitions) is not None:  # of the tables, that of all users
        tensors |= {f"item_transition_{part}": transitions.get_buffer(part)[-1] for part in Transitions._fields}
    if (lookup := model.history_bias.event_neighbours) is not None:
        for name in lookup.modalities:
            profiles = lookup.profiles(name)
            tensors |= {f"item_profile_{name}": profiles.items, f"event_mean_{name}": profiles.mean[None]}
    if model.user_encoder is not None:
        tensors |= _table("user", model.user_encoder, slice(1))
    for encoder in _encoders_of(model):
        if encoder.content is not None:
            tensors |= _table(encoder.kind, encoder.content, slice(1))
    return {name: values.cpu().contiguous() for name, values in tensors.items()}


def _table(kind: str, encoder: EntityEncoder | SharedContent, rows: slice) -> dict[str, Tensor]:
    values = {f"{kind}_{name}": features.values[rows] for name, features in encoder.content.items()}
    return values | {f"{kind}_present": encoder.get_buffer("present")[rows]}
