"""Finds pretrained weights, checks that they are complete, and computes their fingerprints."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import itertools
import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_llm_interest.content.encoders import weights_free_encoders
from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.io.opening import FileKind, is_folder, open_regular, shown_path
from recbole_llm_interest.settings import Modality

#: seconds to wait for the hub's first answer
_HUB_TIMEOUT = 2
_WEIGHTS = {".safetensors", ".bin", ".pt"}
_FINGERPRINTED_SUFFIXES = {*_WEIGHTS, ".json", ".txt", ".model"}
#: downloaded first; pickled weights, which torch loads with weights_only, are downloaded only if there are no others
_PATTERNS = ["*.safetensors", "*.json", "*.txt", "*.model"]
#: weights that checkpoints often lack and that features do not depend on: the mask of pretraining, and the pooler of
#: text models, whose tokens are pooled by sentence-transformers
_UNUSED_WEIGHTS: dict[Modality, tuple[str, ...]] = {"text": ("pooler.",), "audio": ("masked_spec_embed",)}
#: the largest models have a few hundred files
_MAX_FILES = 10_000
_MODEL_FILE = FileKind("model file", EncoderError, None, "fetch the model again")
#: the description of a model in its folder
MODEL_CONFIG = FileKind("model file", EncoderError, 10_000_000, "fetch the model again")
#: a line of transformers' loading report
_MISSING = re.compile(r"^(\S+) *\| *MISSING", re.MULTILINE)


def require_packages(modality: Modality, name: str, *modules: str, extra: str | None = None) -> None:
    """Check that an encoder's packages are installed.

    Args:
        modality: the encoder's, for the message.
        name: the encoder's, for the message.
        modules: the packages' modules.
        extra: of this package's that installs them; None for the one with the modality's name.

    Raises:
        EncoderError: a package is missing. The message names the first one and the command that installs it.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise EncoderError(
                f"the {modality} encoder {name!r} needs the package {module}: "
                f"pip install 'recbole_llm_interest[{extra or modality}]'"
            )


def find_model(modality: Modality, name: str, download: bool = False) -> Path:
    """Return the local folder of a model: a directory, or a snapshot in the hub cache.

    Args:
        modality: the encoder's, for the message.
        name: a directory, or the model's name on the hub.
        download: whether a model that is not in the hub cache may be downloaded.

    Raises:
        EncoderError: the weights are not found.
    """
    local = Path(name).expanduser()
    if name and is_folder(local):
        return local
    require_packages(modality, name, "huggingface_hub")
    from huggingface_hub import HfApi, snapshot_download

    cached = cached_model(name)
    if cached is not None:
        return cached
    if not download:
        raise missing_weights_error(modality, name, "and the hub is not asked unless download_weights=True")
    try:
        # snapshot_download sends the same request without a timeout and would hang behind a firewall that drops it
        revision = HfApi().repo_info(name, timeout=_HUB_TIMEOUT).sha
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=_PATTERNS))
        if not has_weights(folder):
            snapshot_download(name, revision=revision, allow_patterns=["*.bin", "*.pt"])
    except Exception as error:
        reason = f"and the download from the hub failed ({type(error).__name__})"
        raise missing_weights_error(modality, name, reason) from error
    if not has_weights(folder):
        raise missing_weights_error(modality, name, "and its repository on the hub holds none")
    return folder


def cached_model(name: str) -> Path | None:
    """Return a hub model's folder in the local cache; None if the model or its weights are not there."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, allow_patterns=_PATTERNS, local_files_only=True))
    except Exception:  # not in the cache, or not a valid name
        return None
    return folder if has_weights(folder) else None


def missing_weights_error(modality: Modality, name: str, reason: str) -> EncoderError:
    """Return the error for weights that are not found, with the possible remedies.

    Args:
        modality: the encoder's.
        name: the encoder's.
        reason: why the hub did not provide them; continues the sentence.
    """
    from huggingface_hub import constants

    weights_free = " or ".join(f"{modality}_encoder={name}" for name in weights_free_encoders(modality))
    return EncoderError(
        f"no weights for the {modality} encoder {name!r}: it is no local directory, it is not in the hub cache "
        f"{constants.HF_HUB_CACHE}, {reason}. Name a local directory; or set HF_HOME to a cache that holds it and "
        f"HF_HUB_OFFLINE=1; or give precomputed features by item_{modality}_features or user_{modality}_features; or "
        f"set {weights_free}, which needs no weights"
    )


@contextmanager
def reported_missing_weights() -> Iterator[list[str]]:
    """Collect the names of weights that transformers reports as missing while models load inside the context.

    They are read from its log because libraries that load models through transformers do not return them.

    Yields:
        A list, which is complete when the context ends.
    """
    missing: list[str] = []
    logger = logging.getLogger("transformers")
    handler, level = logging.Handler(), logger.level
    handler.emit = lambda record: missing.extend(_MISSING.findall(record.getMessage()))  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    try:
        yield missing
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def check_missing_weights(modality: Modality, name: str, folder: Path, missing: Iterable[str]) -> None:
    """Check that a loaded model has all its weights: transformers initializes missing ones at random.

    Args:
        modality: the encoder's.
        name: the encoder's, for the message.
        folder: the checkpoint's, for the message.
        missing: names of the weights that the checkpoint lacks.

    Raises:
        EncoderError: features depend on a missing weight.
    """
    lacking = sorted(key for key in missing if not any(word in key for word in _UNUSED_WEIGHTS[modality]))
    if lacking:
        raise EncoderError(
            f"{modality} encoder {name!r} in {folder} does not load: the checkpoint lacks {len(lacking)} weights, such "
            f"as {lacking[0]}, which would be random; fetch the model again"
        )


def has_weights(folder: Path) -> bool:
    """Return whether a folder, or one in it, has a file of weights."""
    return any(path.suffix in _WEIGHTS for path in folder.rglob("*"))


def folder_fingerprint(folder: Path) -> str:
    """Return a hash of a model's files: other weights, tokenizer or pooling make another encoder.

    Raises:
        EncoderError: a file cannot be read, or the folder has so many that it is not one of a model.
    """
    paths = list(itertools.islice(folder.rglob("*"), _MAX_FILES + 1))
    if len(paths) > _MAX_FILES:
        raise EncoderError(f"{shown_path(folder)} has more than {_MAX_FILES:,} files: name the folder of one model")
    files = sorted(path for path in paths if path.suffix in _FINGERPRINTED_SUFFIXES)
    return combined_fingerprint(f"{path.relative_to(folder).as_posix()}\0{file_sha256(path)}" for path in files)


def combined_fingerprint(parts: Iterable[Any]) -> str:
    """Return one hash of several parts, as strings."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part}\0".encode())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file. A file that does not change is read once per process.

    Raises:
        EncoderError: it is no regular file, or cannot be read.
    """
    with open_regular(path, _MODEL_FILE) as file:
        status = os.fstat(file.fileno())
    return _sha256_of_version(path, status.st_size, status.st_mtime_ns)


@functools.cache
def _sha256_of_version(path: Path, size: int, modified: int) -> str:
    with open_regular(path, _MODEL_FILE) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_folder(package: str) -> Path | None:
    """Return the folder of an installed package; None if it is not installed."""
    spec = importlib.util.find_spec(package)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent
