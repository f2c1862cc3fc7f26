"""Deletes users or items from everything that is stored about a data set.

That is the data set's files, with its images and audio; the feature store; RecBole's saved data sets; and the lines of
logs. Trained models are only listed, or deleted on request: weights cannot unlearn a user.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from recbole.config import Config

from recbole_llm_interest.content.blobs import Blob, MediaFile
from recbole_llm_interest.content.feature_store import FeatureStore
from recbole_llm_interest.content.precomputed import read_features
from recbole_llm_interest.data.dataset_files import catalogue_from_config, feature_cache
from recbole_llm_interest.errors import ContentError, DataError, StorageError
from recbole_llm_interest.io.atomic_files import AtomicFormat, drop_rows, read_header
from recbole_llm_interest.io.files import write_atomically
from recbole_llm_interest.settings import MODALITIES, ContentSettings, read_settings

#: where RecBole writes logs, whatever the settings
_LOGS = Path("log")


@dataclass
class Erasure:
    """What was erased.

    Attributes:
        rewritten: files that were written again without the erased users or items.
        deleted: files that were deleted.
        remaining: files that still hold something of them, each with what to do about it.
    """

    rewritten: list[Path] = field(default_factory=list)
    deleted: list[Path] = field(default_factory=list)
    remaining: dict[Path, str] = field(default_factory=dict)


def erase(config: Config, kind: str, tokens: Sequence[str], *, checkpoints: bool = False) -> Erasure:
    """Delete users or items from everything that is stored about a data set.

    Each file is replaced or deleted as a whole. After an interrupt, the same call continues.

    Args:
        config: of the data set. Its content settings have to be those of training.
        kind: ``user`` or ``item``.
        tokens: their ids.
        checkpoints: whether to delete the models that were trained on the data set.

    Raises:
        DataError: the data set cannot be read.
        StorageError: a file cannot be written; it is unchanged.
    """
    eraser = _Eraser(config, kind, tokens)
    try:
        eraser.delete_media()
        eraser.rewrite_content()
        eraser.rewrite_atomic_files()
        eraser.delete_features()
        eraser.rewrite_logs()
        eraser.delete_saved_data_sets()
        eraser.delete_checkpoints(checkpoints)
    except OSError as error:
        raise StorageError(f"{error.filename}: {error.strerror}; run the same command again once that works") from error
    eraser.list_precomputed_features()
    return eraser.erasure


class _Eraser:
    """Erases from one kind of file per method, and records it in ``erasure``.

    Args:
        config: of the data set.
        kind: ``user`` or ``item``.
        tokens: ids to erase.

    Raises:
        DataError: the data set cannot be read.
    """

    def __init__(self, config: Config, kind: str, tokens: Sequence[str]) -> None:
        self.erasure = Erasure()
        self._config = config
        self._tokens = tokens
        self._settings = read_settings(ContentSettings, config)
        self._folder = Path(config["data_path"])
        catalogues = {name: catalogue_from_config(config, name, self._settings) for name in ("item", "user")}
        self._catalogue = catalogues[kind]
        erased = {(kind, token) for token in tokens}
        #: content of everything else by modality: it stays, even where it equals what is erased
        self._kept: list[tuple[str, Blob]] = [
            (modality, blob)
            for name, catalogue in catalogues.items()
            for modality, by_token in catalogue.blobs.items()
            for token, blob in by_token.items()
            if (name, token) not in erased
        ]

    def delete_media(self) -> None:
        """Delete images and audio in the content folder that nothing else refers to."""
        root = (self._catalogue.folder / "content").resolve()
        in_use = {_path_of(blob) for _, blob in self._kept}
        for path in filter(None, map(_path_of, self._erased_blobs())):
            if not path.is_relative_to(root):
                continue
            if path in in_use:
                self.erasure.remaining[path] = "is also another's image or audio"
            elif path.is_file():
                self._delete(path)

    def _erased_blobs(self) -> Iterator[Blob]:
        for by_token in self._catalogue.blobs.values():
            yield from (by_token[token] for token in self._tokens if token in by_token)

    def rewrite_content(self) -> None:
        """Remove their lines from the content folder's JSON lines."""
        path = self._folder / "content" / f"{self._catalogue.kind}s.jsonl"
        if path.is_file():
            self._rewrite_lines(path, self._is_of_them)

    def _is_of_them(self, line: bytes) -> bool:
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            return False
        return isinstance(row, dict) and str(row.get(self._catalogue.id_field)) in self._tokens

    def rewrite_atomic_files(self) -> None:
        """Remove their rows from every atomic file that has a column of their ids."""
        layout, column = AtomicFormat.from_config(self._config), self._catalogue.id_field
        for path in sorted(self._folder.glob(f"{self._config['dataset']}.*")):
            try:
                has_column = column in read_header(path, layout)
            except DataError:  # not an atomic file
                continue
            if has_column and sum(map(len, drop_rows(path, layout, column, self._tokens))) < path.stat().st_size:
                kept = drop_rows(path, layout, column, self._tokens)
                self._rewrite(path, kept)

    def delete_features(self) -> None:
        """Keep only the features of other content; the hash of erased content would not say whose it was."""
        for modality in MODALITIES:
            kept = {key for name, blob in self._kept if name == modality and (key := _key_of(blob)) is not None}
            for store in FeatureStore.all_below(feature_cache(self._config, self._settings), modality):
                for path in store.keep_only(kept):
                    (self.erasure.rewritten if path.exists() else self.erasure.deleted).append(path)

    def rewrite_logs(self) -> None:
        """Remove the lines that have one of their ids in quotes, as messages do."""
        names = [repr(token).encode() for token in self._tokens]
        for path in sorted(_LOGS.rglob("*.log")):
            self._rewrite_lines(path, lambda line: any(name in line for name in names))

    def delete_saved_data_sets(self) -> None:
        """Delete the data sets and data loaders that RecBole saved: they hold every event."""
        for path in self._saved():
            if self._is_saved_data_set(path):
                self._delete(path)

    def delete_checkpoints(self, is_wanted: bool) -> None:
        """Delete the models that were trained on the data set, or list them as remaining."""
        for path in self._saved():
            if self._is_saved_data_set(path):
                continue
            try:
                dataset = torch.load(path, map_location="cpu", weights_only=True)["config"]["dataset"]
            except Exception:  # torch and RecBole raise a dozen kinds
                self.erasure.remaining[path] = "is not a readable checkpoint: check which data set it is of"
                continue
            if dataset != self._config["dataset"]:
                continue
            if is_wanted:
                self._delete(path)
            else:
                self.erasure.remaining[path] = "was trained on them: train again and delete it, or give --checkpoints"

    def _saved(self) -> list[Path]:
        return sorted(Path(self._config["checkpoint_dir"]).glob("*.pth"))

    def _is_saved_data_set(self, path: Path) -> bool:
        return path.name.startswith(f"{self._config['dataset']}-")

    def list_precomputed_features(self) -> None:
        """List precomputed features as remaining: their formats are too many to write."""
        for modality in MODALITIES:
            name = getattr(self._settings, f"{self._catalogue.kind}_{modality}_features")
            if name is None:
                continue
            path = self._folder / name
            try:
                read_features(path, self._tokens, self._catalogue.kind, self._catalogue.id_field)
            except DataError:  # it has none of them
                continue
            self.erasure.remaining[path] = "holds precomputed features of them: make the file again without them"

    def _rewrite_lines(self, path: Path, is_erased: Callable[[bytes], bool]) -> None:
        """Remove lines from a file, if it has any of them; the others stay byte for byte."""
        with path.open("rb") as file:
            lines = list(file)
        kept = [line for line in lines if not is_erased(line)]
        if len(kept) < len(lines):
            self._rewrite(path, kept)

    def _rewrite(self, path: Path, parts: Iterable[bytes]) -> None:
        write_atomically(path, lambda file: file.writelines(parts))
        self.erasure.rewritten.append(path)

    def _delete(self, path: Path) -> None:
        path.unlink()
        self.erasure.deleted.append(path)


def _path_of(blob: Blob) -> Path | None:
    return (blob.root / blob.name).resolve() if isinstance(blob, MediaFile) else None


def _key_of(blob: Blob) -> bytes | None:
    try:
        return blob.key()
    except ContentError:  # it cannot be read, so that nothing is stored of it
        return None
