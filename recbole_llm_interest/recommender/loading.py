"""From a checkpoint to all that a recommender needs: the model, its items' names and words, and the encoders."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed

from recbole_llm_interest.content.blobs import Text
from recbole_llm_interest.content.catalogue import text_writer
from recbole_llm_interest.data.dataset import catalogue_from_config, read_histories
from recbole_llm_interest.errors import CheckpointError
from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.recommender.encoding import ContentReader
from recbole_llm_interest.settings import ContentSettings, read_settings, settings_keys
from recbole_llm_interest.training.checkpoint import load_checkpoint, restore_model
from recbole_llm_interest.training.config import as_user_error, configure
from recbole_llm_interest.training.run_metadata import digest, effective_settings


@dataclass(frozen=True)
class Origin:
    """What a model was trained on, and how.

    Attributes:
        dataset: the data set's name.
        counts: how many users, items and events that has.
        id_fields: what the columns of ids are called there, by kind.
        settings: that decided what the model became, in plain values.
    """

    dataset: str
    counts: dict[str, int]
    id_fields: dict[str, str]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Trained:
    """What training left, and what the data set says.

    Attributes:
        model: with the checkpoint's weights.
        tokens: the items' names, by internal id.
        users: the users' internal ids, by name.
        max_length: ``MAX_ITEM_LIST_LENGTH``.
        texts: what is known of items in words, by token.
        labels: the same at its shortest, as a title.
        item_reader: encodes the content of new items; None where the model knows items by their IDs alone.
        user_reader: the same for users.
        recorded: looks up the items and times of a user's recorded events.
        origin: what it was trained on; None where that is not known.
    """

    model: LLMInterest
    tokens: list[str]
    users: dict[str, int]
    max_length: int
    texts: dict[str, str]
    labels: dict[str, str]
    item_reader: ContentReader | None
    user_reader: ContentReader | None
    recorded: Callable[[Sequence[str]], list[tuple[list[str], list[float]]]]
    origin: Origin | None = None


def load_trained(checkpoint: Path, settings: dict[str, Any]) -> Trained:
    """Read a checkpoint, the data set that it was trained on, and its features from the cache.

    Args:
        checkpoint: as ``run_recbole.py`` writes them. No code in it is run.
        settings: what is otherwise than in training, as ``data_path`` or ``feature_cache``.

    Raises:
        LLMInterestError: the checkpoint or the data set is missing, damaged, or not what it was in training.
    """
    saved, config = read_configuration(checkpoint, settings)
    trained = saved["config"]
    with as_user_error("the data or the settings"):
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        events = len(dataset.inter_feat)
        train_data, _, _ = data_preparation(config, dataset)
        model = LLMInterest(config, train_data._dataset).to(config["device"])
    items, users = (
        [str(token) for token in dataset.field2id_token[field]] for field in (dataset.iid_field, dataset.uid_field)
    )
    if trained["item_digest"] not in (None, digest(items)):
        raise CheckpointError(
            f"checkpoint {checkpoint} was trained on other items, or on the same in another order: "
            f"{config['dataset']} has changed since; train again"
        )
    restore_model(model, saved)
    content = read_settings(ContentSettings, config)
    catalogue = catalogue_from_config(config, "item", content)
    texts = catalogue.blobs["text"].items()
    return Trained(
        model,
        items,
        {token: row for row, token in enumerate(users) if row},
        config["MAX_ITEM_LIST_LENGTH"],
        {token: piece.text for token, piece in texts if isinstance(piece, Text)},
        catalogue.labels,
        content_reader("item", config["ITEM_ID_FIELD"], content, model.item_encoder),
        content_reader("user", config["USER_ID_FIELD"], content, model.user_encoder),
        lambda users: read_histories(config, users),
        Origin(
            config["dataset"],
            {"users": len(users) - 1, "items": len(items) - 1, "events": events},
            {"item": config["ITEM_ID_FIELD"], "user": config["USER_ID_FIELD"]},
            effective_settings(config),
        ),
    )


def read_configuration(checkpoint: Path, settings: dict[str, Any]) -> tuple[dict[str, Any], Config]:
    """A checkpoint of this package's model, and RecBole's configuration that it was trained under.

    Args:
        checkpoint: as ``run_recbole.py`` writes them. No code in it is run.
        settings: what is otherwise than in training.

    Raises:
        LLMInterestError: the checkpoint is missing, damaged or of another model, or a setting cannot be used.
    """
    saved = load_checkpoint(checkpoint)
    trained = saved["config"]
    if trained["model"] != LLMInterest.__name__:
        raise CheckpointError(f"checkpoint {checkpoint} is of model {trained['model']!r}, not LLMInterest")
    in_effect = {key: trained[key] for key in settings_keys() if key in trained}
    overrides = {**trained.external_config_dict, **in_effect, **settings}
    with _without_words():
        return saved, configure(LLMInterest.__name__, trained["dataset"], overrides=overrides)


@contextmanager
def _without_words() -> Iterator[None]:
    """Keep the process' command line from RecBole, which would read it as settings, whatever program this is."""
    words = sys.argv
    sys.argv = words[:1]
    try:
        yield
    finally:
        sys.argv = words


def content_reader(
    kind: str,
    id_field: str,
    settings: ContentSettings,
    fusion: EntityEncoder | None,
    fingerprints: Mapping[str, str] | None = None,
) -> ContentReader | None:
    """What reads the content of new items or users; None where the model knows them by their IDs alone, or not at all.

    Args:
        kind: item or user.
        id_field: what the column of their ids is called.
        settings: of the encoders.
        fusion: of the items or users.
        fingerprints: of the encoders that made what the model was trained on, by modality, where they are known.
    """
    if fusion is None or not len(fusion.features):
        return None
    fields, template = getattr(settings, f"{kind}_text_fields"), getattr(settings, f"{kind}_text_template")
    write_text, _ = text_writer(kind, id_field, fields, template)
    return ContentReader(kind, settings, write_text, fusion.encoded_sizes, fingerprints or {})
