"""``python -m recbole_llm_interest.forget --dataset=… --user=…`` takes a user or an item out of all that is stored.

Out of the data set's files, pictures and sounds included; out of the store of features, whose rows are found by what
the others still need, since a hash of what is gone says nothing; out of RecBole's saved data sets; and out of the log's
lines. Trained models are only named, unless ``--checkpoints`` deletes them, too: weights cannot be relieved of what
they have learnt. Interrupted, the same command goes on.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from recbole.config import Config

from recbole_llm_interest.cli.common import exit_code, parse_arguments, settings_parser
from recbole_llm_interest.content.blobs import MediaFile
from recbole_llm_interest.content.catalogue import Catalogue
from recbole_llm_interest.content.feature_store import FeatureStore
from recbole_llm_interest.content.precomputed import read_features
from recbole_llm_interest.data.dataset import catalogue_of, feature_cache
from recbole_llm_interest.errors import ContentError, DataError, SettingsError, StorageError
from recbole_llm_interest.io.atomic_files import AtomicFormat, read_header, without
from recbole_llm_interest.io.files import write_atomically
from recbole_llm_interest.settings import MODALITIES, ContentSettings, read_settings
from recbole_llm_interest.training.config import configure

#: where RecBole writes logs, whatever the settings
_LOGS = Path("log")


@dataclass
class Forgotten:
    """What was done about it.

    Attributes:
        written: files that were written anew without it.
        deleted: files that are gone.
        left: files that still hold something of it, with what to do about them.
    """

    written: list[Path] = field(default_factory=list)
    deleted: list[Path] = field(default_factory=list)
    left: dict[Path, str] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = settings_parser(
        "python -m recbole_llm_interest.forget", "Take users or items out of all that is stored of a data set."
    )
    parser.add_argument("--user", action="append", default=[], help="id of a user; may come several times")
    parser.add_argument("--item", action="append", default=[], help="id of an item; may come several times")
    parser.add_argument("--checkpoints", action="store_true", help="delete the data set's trained models, too")

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        if not options.user and not options.item:
            raise SettingsError("command line: nothing to forget; name it by --user or --item")
        config = configure("LLMInterest", options.dataset, options.config_files, overrides)
        for kind, tokens in (("user", options.user), ("item", options.item)):
            if tokens:
                _report(forget(config, kind, tokens, checkpoints=options.checkpoints))

    return exit_code(job, kept="each file is whole, with or without it; the same command goes on from there")


def _report(forgotten: Forgotten) -> None:
    for what, paths in (("written anew", forgotten.written), ("deleted", forgotten.deleted)):
        print(f"{what}: {', '.join(map(str, paths)) or 'nothing'}")
    for path, advice in forgotten.left.items():
        print(f"left: {path} {advice}")


def forget(config: Config, kind: str, tokens: Sequence[str], *, checkpoints: bool = False) -> Forgotten:
    """Take users or items out of all that is stored of a data set.

    Args:
        config: of the data set; the settings that say what its content is have to be those of training.
        kind: user or item.
        tokens: their ids.
        checkpoints: whether to delete the models that were trained on the data set, too.

    Raises:
        DataError: the data set cannot be read.
        StorageError: a file cannot be written; it is as it was.
    """
    settings = read_settings(ContentSettings, config)
    folder, done = Path(config["data_path"]), Forgotten()
    catalogues = {name: catalogue_of(config, name, settings) for name in ("item", "user")}
    gone, catalogue = set(tokens), catalogues[kind]
    blobs: list[tuple[str, Any]] = [
        (modality, piece)
        for name, known in catalogues.items()
        for modality, by_token in known.blobs.items()
        for token, piece in by_token.items()
        if not (name == kind and token in gone)
    ]
    try:
        _delete_media(catalogue, gone, {_place(piece) for _, piece in blobs}, done)
        _rewrite_jsonl(folder / "content" / f"{kind}s.jsonl", catalogue.id_field, gone, done)
        _rewrite_atomic_files(folder, config, catalogue.id_field, tokens, done)
        for modality in MODALITIES:
            kept = {key for name, piece in blobs if name == modality and (key := _key(piece)) is not None}
            for store in FeatureStore.all_below(feature_cache(config, settings), modality):
                for path in store.keep_only(kept):
                    (done.written if path.exists() else done.deleted).append(path)
        _rewrite_logs(tokens, done)
        _take_saved(config, checkpoints, done)
    except OSError as error:
        raise StorageError(f"{error.filename}: {error.strerror}; say the same again when that is mended") from error
    _name_features(folder, settings, catalogue, tokens, done)
    return done


def _place(piece: Any) -> Path | None:
    return (piece.root / piece.name).resolve() if isinstance(piece, MediaFile) else None


def _key(piece: Any) -> bytes | None:
    try:
        return bytes(piece.key())
    except ContentError:  # nothing is stored of it
        return None


def _delete_media(catalogue: Catalogue, gone: Iterable[str], in_use: set[Path | None], done: Forgotten) -> None:
    """Delete the pictures and sounds that nothing else names, below the content folder only."""
    root = (catalogue.folder / "content").resolve()
    for by_token in catalogue.blobs.values():
        for piece in (by_token[token] for token in gone if token in by_token):
            path = _place(piece)
            if path is None or not path.is_relative_to(root):
                continue
            if path in in_use:
                done.left[path] = "is another's picture or sound, too"
            elif path.is_file():
                path.unlink()
                done.deleted.append(path)


def _rewrite_jsonl(path: Path, id_field: str, gone: set[str], done: Forgotten) -> None:
    if not path.is_file():
        return
    _rewrite(path, lambda line: _is_of(line, id_field, gone), done)


def _rewrite(path: Path, is_gone: Callable[[bytes], bool], done: Forgotten) -> None:
    """Take lines out of a file, if it has such; the others stay byte for byte."""
    with path.open("rb") as file:
        lines = list(file)
    kept = [line for line in lines if not is_gone(line)]
    if len(kept) < len(lines):
        write_atomically(path, lambda file: file.writelines(kept))
        done.written.append(path)


def _is_of(line: bytes, id_field: str, gone: set[str]) -> bool:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and str(row.get(id_field)) in gone


def _rewrite_atomic_files(folder: Path, config: Config, id_field: str, tokens: Sequence[str], done: Forgotten) -> None:
    layout = AtomicFormat.of(config)
    for path in sorted(folder.glob(f"{config['dataset']}.*")):
        try:
            is_about_it = id_field in read_header(path, layout)
        except DataError:  # no atomic file
            continue
        if is_about_it and sum(map(len, without(path, layout, id_field, tokens))) < path.stat().st_size:
            kept = without(path, layout, id_field, tokens)
            write_atomically(path, functools.partial(_write, kept))
            done.written.append(path)


def _write(blobs: Iterable[bytes], file: BinaryIO) -> None:
    file.writelines(blobs)


def _rewrite_logs(tokens: Sequence[str], done: Forgotten) -> None:
    """Take out the lines that name it in quotes, as messages do."""
    names = [repr(token).encode() for token in tokens]
    for path in sorted(_LOGS.rglob("*.log")):
        _rewrite(path, lambda line: any(name in line for name in names), done)


def _take_saved(config: Config, checkpoints: bool, done: Forgotten) -> None:
    """RecBole's saved data sets and loaders hold every event; checkpoints, what was learnt from them."""
    for path in sorted(Path(config["checkpoint_dir"]).glob("*.pth")):
        if path.name.startswith(f"{config['dataset']}-"):
            path.unlink()
            done.deleted.append(path)
            continue
        try:
            is_trained_on_it = _config_of(path)["dataset"] == config["dataset"]
        except Exception:  # torch and RecBole raise a dozen kinds
            done.left[path] = "is no checkpoint that can be read here: see for yourself whose it is"
            continue
        if is_trained_on_it and checkpoints:
            path.unlink()
            done.deleted.append(path)
        elif is_trained_on_it:
            done.left[path] = "was trained on it: train again and delete this, or say --checkpoints"


def _config_of(checkpoint: Path) -> Any:
    return torch.load(checkpoint, map_location="cpu", weights_only=True)["config"]


def _name_features(
    folder: Path, settings: ContentSettings, catalogue: Catalogue, tokens: Sequence[str], done: Forgotten
) -> None:
    """Features made elsewhere come in too many layouts to be written anew here."""
    for modality in MODALITIES:
        file = getattr(settings, f"{catalogue.kind}_{modality}_features")
        if file is not None:
            try:
                read_features(folder / file, tokens, catalogue.kind, catalogue.id_field)
            except DataError:  # none of them is in it
                continue
            done.left[folder / file] = "holds features of it that were made elsewhere: make the file anew without it"


if __name__ == "__main__":
    sys.exit(main())
