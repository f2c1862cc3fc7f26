"""What made a result: the package, as it was when the process began, the libraries below it and the machine."""

from __future__ import annotations

import functools
import glob
import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config

import recbole_llm_interest
from recbole_llm_interest.distributed import world_size
from recbole_llm_interest.errors import CheckpointError
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.settings import PROPERTIES, settings_keys


def environment_info(device: torch.device) -> dict[str, Any]:
    """Versions of the package, torch and Python, the package's commit, the device, the CPU cores, the processes."""
    return {
        "version": recbole_llm_interest.__version__,
        "commit": _running_commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu(),
        "cores": cpu_cores(),
        "processes": world_size(),
    }


def cpu_cores() -> int | None:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@functools.cache  # what runs is what was there at first, whatever is committed during a long comparison
def _running_commit() -> str | None:
    return commit_of(Path(recbole_llm_interest.__file__).parent, PROPERTIES)


def commit_of(package: Path, *others: Path) -> str | None:
    """The commit of a package that lies in a git checkout, short; with ``+changes`` where it is not all committed.

    Args:
        package: its folder. One that git does not track, as in an environment within some checkout, has no commit.
        others: folders of the same checkout that belong to it.
    """
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(package, "rev-parse", "--short", "HEAD")
    changes = _git(package, "status", "--porcelain", "--", *map(str, (package, *others)))
    return f"{commit}+changes" if commit and changes else commit


def _git(folder: Path, *words: str) -> str | None:
    """What git says; None where it fails or is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cpu() -> str:
    """The processor's model, which Python itself does not know on Linux."""
    try:
        models = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        models = []
    return models[0] if models else platform.processor() or platform.machine()


#: settings that say where things lie and what is shown; and the seed, which has a place of its own
_UNRECORDED_SETTINGS = {
    *("seed", "data_path", "checkpoint_dir", "feature_cache", "show_progress", "state", "gpu_id", "use_gpu", "worker"),
    *("encoder_device", "eval_scores_mb"),
}


#: settings in which a checkpoint, or a run of a table, may differ: they change how fast a result comes, not which
RESULT_NEUTRAL_SETTINGS = {
    *("text_batch_size", "image_batch_size", "audio_batch_size", "encoder_device"),
    *("feature_cache", "strict_content", "strict_data", "allow_pickle", "download_weights", "name_users"),
    "eval_scores_mb",
}


def explicit_settings(config: Config) -> dict[str, Any]:
    """What was set for a run beyond the defaults, by files, by Python or on the command line, as JSON holds it."""
    return json_values(
        {key: value for key, value in config.external_config_dict.items() if key not in _UNRECORDED_SETTINGS}
    )


def effective_settings(config: Config) -> dict[str, Any]:
    """The settings that the plug-in has defaults for, as they are in a run of its model; none for other models."""
    if config["model"] != LLMInterest.__name__:
        return {}
    keys = [key for key in ("learning_rate", *settings_keys()) if key not in _UNRECORDED_SETTINGS]
    return json_values({key: config[key] for key in keys})


def run_identity(config: Config) -> dict[str, Any]:
    """What tells a run from others, for ``changed_setting``."""
    names = {key: config[key] for key in ("model", "dataset", "seed")}
    return names | {"settings": explicit_settings(config), "effective_settings": effective_settings(config)}


def changed_setting(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """A setting that two runs' records differ in, with its two values; None where their results are the same."""
    both = (
        then["effective_settings"].keys() & now["effective_settings"].keys()
    )  # a record of another version may have others, or none
    old, new = (
        {
            **record["settings"],
            **{key: record["effective_settings"][key] for key in both},
            **{key: record[key] for key in ("model", "dataset", "seed")},
        }
        for record in (then, now)
    )
    for key in sorted({*old, *new} - RESULT_NEUTRAL_SETTINGS):
        if old.get(key) != new.get(key):
            return key, old.get(key), new.get(key)
    return None


def check_resume_state(path: Path, state: Mapping[str, Any], config: Config) -> None:
    """Make sure that the state of an interrupted run is of one with these settings.

    Raises:
        CheckpointError: it is not.
    """
    if (changed := changed_setting(state["run"], run_identity(config))) is not None:
        key, then, now = changed
        raise CheckpointError(
            f"{path} was begun with {key}={then!r}, now {now!r}: give that again, or delete it to start anew"
        )


def data_digests(config: Config, dataset: Any) -> dict[str, str]:
    """Hashes of the data set's files and of the content that the model is given."""
    digests = {}
    for path in sorted(Path(config["data_path"]).glob(f"{glob.escape(config['dataset'])}.*")):
        if path.is_file():
            with path.open("rb") as file:
                digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    for kind in ("item", "user"):
        for modality, features in getattr(dataset, f"{kind}_content", {}).items():
            values = features.values.contiguous().view(torch.uint8).numpy()
            digests[f"{kind} {modality}"] = hashlib.sha256(values).hexdigest()
    return digests


def json_values(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` as they come back from a JSON file."""
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def digest(words: Iterable[Any]) -> str:
    """A hash of words in their order."""
    return hashlib.sha256("\n".join(map(str, words)).encode()).hexdigest()
