"""Reads the files of a model's folder, none of which is a pickle, and checks them.

The files have fixed names, so that a folder cannot name other files to read. ``config.json`` has the hash of each file
except the card, and is written last.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ValidationError
from torch import Tensor

from recbole_llm_interest.errors import CheckpointError, LLMInterestError
from recbole_llm_interest.io.atomic_files import MAX_TOKEN_CHARACTERS
from recbole_llm_interest.io.folders import current_file
from recbole_llm_interest.io.opening import MEMORY_BYTES, FileKind, is_there, parse_json, read_bytes
from recbole_llm_interest.io.tensor_files import parse_tensors
from recbole_llm_interest.training.model_folder.config import FolderConfig, Texts
from recbole_llm_interest.training.model_folder.format import (
    ADAPTERS,
    CARD,
    CONFIG,
    FEATURES,
    FOLDER_SETTINGS,
    FORMAT,
    TEXTS,
    VOCABULARY,
    WEIGHTS,
)
from recbole_llm_interest.training.model_folder.hub import find_folder

_Model = TypeVar("_Model", bound=BaseModel)

_REMEDY = "export the model again, or fetch it again"
_KINDS = {
    CONFIG: FileKind("exported model", CheckpointError, 1_000_000, _REMEDY),
    VOCABULARY: FileKind("exported model", CheckpointError, 1_000_000_000, _REMEDY),
    TEXTS: FileKind("exported model", CheckpointError, 4_000_000_000, _REMEDY),
    WEIGHTS: FileKind("exported model", CheckpointError, MEMORY_BYTES // 2, _REMEDY),
    FEATURES: FileKind("exported model", CheckpointError, MEMORY_BYTES // 2, _REMEDY),
    **dict.fromkeys(ADAPTERS.values(), FileKind("exported model", CheckpointError, 2**31, _REMEDY)),
}


@dataclass(frozen=True)
class ModelFolder:
    """A folder of a trained model. No code in it is run, and no other file is read.

    Attributes:
        path: of the folder.
        config: what ``config.json`` says.

    Example:
        >>> ModelFolder.find("nowhere/at/all", revision=None, download=False)
        Traceback (most recent call last):
        ...
        recbole_llm_interest.errors.CheckpointError: there is no folder nowhere/at/all, and it is not the name of a ...
    """

    path: Path
    config: FolderConfig

    @classmethod
    def find(cls, name: str, *, revision: str | None, download: bool) -> Self:
        """Find a folder, and read its ``config.json``.

        Args:
            name: of a folder, or of a model on the Hub.
            revision: of the model on the Hub; None for the newest.
            download: whether the Hub may be asked; its cache is searched anyway.

        Raises:
            CheckpointError: there is none, ``config.json`` is missing, damaged or of another model or version, or it
                has a setting that a folder may not have.
        """
        files = [CONFIG, WEIGHTS, FEATURES, VOCABULARY, TEXTS, CARD, *ADAPTERS.values()]
        folder = find_folder(name, revision, files, download)
        return cls(folder, _read_config(folder))

    def vocabulary(self) -> list[str]:
        """Return the ids of the items by row.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        tokens = _parse_json(self.path, VOCABULARY, self.part(VOCABULARY))
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise refusal(self.path, VOCABULARY, "is not a list of items")
        if len(set(tokens)) < len(tokens):
            raise refusal(self.path, VOCABULARY, "names an item twice")
        if any(len(token) > MAX_TOKEN_CHARACTERS for token in tokens):
            raise refusal(self.path, VOCABULARY, f"has an id of more than {MAX_TOKEN_CHARACTERS} characters")
        return tokens

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Return tensors of any shape, ``[...]``, whose numbers are finite.

        Args:
            name: of the file, ``WEIGHTS`` or ``FEATURES``.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        try:
            tensors = parse_tensors(self.part(name)).tensors
        except ValueError as error:
            raise refusal(self.path, name, error) from error
        for tensor, values in tensors.items():
            if values.is_floating_point() and not values.isfinite().all():
                raise refusal(self.path, name, f"is damaged: {tensor[:80]} has NaN or Inf")
        return tensors

    def texts(self) -> Texts:
        """Return texts, titles and categories of items; none if the file was deleted.

        Raises:
            CheckpointError: the file is damaged.
        """
        if not is_there(current_file(self.path, TEXTS)):
            return Texts()
        return _validate(self.path, TEXTS, Texts, _parse_json(self.path, TEXTS, self.part(TEXTS)))

    def part(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            CheckpointError: it is missing, or its hash is not that in ``config.json``.
        """
        if not is_there(current_file(self.path, name)):
            raise CheckpointError(
                f"{self.path} has no {name}; weights in pickles, as in pytorch_model.bin, are not read"
            )
        data = _read_file(self.path, name)
        if hashlib.sha256(data).hexdigest() != self.config.sha256.get(name):
            raise refusal(
                self.path, name, f"is damaged, or of another model than {CONFIG}: its checksum does not match"
            )
        return data


def refusal(folder: Path, name: str, reason: object) -> LLMInterestError:
    """Return the error of a file of a folder that cannot be used for some reason."""
    return _KINDS[name].refusal(folder / name, reason)


def _read_config(folder: Path) -> FolderConfig:
    if not is_there(current_file(folder, CONFIG)):
        raise CheckpointError(f"{folder} has no {CONFIG}: name a folder that save_pretrained wrote")
    config = _parse_json(folder, CONFIG, _read_file(folder, CONFIG))
    if not isinstance(config, dict) or config.get("model_type") != "llm_interest":
        raise refusal(folder, CONFIG, "is not of LLMInterest")
    if config.get("format") != FORMAT or isinstance(config["format"], bool):
        found = str(config.get("format"))[:20]
        raise refusal(folder, CONFIG, f"has format {found}, and this version reads {FORMAT}")
    described = _validate(folder, CONFIG, FolderConfig, config)
    for key in described.settings.keys() - FOLDER_SETTINGS:
        raise refusal(folder, CONFIG, f"sets {key[:80]!r}, which a folder may not set")
    return described


def _read_file(folder: Path, name: str) -> bytes:
    """Read one of the folder's files. The Hub's cache has links to files beside its folders of snapshots."""
    is_cached = folder.parent.name == "snapshots"
    return read_bytes(current_file(folder, name), _KINDS[name], inside=folder.parent.parent if is_cached else folder)


def _parse_json(folder: Path, name: str, data: bytes) -> Any:
    try:
        value = parse_json(data.decode())
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise refusal(folder, name, "is damaged: it has half of a surrogate pair") from error
    except ValueError as error:
        raise refusal(folder, name, f"is damaged: it is not JSON: {error}") from error
    return value


def _validate(folder: Path, name: str, model: type[_Model], value: Any) -> _Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))[:80]
        raise refusal(folder, name, f"is damaged: {place}: {fault['msg']}") from error
