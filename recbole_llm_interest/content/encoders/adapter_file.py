"""The file of a trained adapter: its parameters, and what they belong to. Without torch, unless it is attached."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.io.array_files import parse_by
from recbole_llm_interest.io.files import write_atomically
from recbole_llm_interest.io.opening import FileKind, parse_json, read_bytes
from recbole_llm_interest.settings import Modality

#: the largest adapters have a few percent of the parameters of a model
_ADAPTER = FileKind("adapter", EncoderError, 2**31, "name a file that llm-interest adapt wrote")
_FORMAT = "llm-interest-adapter"
#: methods by which peft attaches the adapter
_BY_PEFT = ("adalora", "ia3", "lora", "prefix")


@dataclass(frozen=True)
class AdapterOptions:
    """What decides an adapter's parameters, beside the network.

    Attributes:
        method: name of one of ``content.adapters.ADAPTERS``.
        rank: of low-rank updates, width of bottlenecks, or number of prefix tokens.
        layers: number of upper layers that are adapted; None for all.
    """

    method: str
    rank: int
    layers: int | None = None


@dataclass(frozen=True)
class StoredAdapter:
    """A trained adapter.

    Attributes:
        options: of the adapter.
        base: hash of the weights of the encoder that it was trained in.
        arrays: the parameters by name.
        fingerprint: hash of the file.
        path: of the file, for messages.
    """

    options: AdapterOptions
    base: str
    arrays: Mapping[str, NDArray[Any]]
    fingerprint: str
    path: Path

    def attach_to(self, network: Any) -> Any:
        """Attach the adapter to the network of an encoder, a torch module; returns the network to use.

        Raises:
            EncoderError: the adapter is for other layers, or peft is not installed.
        """
        import torch

        from recbole_llm_interest.content.adapters import attach

        adapter = attach(network, self.options)
        parameters = adapter.parameters
        shapes = {name: tuple(values.shape) for name, values in parameters.items()}
        found = {name: array.shape for name, array in self.arrays.items()}
        if shapes != found:
            differing = min({*shapes.items()} ^ {*found.items()})[0]
            raise _ADAPTER.refusal(self.path, f"is for other layers than those of the encoder: {differing!r:.120}")
        with torch.no_grad():
            for name, values in parameters.items():
                values.copy_(torch.from_numpy(self.arrays[name]))
        return adapter.network.requires_grad_(False)


def require_adapter_packages(method: str) -> None:
    """Check that the packages of a method of adaptation are installed.

    Raises:
        EncoderError: one is not.
    """
    if method in _BY_PEFT and importlib.util.find_spec("peft") is None:
        raise EncoderError(f"adapt_method={method} needs the package peft: pip install 'recbole_llm_interest[adapt]'")


def write_adapter(
    path: Path,
    options: AdapterOptions,
    modality: Modality,
    base: str,
    arrays: Mapping[str, NDArray[np.float32]],
    events: str = "",
) -> None:
    """Write an adapter. A previous file is replaced only when the new one is complete.

    Args:
        path: of the file.
        options: of the adapter.
        modality: of the encoder.
        base: hash of the encoder's weights.
        arrays: the parameters by name.
        events: digest of the training events that the adapter has learned from.

    Raises:
        StorageError: the file cannot be written.
    """
    described = {
        "format": _FORMAT,
        "modality": modality,
        "base": base,
        "options": json.dumps(vars(options)),
        "events": events,
    }
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata=described)
    write_atomically(path, lambda file: file.write(data), "name another file by --output")


def read_adapter(name: str, modality: Modality, base: str) -> StoredAdapter:
    """Read an adapter, and check that it is one of an encoder.

    Args:
        name: path of the file.
        modality: of the encoder.
        base: hash of the encoder's weights.

    Raises:
        EncoderError: the file is missing, is damaged or no adapter, or belongs to another encoder.
    """
    path = Path(name).expanduser()
    data, arrays, described = _read(path)
    try:
        options = _options(described)
    except ValueError as error:
        raise _ADAPTER.refusal(path, error) from error
    if described.get("modality") != modality:
        raise _ADAPTER.refusal(path, f"is of another modality than {modality}: {described.get('modality')!r:.20}")
    if described.get("base") != base:
        raise _ADAPTER.refusal(
            path, f"was trained in another {modality} encoder than {modality}_encoder names: their weights differ"
        )
    return StoredAdapter(options, base, arrays, hashlib.sha256(data).hexdigest(), path)


def adapter_bytes(name: str) -> bytes:
    """Return the content of an adapter's file.

    Args:
        name: path of the file.

    Raises:
        EncoderError: the file is missing.
    """
    return read_bytes(Path(name).expanduser(), _ADAPTER)


def learned_events(name: str) -> str:
    """Digest of the training events that an adapter has learned from; empty if its file does not say.

    Args:
        name: path of the file.

    Raises:
        EncoderError: the file is missing or is damaged.
    """
    _, _, described = _read(Path(name).expanduser())
    return described.get("events", "")


def _read(path: Path) -> tuple[bytes, dict[str, NDArray[Any]], dict[str, str]]:
    """The bytes of a file, its arrays and what it says of itself.

    Raises:
        EncoderError: the file is missing or is damaged.
    """
    data = adapter_bytes(str(path))
    try:
        arrays, described = parse_by(load, data, {"F32"})
    except ValueError as error:
        raise _ADAPTER.refusal(path, error) from error
    return data, arrays, described


def _options(described: Mapping[str, str]) -> AdapterOptions:
    """Read the options in the metadata of a file.

    Raises:
        ValueError: there are none.
    """
    if described.get("format") != _FORMAT:
        raise ValueError("is no adapter of an encoder")
    try:
        options = AdapterOptions(**parse_json(described["options"]))
    except (TypeError, KeyError) as error:
        raise ValueError("has no options of an adapter") from error
    numbers = (options.rank, options.layers or 1)
    if not isinstance(options.method, str) or not all(type(number) is int and 0 < number <= 4096 for number in numbers):
        raise ValueError("has options that no adapter has")
    return options
