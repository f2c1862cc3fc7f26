"""A trained model from a folder in the Hub's conventions: everything that serving needs, and no user's id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from recbole_llm_interest.errors import CheckpointError, LLMInterestError, SettingsError
from recbole_llm_interest.io.folders import current_file
from recbole_llm_interest.io.manifest import Artifact, source_of
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.recommender.loading import content_reader, event_readers
from recbole_llm_interest.recommender.pretrained_model import build_model
from recbole_llm_interest.recommender.trained import Origin, Trained
from recbole_llm_interest.settings import ContentSettings, read_settings
from recbole_llm_interest.settings.portable import ENCODER_NAMES, is_path_outside
from recbole_llm_interest.training.model_folder.format import ADAPTERS, CONFIG, CONTENT_KEYS, FEATURES, WEIGHTS
from recbole_llm_interest.training.model_folder.reading import ModelFolder, refusal

#: errors of building a model from settings and weights that do not fit
_BUILD_ERRORS = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


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
    folder = ModelFolder.find(name, revision=revision, download=content.download_weights)
    config, tokens, texts = folder.config, folder.vocabulary(), folder.texts()
    encoders = _encoder_settings(folder, given)
    content = read_settings(ContentSettings, encoders | given)
    model = _read_model(folder, len(tokens))
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
        source=_source(folder.path, config.dataset),
        event_readers=event_readers(content, model, fingerprints=fingerprints),
        origin=Origin(
            *(config.dataset, config.counts, fields, config.settings | encoders),
            *(config.time_unit, config.data, config.trained_until),
        ),
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


def _read_model(folder: ModelFolder, items: int) -> LLMInterest:
    weights, features = (folder.tensors(part) for part in (WEIGHTS, FEATURES))
    try:
        return build_model(folder.config, weights, features, items)
    except LLMInterestError:
        raise
    except _BUILD_ERRORS as error:
        reason = " ".join(str(error).split())[:200]
        reason = f"is damaged: its settings and its weights do not fit: {reason}"
        raise refusal(folder.path, WEIGHTS, reason) from error


def _encoder_settings(folder: ModelFolder, given: Mapping[str, Any]) -> dict[str, Any]:
    """The folder's settings of encoders. A folder cannot name a path from which to load an encoder."""
    settings = folder.config.settings
    for key in ENCODER_NAMES:
        if key not in given and is_path_outside(str(settings.get(key, ""))):
            raise CheckpointError(
                f"{folder.path / CONFIG}: {key}={settings[key]!r} is a path: name the encoder by {key}"
            )
    return {key: value for key, value in settings.items() if key in CONTENT_KEYS} | _adapters(folder, given)


def _adapters(folder: ModelFolder, given: Mapping[str, Any]) -> dict[str, Any]:
    """The adapters of the encoders: those that are given, else the files in the folder."""
    paths = {key: given[key] for key in ADAPTERS if key in given}
    for key in ADAPTERS.keys() - given.keys():
        if folder.config.settings.get(key) is not None:
            folder.part(ADAPTERS[key])  # which checks its hash
            paths[key] = str(current_file(folder.path, ADAPTERS[key]))
    return paths
