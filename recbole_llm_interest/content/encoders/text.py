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
from recbole_llm_interest.content.encoders.adapter_file import read_adapter
from recbole_llm_interest.content.encoders.network import NetworkEncoder
from recbole_llm_interest.content.encoders.text_models import TextModel
from recbole_llm_interest.content.encoders.weights import (
    check_missing_weights,
    combined_fingerprint,
    reported_missing_weights,
    require_packages,
)
from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.settings import ContentSettings

#: what tokenizers return for a model
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_POOLING_MODES = {"mean": "mean", "cls": "cls", "last": "lasttoken"}
#: files of a sentence encoder that sentence-transformers saves beside modules.json
_SENTENCE_ENCODER_FILES = ("*_Pooling/config.json", "config_sentence_transformers.json", "sentence_bert_config.json")


class TextEncoder(NetworkEncoder):
    """A sentence encoder, or any masked or causal language model.

    A sentence encoder's folder states pooling, normalization and maximum length; settings override them. Without such a
    folder, a causal model is pooled over the last token, the only one whose state depends on the whole text, and any
    other model over the mean of all tokens. Code in a model's folder is never run.

    Args:
        name: ``all-MiniLM-L6-v2`` or ``smollm2``, whose weights are in Python packages; a local directory; a GGUF file
            of a causal model; or a name on the hub.
        pooling: ``mean``, ``cls`` or ``last``; None for the model's own.
        prompt: prefix of every text.
        max_length: maximum tokens of a text; None for the model's own.
        truncate_dim: leading dimensions to keep; None for all.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        device: None for a GPU if there is one.
        batch_size: texts to encode at once.
        download: whether a model that is not on this machine may be downloaded from the hub.
        adapter: file of an adapter that was trained in this model; None for none.

    Raises:
        EncoderError: the model is not found or incomplete, the bundled weights are not the original ones, or the
            adapter does not belong to them.
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
        adapter: str | None = None,
    ) -> None:
        self.name = name
        self.pooling = pooling
        self.prompt = prompt
        self.max_length = max_length
        self.truncate_dim = truncate_dim
        self.precision = precision
        self.device = device
        self.batch_size = batch_size
        self.files = TextModel.find(name, download)
        self._check_sentence_encoder()
        self.adapter = None if adapter is None else read_adapter(adapter, "text", self.weights_fingerprint)

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
            adapter=settings.text_adapter,
        )

    def _check_sentence_encoder(self) -> None:
        """Check that a sentence encoder has its modules.json.

        Without the file, sentence-transformers would load it as a plain model with another pooling.

        Raises:
            EncoderError: the file is missing.
        """
        files = [file for pattern in _SENTENCE_ENCODER_FILES for file in self.folder.glob(pattern)]
        if not self.files.gguf and files and not self._is_sentence_encoder:
            raise EncoderError(
                f"text encoder {self.name!r} in {self.folder} is incomplete: {files[0].relative_to(self.folder)} "
                "belongs to a sentence encoder, but modules.json, which states its pooling, is missing; fetch the model"
                " again"
            )

    @property
    def folder(self) -> Path:
        """Where the model's files are."""
        return self.files.folder

    @property
    def _is_sentence_encoder(self) -> bool:
        return not self.files.gguf and (self.folder / "modules.json").is_file()

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
            **self.adapter_description,
        }

    @functools.cached_property
    def weights_fingerprint(self) -> str:
        """Hash of the model's files."""
        return self.files.fingerprint()

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the model's files, of the settings and of the adapter."""
        settings = {key: value for key, value in self.description.items() if key != "name"}
        return combined_fingerprint([self.weights_fingerprint, json.dumps(settings)])

    def prepare(self) -> None:
        """Check that the packages are installed.

        Raises:
            EncoderError: one is not.
        """
        require_packages("text", self.name, *self.packages.values())
        self.files.require_packages()

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

    def embed(self, batch: Sequence[str]) -> Any:
        """Return the features of texts as a tensor, ``[B, D]``, with gradients where they are recorded."""
        return self._model(self._preprocess(batch))["sentence_embedding"][:, : self.truncate_dim]

    def tokenize(self, batch: Sequence[str]) -> dict[str, Any]:
        """Return the inputs of ``network`` for texts, ``[B, T]`` each."""
        return {key: values for key, values in self._preprocess(batch).items() if key in _INPUTS}

    def is_special(self, tokens: Any) -> Any:
        """Return which tokens, ``[B, T]``, stand for no part of a text."""
        import torch

        return torch.isin(tokens, torch.tensor(self._model.tokenizer.all_special_ids, device=tokens.device))

    @property
    def mask_token_id(self) -> int | None:
        """The token that replaces a masked word; None for models without one."""
        return self._model.tokenizer.mask_token_id

    def _preprocess(self, batch: Sequence[str]) -> dict[str, Any]:
        features = self._model.preprocess(list(batch), prompt=self.prompt or None)
        return {key: value.to(self._model.device) if hasattr(value, "to") else value for key, value in features.items()}

    @property
    def network(self) -> Any:
        """The language model, which an adapter changes.

        Raises:
            EncoderError: it cannot be loaded.
        """
        return self._model[0].model

    @network.setter
    def network(self, network: Any) -> None:
        self._model[0].model = network

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
        # for all three, else transformers asks on the terminal whether to run the model's code
        arguments = self.files.loading_arguments
        try:
            with reported_missing_weights() as missing:
                model = SentenceTransformer(
                    str(self.folder),
                    device=self.device,
                    local_files_only=True,
                    trust_remote_code=False,
                    model_kwargs={"dtype": getattr(torch, self.precision), **arguments},
                    processor_kwargs=arguments,
                    config_kwargs=arguments,
                )
            for configure in (self._set_padding, self._set_max_length, self._set_pooling, self._set_truncation):
                configure(model)
            if self.adapter is not None:
                model[0].model = self.adapter.attach_to(model[0].model)
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
        from sentence_transformers.sentence_transformer.modules import Pooling

        pooling = self.pooling
        if pooling is None and not self._is_sentence_encoder and self.files.is_causal:
            pooling = "last"
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
