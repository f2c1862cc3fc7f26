"""Encoders of text, images and audio: one interface, and a registry for each modality.

A new encoder is a class in a file of its own and one line that registers it, here or outside the package::

    TEXT_ENCODERS.register_lazy("my_encoder", "my_package.my_module:MyEncoder")

``text_encoder=my_encoder`` then selects it. The class is imported when it is first used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.errors import EncoderError, SettingsError
from recbole_llm_interest.settings import ContentSettings, Modality, Registry

#: registered name of the encoder that loads pretrained models; it gets every name that is not registered
PRETRAINED = "pretrained"


class Encoder(Protocol):
    """Turns content into features, and identifies everything that the features depend on.

    Attributes:
        needs_weights: whether the encoder has pretrained weights, which must be on this machine or be downloaded.
        packages: the packages that it requires, each with the module to import: ``{"pillow": "PIL"}``.
        batch_size: number of inputs to ``encode``.
    """

    needs_weights: ClassVar[bool]
    packages: ClassVar[Mapping[str, str]]
    batch_size: int

    @classmethod
    def from_settings(cls, settings: ContentSettings) -> Encoder:
        """Create the encoder with the settings of its modality.

        Raises:
            EncoderError: the weights are not found.
        """
        ...

    @property
    def description(self) -> dict[str, Any]:
        """Its name and settings, in JSON's types; the feature store's manifest contains them."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of everything except the content that features depend on: weights, preprocessing, pooling."""
        ...

    def prepare(self) -> None:
        """Check that weights and packages are available, without loading them.

        Raises:
            EncoderError: they are not.
        """
        ...

    def load(self, content: Any) -> Any:
        """Preprocess one input: a text, or an open image or audio file. Runs in several threads.

        Raises:
            ContentError: the content cannot be used.
        """
        ...

    def encode(self, batch: Sequence[Any]) -> NDArray[np.float32]:
        """Encode a batch of what ``load`` returned into features ``[B, D]``. The first call loads the weights.

        Raises:
            EncoderError: the weights cannot be loaded.
        """
        ...


TEXT_ENCODERS: Registry[type[Encoder]] = Registry("text encoder")
IMAGE_ENCODERS: Registry[type[Encoder]] = Registry("image encoder")
AUDIO_ENCODERS: Registry[type[Encoder]] = Registry("audio encoder")
#: registries by modality
ENCODERS: dict[str, Registry[type[Encoder]]] = {"text": TEXT_ENCODERS, "image": IMAGE_ENCODERS, "audio": AUDIO_ENCODERS}

TEXT_ENCODERS.register_lazy(PRETRAINED, f"{__name__}.text:TextEncoder")
TEXT_ENCODERS.register_lazy("multilingual", f"{__name__}.multilingual:MultilingualEncoder")
TEXT_ENCODERS.register_lazy("hashing", f"{__name__}.weights_free:HashingEncoder")
IMAGE_ENCODERS.register_lazy(PRETRAINED, f"{__name__}.image:ImageEncoder")
IMAGE_ENCODERS.register_lazy("efficientnet_lite0", f"{__name__}.efficientnet:EfficientNetEncoder")
IMAGE_ENCODERS.register_lazy("color_hist", f"{__name__}.weights_free:ColorHistogramEncoder")
AUDIO_ENCODERS.register_lazy(PRETRAINED, f"{__name__}.audio:AudioEncoder")
AUDIO_ENCODERS.register_lazy("aisfx", f"{__name__}.aisfx:AisfxEncoder")
AUDIO_ENCODERS.register_lazy("librosa", f"{__name__}.weights_free:LibrosaEncoder")


def encoder_class(modality: str, name: str) -> type[Encoder]:
    """Return the class of an encoder.

    Args:
        modality: text, image or audio.
        name: a registered name; any other name is a pretrained model's.

    Raises:
        SettingsError: the modality has no encoders.
    """
    if modality not in ENCODERS:
        raise SettingsError(f"modality {modality!r} has no encoders; known are {', '.join(ENCODERS)}")
    registry = ENCODERS[modality]
    return registry[name if name in registry else PRETRAINED]


def weights_free_encoders(modality: str) -> list[str]:
    """Return the names of a modality's encoders that need no weights."""
    return [name for name in ENCODERS[modality] if not encoder_class(modality, name).needs_weights]


def create_encoder(modality: Modality, settings: ContentSettings) -> Encoder:
    """Create the encoder that the settings name. There is no fallback to another one.

    Args:
        modality: text, image or audio.
        settings: name the encoder, and set it up.

    Raises:
        SettingsError: the modality has no encoders.
        EncoderError: the encoder's weights are not found, or the adapter does not belong to it.

    Example:
        >>> from recbole_llm_interest.settings import ContentSettings
        >>> encoder = create_encoder("text", ContentSettings(text_encoder="hashing"))
        >>> encoder.encode([encoder.load("a film about whales")]).shape
        (1, 1024)
    """
    name = getattr(settings, f"{modality}_encoder", "")
    encoder = encoder_class(modality, name).from_settings(settings)
    adapter = getattr(settings, f"{modality}_adapter", None)
    if adapter is not None and not hasattr(encoder, "adapter"):
        raise EncoderError(f"{modality}_adapter={adapter}: the encoder {name!r} cannot be adapted; leave it out")
    return encoder
