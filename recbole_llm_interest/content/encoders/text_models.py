"""Text models on this machine, in folders of transformers or GGUF files, and the arguments that load them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_llm_interest.content.encoders.bundled import MINILM, SMOLLM2
from recbole_llm_interest.content.encoders.weights import (
    MODEL_CONFIG,
    file_sha256,
    find_model,
    folder_fingerprint,
    require_packages,
)
from recbole_llm_interest.io.opening import is_there, read_json

_GGUF = ".gguf"


@dataclass(frozen=True)
class TextModel:
    """A text model's files.

    Attributes:
        name: the user's name for it.
        folder: where its files are.
        gguf: name of its GGUF file in the folder; None for a folder of transformers.

    Example:
        >>> TextModel.find("all-MiniLM-L6-v2").is_causal
        False
    """

    name: str
    folder: Path
    gguf: str | None = None

    @classmethod
    def find(cls, name: str, download: bool = False) -> TextModel:
        """Find the files of a text model.

        Args:
            name: ``all-MiniLM-L6-v2`` or ``smollm2``, whose weights are in Python packages; a local directory; a GGUF
                file; or a name on the hub.
            download: whether a model that is not on this machine may be downloaded from the hub.

        Raises:
            EncoderError: the model is not found, or bundled weights are not the original ones.
        """
        path = _find(name, download)
        return cls(name, path.parent, path.name) if path.suffix == _GGUF else cls(name, path)

    @property
    def is_causal(self) -> bool:
        """Whether each token's state depends on the tokens before it alone, as its files say."""
        if self.gguf:
            return True
        architectures = read_json(self.folder / "config.json", MODEL_CONFIG).get("architectures") or []
        return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in architectures)

    @property
    def loading_arguments(self) -> dict[str, Any]:
        """Arguments of ``from_pretrained``, of a model as of a tokenizer. No code in the folder is run."""
        return {"trust_remote_code": False, **({"gguf_file": self.gguf} if self.gguf else {})}

    def fingerprint(self) -> str:
        """Hash of the files."""
        return file_sha256(self.folder / self.gguf) if self.gguf else folder_fingerprint(self.folder)

    def require_packages(self) -> None:
        """Check that the packages that read its files are installed.

        Raises:
            EncoderError: one is not.
        """
        if self.gguf:
            require_packages("text", self.name, "gguf", "accelerate", extra="llm")


def _find(name: str, download: bool) -> Path:
    """The folder of a text model, or its GGUF file."""
    if name == SMOLLM2.name:
        return SMOLLM2.find()
    if name.endswith(_GGUF) and is_there(Path(name)):
        return Path(name)
    if name.removeprefix("sentence-transformers/") == MINILM.name and not Path(name).is_dir() and MINILM.is_installed:
        return MINILM.find().parent
    # As in sentence-transformers, whose own models have names without an organization.
    has_no_organization = "/" not in name and not Path(name).is_dir()
    return find_model("text", f"sentence-transformers/{name}" if has_no_organization else name, download)
