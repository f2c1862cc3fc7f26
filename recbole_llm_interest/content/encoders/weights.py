"""Where pretrained weights are looked for, what identifies them, and the one error for weights that are not there."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.settings import Modality

#: seconds to wait for the hub's first word
_HUB_PATIENCE = 2
_WEIGHTS = {".safetensors", ".bin", ".pt"}
_FILES_THAT_DECIDE = {*_WEIGHTS, ".json", ".txt", ".model"}
#: what is downloaded first; weights in pickles, which torch reads without running them, only where there are no others
_PATTERNS = ["*.safetensors", "*.json", "*.txt", "*.model"]
#: weights that checkpoints often lack, and that features do not go through: of masking in training; and of the pooler,
#: for text, whose tokens are pooled here
_WITHOUT_A_SAY: dict[Modality, tuple[str, ...]] = {"text": ("pooler.",), "audio": ("masked_spec_embed",)}
#: a line of transformers' loading report
_MISSING = re.compile(r"^(\S+) *\| *MISSING", re.MULTILINE)
#: setting that names a weights-free encoder, by modality
_WEIGHTS_FREE: dict[Modality, str] = {
    "text": "text_encoder=hashing",
    "image": "image_encoder=color_hist",
    "audio": "audio_encoder=librosa",
}


def require_packages(modality: Modality, name: str, *packages: str) -> None:
    """Make sure that an encoder's libraries are installed.

    Raises:
        EncoderError: it names the first that is not, and what installs it.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise EncoderError(
                f"the {modality} encoder {name!r} needs the package {package}: "
                f"pip install 'recbole_llm_interest[{modality}]'"
            )


def find_model(modality: Modality, name: str, download: bool = False) -> Path:
    """The local folder of a model: a directory, or a snapshot of the hub.

    Args:
        modality: for the message.
        name: a directory, or the hub's name of a model, which is looked up in the local hub cache.
        download: whether the hub may be asked for what is not there.

    Raises:
        EncoderError: it is in none of these places.
    """
    local = Path(name).expanduser()
    if name and local.is_dir():
        return local
    require_packages(modality, name, "huggingface_hub")
    from huggingface_hub import HfApi, snapshot_download

    cached = cached_model(name)
    if cached is not None:
        return cached
    if not download:
        raise missing_weights(modality, name, "and the hub is not asked unless download_weights=True")
    try:
        # snapshot_download would ask the same without a limit, and wait for ever where a firewall swallows the answer
        revision = HfApi().repo_info(name, timeout=_HUB_PATIENCE).sha
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=_PATTERNS))
        if not _holds_weights(folder):
            snapshot_download(name, revision=revision, allow_patterns=["*.bin", "*.pt"])
    except Exception as error:
        raise missing_weights(modality, name, f"and the hub did not give it ({type(error).__name__})") from error
    if not _holds_weights(folder):
        raise missing_weights(modality, name, "and its repository on the hub holds none")
    return folder


def cached_model(name: str) -> Path | None:
    """A hub model's folder in the local cache; None if it, or its weights, are not there."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, allow_patterns=_PATTERNS, local_files_only=True))
    except Exception:  # not in the cache, or not a hub's name at all
        return None
    return folder if _holds_weights(folder) else None


def missing_weights(modality: Modality, name: str, reason: str) -> EncoderError:
    """The error for weights that are in none of the places, with what can be done about it."""
    from huggingface_hub import constants

    return EncoderError(
        f"no weights for the {modality} encoder {name!r}: it is no local directory, not in the hub cache "
        f"{constants.HF_HUB_CACHE}, {reason}. Name a local directory; or set HF_HOME to "
        f"a cache that holds it and HF_HUB_OFFLINE=1; or give features made elsewhere by item_{modality}_features or "
        f"user_{modality}_features; an encoder that needs no weights runs if it is named: {_WEIGHTS_FREE[modality]}"
    )


@contextmanager
def missing_weights_reported() -> Iterator[list[str]]:
    """Names of the weights that transformers reports as missing while models load inside, once it is left.

    The report goes to its log: libraries that load a model through transformers do not pass the facts on.
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


def refuse_random_weights(modality: Modality, name: str, folder: Path, missing: Iterable[str]) -> None:
    """Make sure that a loaded model has all its weights: transformers draws what a checkpoint lacks at random.

    Args:
        modality: for the message, as are ``name`` and ``folder``.
        name: the encoder's.
        folder: where its checkpoint lies.
        missing: names of the weights that the checkpoint lacks.

    Raises:
        EncoderError: one of them has a say in the features.
    """
    lacking = sorted(key for key in missing if not any(word in key for word in _WITHOUT_A_SAY[modality]))
    if lacking:
        raise EncoderError(
            f"{modality} encoder {name!r} in {folder} does not load: the checkpoint lacks {len(lacking)} weights, such "
            f"as {lacking[0]}, and random ones are no encoder; fetch the model again"
        )


def _holds_weights(folder: Path) -> bool:
    return any(path.suffix in _WEIGHTS for path in folder.rglob("*"))


def folder_fingerprint(folder: Path) -> str:
    """Hash of every file of a model: a changed weight, tokenizer or pooling is another encoder."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in _FILES_THAT_DECIDE)
    return combined_fingerprint(f"{path.relative_to(folder).as_posix()}\0{file_sha256(path)}" for path in files)


def combined_fingerprint(parts: Iterable[Any]) -> str:
    """One hash of several."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part}\0".encode())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Hash of a file, which is read once a process, unless it changes."""
    status = path.stat()
    return _sha256_of_version(path, status.st_size, status.st_mtime_ns)


@functools.cache
def _sha256_of_version(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_folder(package: str) -> Path | None:
    """Where a package lies; None where it is not installed."""
    spec = importlib.util.find_spec(package)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent
