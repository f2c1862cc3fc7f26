"""Erases users or items from all files, in order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from recbole.config import Config

from recbole_llm_interest.content.dataset_files import feature_cache
from recbole_llm_interest.erasure.artifacts import DeletionOptions, erase_artifacts
from recbole_llm_interest.erasure.data_files import (
    DataFiles,
    erase_from_table,
    erase_media,
    erase_rows,
    leave_precomputed_features,
)
from recbole_llm_interest.erasure.features import erase_features
from recbole_llm_interest.erasure.id_search import report_remaining_ids
from recbole_llm_interest.erasure.inventory import Inventory
from recbole_llm_interest.erasure.request import Erasure, ErasureRequest
from recbole_llm_interest.errors import RequestError, StorageError
from recbole_llm_interest.io.files import exclusive_data_set_lock
from recbole_llm_interest.io.manifest import absolute
from recbole_llm_interest.settings import ContentSettings, read_settings
from recbole_llm_interest.training.config import comes_with_recbole


def erase(
    config: Config,
    users: Sequence[str] = (),
    items: Sequence[str] = (),
    *,
    checkpoints: bool = False,
    results: bool = False,
) -> Erasure:
    """Delete users or items from everything that is stored about a data set.

    Each file is replaced or deleted as a whole. After an interrupt, the same call continues.

    Args:
        config: of the data set. Its content settings must be those of training.
        users: ids of users.
        items: ids of items.
        checkpoints: whether to delete models that were trained on the data set.
        results: whether to delete tables, results of tuning, and reports.

    Raises:
        RequestError: an id is empty, or the data set is part of RecBole's installation.
        StorageError: the data set is in use, or a file cannot be written; it is unchanged.
    """
    fields = {"user": config["USER_ID_FIELD"], "item": config["ITEM_ID_FIELD"]}
    named = {"user": frozenset(users), "item": frozenset(items)}
    requests = [ErasureRequest(kind, fields[kind], tokens) for kind, tokens in named.items() if tokens]
    if any("" in request.tokens for request in requests):
        raise RequestError("an id is empty: give the id of a user or an item")
    if comes_with_recbole(config):
        raise RequestError(
            f"{config['dataset']} is part of the RecBole installation, which is not changed: copy it under another name"
        )
    erasure = Erasure()
    with exclusive_data_set_lock(Path(config["data_path"])):
        try:
            _erase(config, requests, DeletionOptions(checkpoints, results), erasure)
        except OSError as error:
            raise StorageError(f"{error.filename}: {error.strerror}; fix this and repeat the command") from error
    return erasure


def _erase(config: Config, requests: Sequence[ErasureRequest], options: DeletionOptions, erasure: Erasure) -> None:
    files, settings = DataFiles.of(config), read_settings(ContentSettings, config)
    checkpoint_dir = Path(config["checkpoint_dir"])
    inventory = Inventory.from_manifests(files.folder, files.dataset, checkpoint_dir)
    erase_media(files, requests, erasure)  # before rows are removed, which name the files
    grown = [one.path for one in inventory.own if one.kind == "grown data set" and one.path.is_file()]
    with ExitStack() as locked:
        for path in grown:
            locked.enter_context(exclusive_data_set_lock(path.parent))
        for request in requests:
            for path in grown:
                erase_from_table(files.layout, path, request, erasure)
    for request in requests:
        erase_rows(files, request, erasure)
        erase_artifacts(inventory.own, request, options, erasure)
        leave_precomputed_features(files, settings, request, erasure)
    erase_features(config, settings, _feature_folders(config, settings, inventory, erasure), erasure)
    inventory.leave_ambiguous(erasure)
    inventory.leave_unrecorded(checkpoint_dir, erasure)
    for request in requests:
        report_remaining_ids(files, inventory, checkpoint_dir, request, erasure)
    inventory.drop_deleted()


def _feature_folders(config: Config, settings: ContentSettings, inventory: Inventory, erasure: Erasure) -> list[Path]:
    """Return folders of features of this data set alone. Leave the configured folder if no manifest lists it."""
    own = [artifact.path for artifact in inventory.own if artifact.kind == "features"]
    configured = absolute(feature_cache(config, settings))
    known = {artifact.path for artifact in (*inventory.own, *inventory.shared, *inventory.ambiguous)}
    if configured.is_dir() and configured not in known | inventory.foreign:
        erasure.leave(
            configured, "has encoded features and is not in a manifest: delete it if they are of this data set"
        )
    return own
