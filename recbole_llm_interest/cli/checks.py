"""Checks of this machine: which encoders and file formats work, and how to add the others."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from recbole_llm_interest.content.encoders import ENCODERS, create_encoder, encoder_class
from recbole_llm_interest.content.encoders.weights import cached_model
from recbole_llm_interest.content.encoding_job import installed_version
from recbole_llm_interest.content.media.images import FORMATS
from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.settings import MODALITIES, MODELS, ContentSettings
from recbole_llm_interest.training.environment_info import cpu_cores

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


def run_checks() -> list[Check]:
    """Check versions, devices, each registered encoder, the default encoders' weights, and file formats."""
    checks: list[Callable[[], Iterable[Check]]] = [
        _check_versions,
        _check_torchvision,
        _check_encoders,
        _check_default_weights,
        _check_images,
        _check_audio,
        _check_precomputed,
        _check_hub_cache,
    ]
    return [result for check in checks for result in check()]


def _check_versions() -> Iterable[Check]:
    versions = ", ".join(f"{package} {installed_version(package)}" for package in ("recbole", "torch", "numpy"))
    yield Check("versions", f"Python {sys.version.split()[0]}, {versions}")
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    cpu = f"no GPU; {cpu_cores()} CPU cores, {torch.get_num_threads()} threads"
    yield Check("device", ", ".join(gpus) or cpu)
    yield Check("models", f"RecBole's, {', '.join(MODELS)}")


def _check_torchvision() -> Iterable[Check]:
    version = installed_version("torchvision")
    if version is None:
        yield Check("torchvision", "not installed", "pip install -c constraints.txt torchvision, for CLIP")
        return
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # a build for another torch fails in many ways
        yield Check(
            "torchvision",
            f"{version} does not import: {_one_line(error)}",
            f"install the release for torch {torch.__version__} (constraints.txt pairs them); without it, transformers "
            "does not import either",
            is_required=True,
        )
        return
    has_operators = hasattr(torch.ops.torchvision, "nms") and bool(
        torch._C._dispatch_has_kernel_for_dispatch_key("torchvision::nms", "CPU")
    )
    yield Check("torchvision", version if has_operators else f"{version}, patched: it was built for a torch with CUDA")


def _check_encoders() -> Iterable[Check]:
    """The packages of each registered encoder; a default encoder of a default modality is required."""
    defaults = ContentSettings()
    for modality, registry in ENCODERS.items():
        default = getattr(defaults, f"{modality}_encoder", "")
        for name in registry:
            encoder = encoder_class(modality, name)
            is_required = modality in defaults.modalities and encoder is encoder_class(modality, default)
            yield _check_imports(f"{modality} encoder {name}", encoder.packages, is_required=is_required)


def _check_default_weights() -> Iterable[Check]:
    """The weights of each modality's default encoder, on this machine alone; the encoder itself looks for them."""
    settings = ContentSettings()
    for modality in MODALITIES:
        encoder_name = getattr(settings, f"{modality}_encoder")
        if not encoder_class(modality, encoder_name).needs_weights:
            continue
        name, is_required = f"weights of {encoder_name}", modality in settings.modalities
        try:
            create_encoder(modality, settings).prepare()
        except EncoderError as error:
            yield Check(name, "not available", str(error), is_required)
        else:
            yield Check(name, "available", is_required=is_required)


def _check_images() -> Iterable[Check]:
    try:
        from PIL import Image
    except ImportError as error:
        yield Check("image formats", f"Pillow does not import: {_one_line(error)}", _install("pillow"))
        return
    Image.init()
    readable = [name for name in FORMATS if name in Image.OPEN]
    missing = [name for name in FORMATS if name not in Image.OPEN]
    remedy = f"Pillow was built without {', '.join(missing)}: pip install --upgrade pillow" if missing else ""
    yield Check("image formats", f"Pillow {installed_version('pillow')}: {', '.join(readable)}", remedy)


def _check_audio() -> Iterable[Check]:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package is there, libsndfile is not
        yield Check("audio formats", f"soundfile: {_one_line(error)}", _install("soundfile"))
    else:
        formats = [name for name in _AUDIO_FORMATS if name in soundfile.available_formats()]
        yield Check("audio formats", f"soundfile {soundfile.__version__}: {', '.join(formats)}")
    yield _check_imports("other audio formats (m4a, aac, wma, videos)", {"av": "av"})


def _check_precomputed() -> Iterable[Check]:
    yield _check_imports("precomputed features in Parquet", {"pyarrow": "pyarrow"})


def _check_hub_cache() -> Iterable[Check]:
    try:
        from huggingface_hub import constants, scan_cache_dir
    except ImportError as error:
        yield Check("hub cache", f"huggingface_hub: {_one_line(error)}", _install("huggingface_hub"))
        return
    offline = ", offline (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else ""
    folder = Path(constants.HF_HUB_CACHE)
    repositories = scan_cache_dir(folder).repos if folder.is_dir() else ()
    models = sorted(repository.repo_id for repository in repositories if repository.repo_type == "model")
    yield Check("hub cache", f"{folder}{offline}: {_list_models(models)}")


def _list_models(models: Iterable[str]) -> str:
    has_weights = {name: cached_model(name) is not None for name in models}
    complete = ", ".join(name for name, is_complete in has_weights.items() if is_complete) or "no checkpoints"
    incomplete = ", ".join(name for name, is_complete in has_weights.items() if not is_complete)
    return f"{complete}; without weights: {incomplete}" if incomplete else complete


def _check_imports(name: str, packages: Mapping[str, str], is_required: bool = False) -> Check:
    """Import each package, which takes a moment and is the only way to know that it works.

    Args:
        name: of the check.
        packages: the module to import by the package's name.
        is_required: whether the default settings need them.
    """
    for package, module in packages.items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            return Check(name, f"{package}: {_one_line(error)}", _install(package), is_required)
        except Exception as error:  # a broken installation raises anything
            state = f"{package} is installed but does not import: {_one_line(error)}"
            return Check(name, state, f"reinstall it: {_install(package)}", is_required)
    state = ", ".join(f"{package} {installed_version(package)}" for package in packages)
    return Check(name, state or "no packages needed", is_required=is_required)


def _install(package: str) -> str:
    return f"pip install -c constraints.txt {package}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
