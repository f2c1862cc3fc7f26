"""From a checkpoint to what a recommender needs: the model, ids, texts and titles of its items, and the encoders."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed
from torch import Tensor

from recbole_llm_interest.content.blobs import Text
from recbole_llm_interest.content.dataset_files import catalogue_from_config
from recbole_llm_interest.content.event_catalogue import EventCatalogue, text_settings
from recbole_llm_interest.content.event_fields import EventKind
from recbole_llm_interest.content.event_times import time_unit
from recbole_llm_interest.content.interaction_files import RecordedHistories
from recbole_llm_interest.content.text_template import text_writer
from recbole_llm_interest.data.training_events import UserHistories
from recbole_llm_interest.errors import CheckpointError, is_out_of_memory
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint
from recbole_llm_interest.io.checkpoints.schema import Checkpoint
from recbole_llm_interest.io.files import shared_data_set_lock
from recbole_llm_interest.io.manifest import Artifact, absolute, recorded_data_path
from recbole_llm_interest.io.opening import is_there
from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.former_names import current_name
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.model.shared_content import SharedContent
from recbole_llm_interest.recommender.allowance import Allowance, check_sizes
from recbole_llm_interest.recommender.encoding import ContentReader
from recbole_llm_interest.recommender.event_reading import EventReader
from recbole_llm_interest.recommender.known_columns import KnownColumns
from recbole_llm_interest.recommender.trained import Histories, Origin, Trained
from recbole_llm_interest.settings import ContentSettings, ModelSettings, read_settings, settings_keys
from recbole_llm_interest.settings.portable import portable_settings, withheld_content
from recbole_llm_interest.training.checkpoint import restore_model
from recbole_llm_interest.training.config import as_user_error, configure, empty_command_line
from recbole_llm_interest.training.run_metadata import contents_of, data_digests, digest, effective_settings


class OpenedCheckpoint(NamedTuple):
    """A checkpoint that is read, before its model is built.

    Attributes:
        path: of the file.
        saved: its content.
        config: RecBole's, as ``read_configuration`` returns it.

    Example:
        >>> with checkpoint_in_use(checkpoint, {}) as opened:
        ...     opened.config["model"]
        'LLMInterest'
    """

    path: Path
    saved: Checkpoint
    config: Config


def load_trained(checkpoint: Path, settings: dict[str, Any]) -> Trained:
    """Read a checkpoint, the data set it was trained on, and its features from the cache.

    Args:
        checkpoint: written by ``run_recbole.py``. No code in it is run.
        settings: those that differ from training, such as ``data_path`` or ``feature_cache``.

    Raises:
        LLMInterestError: the checkpoint or the data set is missing, damaged, or not that of training.
    """
    return load_opened(OpenedCheckpoint(checkpoint, *read_configuration(checkpoint, settings)))


def load_opened(opened: OpenedCheckpoint) -> Trained:
    """Build the model of a checkpoint that is read already; see ``load_trained``.

    Args:
        opened: from ``checkpoint_in_use``. RecBole changes its configuration.

    Raises:
        LLMInterestError: the data set is missing, damaged, or not that of training.
    """
    checkpoint, saved, config = opened
    config["event_codes"] = (saved.get("other_parameter") or {}).get("event_codes")
    with as_user_error("the data or the settings"):
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        events, unit = len(dataset.inter_feat), _time_unit(dataset)  # before RecBole splits it
        train_data, _, _ = data_preparation(config, dataset)
        model = _build(checkpoint, config, train_data._dataset, saved["state_dict"]).to(config["device"])
    items, users = (
        [str(token) for token in dataset.field2id_token[field]] for field in (dataset.iid_field, dataset.uid_field)
    )
    if saved["config"]["item_digest"] not in (None, digest(items)):
        raise CheckpointError(
            f"checkpoint {checkpoint} was trained on other items, or on the same in another order: the data set "
            f"{config['dataset']} has changed since; train again"
        )
    restore_model(model, saved)
    _compare_data(checkpoint, saved.get("data", {}), data_digests(config, train_data._dataset))
    counts = {"users": len(users) - 1, "items": len(items) - 1, "events": events}
    source = Artifact(absolute(checkpoint), "checkpoint", config["dataset"], absolute(Path(config["data_path"])))
    trained_on = UserHistories(train_data._dataset.training_events(), users, items)
    trained = _trained(config, model, items, users, counts, unit, trained_on)
    origin = trained.origin and replace(
        trained.origin, data=saved.get("data", {}), trained_until=saved.get("trained_until")
    )
    settings = read_settings(ContentSettings, config)
    recorded = {kind: one.catalogue for kind, one in train_data._dataset.side_information.items()}
    return replace(trained, origin=origin, source=source, event_readers=event_readers(settings, model, recorded))


def _build(checkpoint: Path, config: Config, dataset: Any, weights: Mapping[str, Tensor]) -> LLMInterest:
    """Build the model before its weights are loaded. A checkpoint cannot request a larger model than its weights."""
    features = [one.values for content in contents_of(dataset).values() for one in content.values()]
    numbers = sum(values.numel() for values in (*weights.values(), *features))
    try:
        named = {current_name(name): values for name, values in weights.items()}
        check_sizes(read_settings(ModelSettings, config), config["MAX_ITEM_LIST_LENGTH"], named)
        with Allowance.of_files(numbers + dataset.user_num + dataset.item_num):
            return LLMInterest(config, dataset)
    except (AssertionError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"checkpoint {checkpoint}: its settings and its weights do not fit: {reason}") from error


def _compare_data(checkpoint: Path, then: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Warn that the data have changed since training. It is not an error: serving may use new events and titles."""
    changed = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    if then and changed:
        logging.getLogger(__name__).warning(
            "checkpoint %s was trained on other data: %s changed since", checkpoint, ", ".join(changed)
        )


@contextmanager
def checkpoint_in_use(checkpoint: Path, settings: dict[str, Any]) -> Iterator[OpenedCheckpoint]:
    """Read a checkpoint, and lock its data set while files are made from it; see ``shared_data_set_lock``.

    Args:
        checkpoint: as for ``load_trained``.
        settings: as for ``load_trained``.

    Raises:
        LLMInterestError: as ``read_configuration``; or the checkpoint was deleted meanwhile, as by ``forget``.
        StorageError: users or items are being removed from the data set.
    """
    opened = OpenedCheckpoint(checkpoint, *read_configuration(checkpoint, settings))
    with shared_data_set_lock(Path(opened.config["data_path"])):
        if not is_there(checkpoint):
            raise CheckpointError(f"checkpoint {checkpoint} was deleted while it was read")
        yield opened


def _trained(
    config: Config,
    model: LLMInterest,
    items: list[str],
    users: list[str],
    counts: dict[str, int],
    unit: Literal["s", "ms"] | None,
    trained_on: Histories,
) -> Trained:
    """A model with the content that the data set's files have of its items."""
    content = read_settings(ContentSettings, config)
    catalogue = catalogue_from_config(config, "item", content)
    texts = {token: blob.text for token, blob in catalogue.blobs["text"].items() if isinstance(blob, Text)}
    id_fields = {"item": config["ITEM_ID_FIELD"], "user": config["USER_ID_FIELD"]}
    return Trained(
        model=model,
        tokens=items,
        users={token: row for row, token in enumerate(users) if row},
        max_length=config["MAX_ITEM_LIST_LENGTH"],
        texts=texts,
        labels=catalogue.labels,
        item_reader=content_reader("item", id_fields["item"], content, model.item_encoder, texts.values()),
        user_reader=content_reader("user", id_fields["user"], content, model.user_encoder),
        recorded=RecordedHistories(config),
        trained_on=trained_on,
        origin=Origin(
            config["dataset"],
            counts,
            id_fields,
            effective_settings(config),
            unit,
        ),
        categories=catalogue.category_columns.categories(),
    )


def _time_unit(dataset: Any) -> Literal["s", "ms"] | None:
    """Unit of the event times of a RecBole data set that is not built yet."""
    if dataset.time_field not in dataset.inter_feat:
        return None
    return time_unit(float(dataset.inter_feat[dataset.time_field].min()))


def read_configuration(checkpoint: Path, settings: dict[str, Any]) -> tuple[Checkpoint, Config]:
    """A checkpoint of this package's model, and the RecBole configuration of its training.

    Args:
        checkpoint: written by ``run_recbole.py``. No code in it is run.
        settings: those that differ from training.

    Raises:
        LLMInterestError: the checkpoint is missing, damaged or of another model, or a setting is invalid.
    """
    saved = load_checkpoint(checkpoint)
    overrides = settings_of_training(checkpoint, saved, settings)
    with empty_command_line():
        return saved, configure(LLMInterest.__name__, saved["config"]["dataset"], overrides=overrides)


def settings_of_training(checkpoint: Path, saved: Checkpoint, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a training, with the places of its data if this user trained it here.

    Args:
        checkpoint: whose training it is.
        saved: what it has.
        settings: those that differ from training.

    Raises:
        CheckpointError: it is of another model, or was trained with files that it may not name.
    """
    trained = saved["config"]
    if trained["model"] != LLMInterest.__name__:
        raise CheckpointError(f"checkpoint {checkpoint} is of model {trained['model']!r}, not LLMInterest")
    in_effect = {key: trained["settings"][key] for key in settings_keys() if key in trained["settings"]}
    recorded = {**trained["given"], **in_effect}
    for key in withheld_content(recorded):
        if key not in settings:
            raise CheckpointError(
                f"checkpoint {checkpoint} was trained with {key}={recorded[key]!r}, and a checkpoint may not name "
                f"files elsewhere: give {key}"
            )
    return {**portable_settings(recorded), **_places(checkpoint), **settings}


def _places(checkpoint: Path) -> dict[str, Any]:
    """Return the paths of data and features of the training, if this user trained the checkpoint here."""
    data_path = recorded_data_path(checkpoint)
    return {} if data_path is None else {"data_path": str(data_path), "checkpoint_dir": str(checkpoint.parent)}


def content_reader(
    kind: str,
    id_field: str,
    settings: ContentSettings,
    encoder: EntityEncoder | SharedContent | None,
    texts: Collection[str] = (),
    fingerprints: Mapping[str, str] | None = None,
) -> ContentReader | None:
    """The reader of the content of new items or users; None if the model uses no content of them.

    Args:
        kind: item, user, event or context.
        id_field: name of the column of their ids.
        settings: of the encoders.
        encoder: of their content.
        texts: of training, where they are known.
        fingerprints: of the encoders of training, by modality, where they are known.
    """
    if encoder is None or not encoder.encoded_sizes:
        return None
    fields, template = text_settings(kind, settings)
    write_text, named = text_writer(kind, id_field, fields, template)
    columns = KnownColumns(id_field, named, texts)
    return ContentReader(kind, settings, write_text, columns, encoder.encoded_sizes, fingerprints or {})


def event_readers(
    settings: ContentSettings,
    model: LLMInterest,
    recorded: Mapping[str, EventCatalogue] | None = None,
    fingerprints: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[EventKind, EventReader]:
    """The readers of events, and of what is known before a choice, where the model reads it.

    Args:
        settings: of the encoders.
        model: trained.
        recorded: in the data set, by kind; None without a data set.
        fingerprints: of the encoders of training, by kind and modality, where they are known.
    """
    readers = {}
    for encoder in (model.event_encoder.side_information, model.context.side_information):
        if encoder is not None:
            catalogue = (recorded or {}).get(encoder.kind)
            texts, encoders = () if catalogue is None else catalogue.texts, (fingerprints or {}).get(encoder.kind)
            content = content_reader(encoder.kind, "", settings, encoder.content, texts, encoders)
            neighbours = model.history_bias.event_neighbours if encoder.kind == "event" else None
            readers[encoder.kind] = EventReader(encoder, content, catalogue, neighbours)
    return readers
