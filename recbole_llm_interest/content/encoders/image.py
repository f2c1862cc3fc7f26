"""Images by CLIP's image tower in open_clip (https://github.com/mlfoundations/open_clip, arXiv 2103.00020)."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from recbole_llm_interest.activation import activate
from recbole_llm_interest.content.encoders import weights_free_encoders
from recbole_llm_interest.content.encoders.adapter_file import read_adapter
from recbole_llm_interest.content.encoders.network import NetworkEncoder
from recbole_llm_interest.content.encoders.weights import (
    combined_fingerprint,
    file_sha256,
    find_model,
    folder_fingerprint,
    require_packages,
)
from recbole_llm_interest.content.media.images import read_image
from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.settings import ContentSettings

_logger = logging.getLogger(__name__)
#: value of image_weights for untrained weights
RANDOM = "random"
_PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


class ImageEncoder(NetworkEncoder):
    """An open_clip model's image tower, with the preprocessing that its configuration states.

    Args:
        name: a folder with ``open_clip_config.json`` and weights (``local-dir:path`` or the path alone), a name on the
            hub (``hf-hub:organization/model``), or an architecture of open_clip (``ViT-B-32``).
        weights: for an architecture: a pretrained tag of open_clip, a checkpoint file, or ``random`` for untrained
            weights. Not used for a folder, which has its own.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        device: None for a GPU if there is one.
        batch_size: images to encode at once.
        download: whether a model that is not on this machine may be downloaded from the hub.
        adapter: file of an adapter that was trained in this model; None for none.

    Raises:
        EncoderError: the model is not found, or the adapter does not belong to it.
    """

    needs_weights: ClassVar[bool] = True
    packages: ClassVar[Mapping[str, str]] = {"open_clip_torch": "open_clip", "pillow": "PIL"}

    def __init__(
        self,
        name: str,
        weights: str,
        *,
        precision: str = "float32",
        device: str | None = None,
        batch_size: int = 32,
        download: bool = False,
        adapter: str | None = None,
    ) -> None:
        self.name = name
        self.weights = weights
        self.precision = precision
        self.device = device
        self.batch_size = batch_size
        self.download = download
        self.folder = _find_folder(name, download)
        self.adapter = None if adapter is None else read_adapter(adapter, "image", self.weights_fingerprint)

    @classmethod
    def from_settings(cls, settings: ContentSettings) -> ImageEncoder:
        """Create the encoder with the settings ``image_*`` and ``encoder_*``.

        Raises:
            EncoderError: the model is not found.
        """
        return cls(
            settings.image_encoder,
            settings.image_weights,
            precision=settings.encoder_precision,
            device=settings.encoder_device,
            batch_size=settings.image_batch_size,
            download=settings.download_weights,
            adapter=settings.image_adapter,
        )

    @property
    def description(self) -> dict[str, Any]:
        """Name, weights if they are not in a folder, precision and adapter."""
        weights = {} if self.folder else {"weights": self.weights}
        return {"name": self.name, **weights, "precision": self.precision, **self.adapter_description}

    @functools.cached_property
    def weights_fingerprint(self) -> str:
        """Hash of the model's files, or the names of architecture and weights."""
        if self.folder:
            return folder_fingerprint(self.folder)
        if Path(self.weights).is_file():
            return f"{self.name} {file_sha256(Path(self.weights))}"
        return f"{self.name} {self.weights}"  # the weights of an open_clip tag never change

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, the precision and the adapter."""
        return combined_fingerprint([self.weights_fingerprint, self.precision, *self.adapter_description.values()])

    def prepare(self) -> None:
        """Check that the packages are installed and that the weights of an architecture are found.

        Raises:
            EncoderError: they are not.
        """
        require_packages("image", self.name, *self.packages.values())
        if not self.folder and self.weights != RANDOM:
            _pretrained(self.name, self.weights, self.download)

    def load(self, content: BinaryIO) -> Any:
        """Read and preprocess an image file into pixels, ``[3, H, W]``.

        Raises:
            ContentError: the file is not a usable image.
        """
        return self._model[1](read_image(content))

    def embed(self, batch: Sequence[Any]) -> Any:
        """Return the features of images as a tensor, ``[B, D]``, with gradients where they are recorded."""
        import open_clip
        import torch

        model, _ = self._model
        images = torch.stack(list(batch)).to(
            next(model.parameters()).device, open_clip.get_input_dtype(_PRECISIONS[self.precision])
        )
        return model.encode_image(images, normalize=True)

    @property
    def network(self) -> Any:
        """CLIP's image tower, which an adapter changes.

        Raises:
            EncoderError: the model cannot be loaded.
        """
        return self._model[0].visual

    @network.setter
    def network(self, network: Any) -> None:
        self._model[0].visual = network

    @functools.cached_property
    def _model(self) -> tuple[Any, Any]:
        self.prepare()
        activate()  # open_clip imports torchvision, which may need a patch
        import torch

        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            model, preprocess = self._create_model(precision=_PRECISIONS[self.precision], device=device)
            if self.adapter is not None:
                model.visual = self.adapter.attach_to(model.visual)
        except EncoderError:
            raise
        except Exception as error:  # open_clip raises many exception types for damaged folders and files
            reason = " ".join(str(error).split())
            raise EncoderError(f"image encoder {self.name!r} does not load: {reason}") from error
        return model.eval(), preprocess

    def _create_model(self, **arguments: str) -> tuple[Any, Any]:
        """Create the open_clip model and its preprocessing."""
        import open_clip
        import torch

        if self.folder:
            return open_clip.create_model_from_pretrained(f"local-dir:{self.folder}", **arguments)
        if self.weights != RANDOM:
            pretrained = _pretrained(self.name, self.weights, self.download)
            return open_clip.create_model_from_pretrained(self.name, **pretrained, **arguments)
        with torch.random.fork_rng():
            # The architecture's name determines the seed, so a resumed run has the same weights.
            torch.manual_seed(int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:4]))
            model, _, preprocess = open_clip.create_model_and_transforms(self.name, **arguments)
        _logger.warning("image encoder %s has RANDOM weights, as image_weights=%s says", self.name, RANDOM)
        return model, preprocess


def _find_folder(name: str, download: bool) -> Path | None:
    """Return the folder of a model; None for an architecture.

    Raises:
        EncoderError: the folder is not found, or is not one of an open_clip model.
    """
    if name.startswith("hf-hub:"):
        return find_model("image", name.removeprefix("hf-hub:"), download)
    path = Path(name.removeprefix("local-dir:"))
    if not path.is_dir() and not name.startswith("local-dir:"):
        return None
    if not (path / "open_clip_config.json").is_file():
        raise EncoderError(
            f"no weights for the image encoder {name!r}: {path} holds no open_clip_config.json. Name a folder that "
            "open_clip saved; or an architecture by image_encoder and a checkpoint file by image_weights; or give "
            "precomputed features by item_image_features or user_image_features; or set "
            f"image_encoder={' or '.join(weights_free_encoders('image'))}, which needs no weights"
        )
    return path


def _pretrained(name: str, weights: str, download: bool) -> dict[str, Any]:
    """Return open_clip's arguments for an architecture with weights from a file or of a tag.

    A file does not state its preprocessing, so open_clip's default applies, as in open_clip itself.

    Raises:
        EncoderError: the architecture or tag is unknown, or its weights are not found.
    """
    activate()  # open_clip imports torchvision, which may need a patch
    import open_clip

    if name not in open_clip.list_models():
        raise EncoderError(
            f"image encoder {name!r} is no architecture of open_clip, no local directory and no hf-hub: name; "
            "open_clip.list_models() lists the architectures"
        )
    if Path(weights).is_file():
        return {"pretrained": weights}
    tag = open_clip.get_pretrained_cfg(name, weights)
    if not tag:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise EncoderError(f"image_weights={weights!r} is no file and no tag of {name}; its tags: {tags}")
    organization, repository, *file = tag["hf_hub"].rstrip("/").split("/")
    # open_clip gets a file because it would send requests to the hub even for cached weights.
    try:
        folder = find_model("image", f"{organization}/{repository}", download)
    except EncoderError as error:
        raise EncoderError(f"image_encoder={name}, image_weights={weights}: {error}") from error
    for candidate in file or ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"):
        if (folder / candidate).is_file():
            preprocessing = {f"image_{key}": tag[key] for key in ("mean", "std", "interpolation", "resize_mode")}
            quick_gelu = bool(tag.get("quick_gelu"))
            return {"pretrained": str(folder / candidate), "force_quick_gelu": quick_gelu, **preprocessing}
    raise EncoderError(f"no weights for the image encoder {name!r}, {weights}: {folder} holds no open_clip weights")
