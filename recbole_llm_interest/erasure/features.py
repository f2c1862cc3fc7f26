"""Deletes encoded features of removed content. They are stored under hashes of the content, not under ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from recbole.config import Config

from recbole_llm_interest.content.blobs import Blob
from recbole_llm_interest.content.dataset_files import catalogue_from_config
from recbole_llm_interest.content.event_catalogue import read_event_content
from recbole_llm_interest.content.event_fields import EVENT_KINDS
from recbole_llm_interest.content.feature_store import FeatureStore
from recbole_llm_interest.erasure.request import Erasure
from recbole_llm_interest.errors import ContentError, LLMInterestError
from recbole_llm_interest.settings import MODALITIES, ContentSettings


def erase_features(config: Config, settings: ContentSettings, folders: Iterable[Path], erasure: Erasure) -> None:
    """Delete features of content that the data set no longer contains, and lists of nearest items.

    Args:
        config: of the data set, whose erased rows are already removed.
        settings: those of training.
        folders: of encoded features of this data set alone.
        erasure: records what is done.
    """
    folders = [folder for folder in folders if folder.is_dir()]
    if not folders:
        return
    try:
        kept = _keys(config, settings)
    except LLMInterestError as error:
        for folder in folders:
            erasure.leave(folder, f"has encoded features, and the content cannot be read ({error}): delete it")
        return
    for folder in folders:
        _erase_from(folder, kept, erasure)


def _erase_from(folder: Path, kept: Mapping[str, set[bytes]], erasure: Erasure) -> None:
    for modality in MODALITIES:
        for store in FeatureStore.all_below(folder, modality):
            store.remove_unfinished()
            for path in store.keep_only(kept[modality]):
                (erasure.rewritten if path.exists() else erasure.deleted).append(path)
    neighbours = folder / "neighbours"
    for path in sorted(neighbours.iterdir()) if neighbours.is_dir() else ():
        erasure.delete(path)


def _keys(config: Config, settings: ContentSettings) -> dict[str, set[bytes]]:
    """Return hashes of all content of the data set, by modality."""
    keys: dict[str, set[bytes]] = {modality: set() for modality in MODALITIES}
    catalogues = [
        *(catalogue_from_config(config, kind, settings) for kind in ("item", "user")),
        *(read_event_content(config, settings, kind).contents for kind in EVENT_KINDS),
    ]
    for catalogue in catalogues:
        for modality, blobs in catalogue.blobs.items():
            keys[modality].update(key for blob in blobs.values() if (key := _key_of(blob)) is not None)
    return keys


def _key_of(blob: Blob) -> bytes | None:
    try:
        return blob.key()
    except ContentError:  # unreadable content has no features
        return None
