"""Where pretrained weights are looked for, what identifies them, and the one error for weights that are not there."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.settings import Modality

#: seconds to wait for the hub's first word
_HUB_PATIENCE = 2
_FILES_THAT_DECIDE = {".safetensors", ".bin", ".pt", ".json", ".txt", ".model"}
#: setting that names a weights-free encoder, by modality
_WEIGHTS_FREE: dict[Modality, str] = {
    "text": "text_encoder=hashing",
    "image": "image_encoder=color_hist",
    "audio": "audio_encoder=librosa",
}


def find_model(modality: Modality, name: str) -> Path:
    """The local folder of a model: a directory, or a snapshot of the hub.

    A hub name is looked up in the local hub cache first; only what is not there is downloaded.

    Raises:
        EncoderError: it is in none of these places.
    """
    if Path(name).is_dir():
        return Path(name)
    try:
        from huggingface_hub import constants, snapshot_download
    except ImportError as error:
        raise missing_package(modality, name, "huggingface_hub", error) from error
    patterns = [f"*{suffix}" for suffix in _FILES_THAT_DECIDE - {".bin", ".pt"}]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
    except Exception:  # not in the cache, or not a hub name at all: both are answered below
        pass
    try:
        folder = Path(snapshot_download(name, allow_patterns=patterns, etag_timeout=_HUB_PATIENCE))
        if not any(folder.rglob("*.safetensors")):
            snapshot_download(name, allow_patterns=["*.bin"], etag_timeout=_HUB_PATIENCE)
    except Exception as error:
        free = _WEIGHTS_FREE[modality]
        raise EncoderError(
            f"no weights for the {modality} encoder {name!r}: it is no local directory, not in the hub cache "
            f"{constants.HF_HUB_CACHE}, and the hub did not give it ({type(error).__name__}). Name a local directory; "
            "or set HF_HOME to a cache that holds it and HF_HUB_OFFLINE=1; or give features made elsewhere by "
            f"item_{modality}_features; an encoder that needs no weights runs if it is named: {free}"
        ) from error
    return folder


def missing_package(modality: Modality, name: str, package: str, error: ImportError) -> EncoderError:
    """The error for an encoder whose library is not installed."""
    return EncoderError(
        f"{modality} encoder {name!r} needs the package {package} ({error}): "
        f"pip install 'recbole_llm_interest[{modality}]'"
    )


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
