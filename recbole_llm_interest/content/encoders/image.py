"""Images through CLIP's image tower, by open_clip (https://github.com/mlfoundations/open_clip, arXiv 2103.00020)."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from recbole_llm_interest.content.encoders.weights import (
    combined_fingerprint,
    file_sha256,
    find_model,
    folder_fingerprint,
    require_packages,
)
from recbole_llm_interest.content.media.images import read_image
from recbole_llm_interest.errors import EncoderError

_logger = logging.getLogger(__name__)
#: the value of image_weights by which untrained weights are asked for
RANDOM = "random"
_PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


class ImageEncoder:
    """An open_clip model's image tower, with the preprocessing that its configuration states.

    Args:
        name: a folder with ``open_clip_config.json`` and weights (``local-dir:path``, or the path alone), the hub's
            name of one (``hf-hub:organisation/model``), or an architecture of open_clip (``ViT-B-32``).
        weights: for an architecture: a pretrained tag of open_clip's, a checkpoint file, or ``random``, which is the
            only way to untrained weights. A folder has its own.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        device: None for a GPU if there is one.
        batch_size: images that are encoded at once.
        download: whether the hub may be asked for a model that is not on this machine.

    Raises:
        EncoderError: no such model can be found.
    """

    def __init__(
        self,
        name: str,
        weights: str,
        *,
        precision: str = "float32",
        device: str | None = None,
        batch_size: int = 32,
        download: bool = False,
    ) -> None:
        self.name = name
        self.weights = weights
        self.precision = precision
        self.device = device
        self.batch_size = batch_size
        self.download = download
        self.folder = _find_folder(name, download)

    @property
    def description(self) -> dict[str, Any]:
        weights = {} if self.folder else {"weights": self.weights}
        return {"name": self.name, **weights, "precision": self.precision}

    @functools.cached_property
    def fingerprint(self) -> str:
        if self.folder:
            identity = folder_fingerprint(self.folder)
        elif Path(self.weights).is_file():
            identity = f"{self.name} {file_sha256(Path(self.weights))}"
        else:
            identity = f"{self.name} {self.weights}"  # a tag of open_clip's stands for the same weights for ever
        return combined_fingerprint([identity, self.precision])

    def prepare(self) -> None:
        require_packages("image", self.name, "open_clip", "PIL")
        if not self.folder and self.weights != RANDOM:
            _pretrained(self.name, self.weights, self.download)

    def load(self, content: BinaryIO) -> Any:
        return self._model[1](read_image(content))

    def encode(self, batch: Sequence[Any]) -> NDArray[np.float32]:
        import open_clip
        import torch

        model, _ = self._model
        device = next(model.parameters()).device
        with torch.inference_mode():
            images = torch.stack(list(batch)).to(device, open_clip.get_input_dtype(_PRECISIONS[self.precision]))
            return model.encode_image(images, normalize=True).float().cpu().numpy()

    @functools.cached_property
    def _model(self) -> tuple[Any, Any]:
        self.prepare()
        import open_clip
        import torch

        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        arguments = {"precision": _PRECISIONS[self.precision], "device": device}
        try:
            if self.folder:
                source = f"local-dir:{self.folder}"
                model, preprocess = open_clip.create_model_from_pretrained(source, **arguments)
            elif self.weights == RANDOM:
                with torch.random.fork_rng():
                    # the seed is the architecture's own, so that a resumed run meets the same weights
                    torch.manual_seed(int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:4]))
                    model, _, preprocess = open_clip.create_model_and_transforms(self.name, **arguments)
                _logger.warning("image encoder %s has RANDOM weights, as asked for", self.name)
            else:
                pretrained = _pretrained(self.name, self.weights, self.download)
                model, preprocess = open_clip.create_model_from_pretrained(self.name, **pretrained, **arguments)
        except EncoderError:
            raise
        except Exception as error:  # open_clip raises a dozen kinds for damaged folders and files
            reason = " ".join(str(error).split())
            raise EncoderError(f"image encoder {self.name!r} does not load: {reason}") from error
        return model.eval(), preprocess


def _find_folder(name: str, download: bool) -> Path | None:
    """The folder of a model that has one; None for an architecture."""
    if name.startswith("hf-hub:"):
        return find_model("image", name.removeprefix("hf-hub:"), download)
    path = Path(name.removeprefix("local-dir:"))
    if not path.is_dir() and not name.startswith("local-dir:"):
        return None
    if not (path / "open_clip_config.json").is_file():
        raise EncoderError(
            f"no weights for the image encoder {name!r}: {path} holds no open_clip_config.json. Name the folder that "
            "open_clip saved; or an architecture by image_encoder and a checkpoint file by image_weights; or give "
            "features made elsewhere by item_image_features or user_image_features; image_encoder=color_hist needs no "
            "weights"
        )
    return path


def _pretrained(name: str, weights: str, download: bool) -> dict[str, Any]:
    """What open_clip needs to load an architecture's weights from a file, or from a tag's repository.

    A file says nothing of its preprocessing: open_clip's usual one is taken, as it does by itself.
    """
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
    organisation, repository, *file = tag["hf_hub"].rstrip("/").split("/")
    # Found by us, and handed over as a file: open_clip would ask the hub, again and again, even for what is cached.
    try:
        folder = find_model("image", f"{organisation}/{repository}", download)
    except EncoderError as error:
        raise EncoderError(f"image_encoder={name}, image_weights={weights}: {error}") from error
    for candidate in file or ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"):
        if (folder / candidate).is_file():
            preprocessing = {f"image_{key}": tag[key] for key in ("mean", "std", "interpolation", "resize_mode")}
            quick_gelu = bool(tag.get("quick_gelu"))
            return {"pretrained": str(folder / candidate), "force_quick_gelu": quick_gelu, **preprocessing}
    raise EncoderError(f"no weights for the image encoder {name!r}, {weights}: {folder} holds no open_clip weights")
