"""What encoders have in common that compute features by a torch module, with weights of their own or in a package."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.content.encoders.adapter_file import StoredAdapter, read_adapter
from recbole_llm_interest.content.encoders.bundled import BundledWeights
from recbole_llm_interest.content.encoders.weights import combined_fingerprint, require_packages
from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.io.opening import FileKind, read_bytes
from recbole_llm_interest.settings import ContentSettings

_WEIGHTS_FILE = FileKind("file of weights", EncoderError, 2**30, "reinstall its package")


class NetworkEncoder:
    """An encoder that computes features by a torch module, which an adapter may change.

    A subclass defines ``network``, the module, and ``embed``, the features with gradients where they are recorded.

    Attributes:
        one_input_per_content: whether ``embed`` runs the network once, on a batch with one row for each content.
        adapter: that is attached to the network; None for none.
    """

    network: Any
    one_input_per_content: ClassVar[bool] = True
    adapter: StoredAdapter | None

    @property
    def adapter_description(self) -> dict[str, str]:
        """The adapter's fingerprint by the word adapter; empty without one."""
        return {} if self.adapter is None else {"adapter": self.adapter.fingerprint}

    def encode(self, batch: Sequence[Any]) -> NDArray[np.float32]:
        """Encode a batch of what ``load`` returned into features, ``[B, D]``.

        Raises:
            EncoderError: the network cannot be loaded.
        """
        import torch

        _ = self.network  # loaded here: tensors that are made in inference mode can never be trained
        with torch.inference_mode():
            features: NDArray[np.float32] = self.embed(batch).float().cpu().numpy()
        return features

    def embed(self, batch: Sequence[Any]) -> Any:
        """Return the features of a batch as a tensor, ``[B, D]``, with gradients where they are recorded."""
        raise NotImplementedError


class BundledNetworkEncoder(NetworkEncoder):
    """A convolutional network with its weights. A subclass defines the attributes and the methods that raise here.

    Attributes:
        weights: the package's.
        extra: of this package's that installs ``packages``.
        packages: as for ``Encoder``.
        version: of what ``load`` computes; it changes with the code.

    Args:
        precision: ``float32``, ``bfloat16`` or ``float16``.
        device: None for a GPU if there is one.
        batch_size: as for ``Encoder``.
        adapter: file of an adapter that was trained in this network; None for none.

    Raises:
        EncoderError: the package is not installed, its weights are not the original ones, or the adapter does not
            belong to them.
    """

    needs_weights: ClassVar[bool] = True
    weights: ClassVar[BundledWeights]
    extra: ClassVar[str]
    packages: ClassVar[Mapping[str, str]] = {}
    version: ClassVar[int] = 1

    def __init__(
        self, *, precision: str = "float32", device: str | None = None, batch_size: int, adapter: str | None = None
    ) -> None:
        self.name = self.weights.name
        self.precision = precision
        self.device = device
        self.batch_size = batch_size
        self._path = self.weights.find()
        self.weights_fingerprint = self.weights.sha256
        self.adapter = None if adapter is None else read_adapter(adapter, self.weights.modality, self.weights.sha256)

    @classmethod
    def from_settings(cls, settings: ContentSettings) -> Self:
        """Create the encoder with the settings of its modality, ``encoder_precision`` and ``encoder_device``.

        Raises:
            EncoderError: as for the class.
        """
        return cls(**cls._arguments(settings))

    @classmethod
    def _arguments(cls, settings: ContentSettings) -> dict[str, Any]:
        modality = cls.weights.modality
        return {
            "precision": settings.encoder_precision,
            "device": settings.encoder_device,
            "batch_size": getattr(settings, f"{modality}_batch_size"),
            "adapter": getattr(settings, f"{modality}_adapter"),
        }

    @property
    def description(self) -> dict[str, Any]:
        """Name, precision, version and adapter."""
        described = {"name": self.name, "precision": self.precision, "version": self.version}
        return {**described, **self.adapter_description}

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the weights and of the description."""
        return combined_fingerprint([self.weights.sha256, json.dumps(self.description)])

    def prepare(self) -> None:
        """Check that the packages are installed.

        Raises:
            EncoderError: one is not.
        """
        require_packages(self.weights.modality, self.name, *self.packages.values(), extra=self.extra)

    @functools.cached_property
    def network(self) -> Any:
        """The network in evaluation mode.

        Raises:
            EncoderError: it cannot be loaded.
        """
        self.prepare()
        import torch

        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            network = self._load_network()
            if self.adapter is not None:
                network = self.adapter.attach_to(network)
        except EncoderError:
            raise
        except Exception as error:  # torch and the packages raise many exception types
            reason = " ".join(str(error).split())
            raise EncoderError(f"the {self.weights.modality} encoder {self.name!r} does not load: {reason}") from error
        return network.to(device, getattr(torch, self.precision)).eval()

    def _load_network(self) -> Any:
        """Create the network with its weights."""
        raise NotImplementedError

    def _read_weights(self, types: Sequence[Any] = ()) -> Any:
        """Return what the file of weights contains.

        Args:
            types: that may be unpickled beside tensors.
        """
        import torch

        data = io.BytesIO(read_bytes(self._path, _WEIGHTS_FILE))
        with torch.serialization.safe_globals(list(types)):
            return torch.load(data, map_location="cpu", weights_only=True)

    def _tensor(self, values: Any) -> Any:
        """Return values as a tensor on the network's device, of its type."""
        import torch

        parameter = next(self.network.parameters())
        return torch.as_tensor(values).to(parameter.device, parameter.dtype)
