"""The jobs ``export`` and ``forget`` of kills.py, and how to check their results."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import recbole_llm_interest.cli.compare
import recbole_llm_interest.cli.forget
from recbole_llm_interest.io.folders import current_file
from recbole_llm_interest.recommender import Recommender

MODEL = Path("model")
#: the user to remove from the data set daily
USER = "ada"


def export(arguments: list[str]) -> int:
    """The job of exporting: overwrites an exported folder with the model of a checkpoint."""
    checkpoint, data, features = arguments
    loaded = Recommender.load(checkpoint, data_path=data, feature_cache=features, checkpoint_dir="saved", use_gpu=False)
    loaded.save_pretrained(MODEL, license="mit")
    return 0


def exported(folder: Path) -> dict[str, str]:
    """Return hashes of an exported folder's files, as a reader would load them; empty before the first export.

    Raises:
        ValueError: the files are of different models.
    """
    if not current_file(folder / MODEL, "config.json").exists():
        return {}
    hashes = json.loads(current_file(folder / MODEL, "config.json").read_text())["sha256"]
    found = {name: _digest(current_file(folder / MODEL, name)) for name in [*hashes, "README.md", "config.json"]}
    for name, expected in hashes.items():
        if found[name] != expected:
            raise ValueError(f"{name} is of another model than config.json")
    return found


def forget(arguments: list[str]) -> int:
    """The job of forgetting. Files may be left, if they are reported."""
    code = recbole_llm_interest.cli.forget.main(arguments)
    return 0 if code == recbole_llm_interest.cli.forget.LEFT else code


def prepare(folder: Path, data: Path, training: list[str]) -> None:
    """Create the files that a user is removed from: the data set, and the files of two trainings.

    Args:
        folder: of the job.
        data: the folder of the data set daily.
        training: the command line of a training.
    """
    shutil.copytree(data, folder / "data" / "daily")
    for model in (["--model=LLMInterest"], ["--model=Pop", "--save_dataset=True"]):
        arguments = [*training, *model, "--table=saved/table", "--data_path=data", "--feature_cache=features"]
        if recbole_llm_interest.cli.compare.main(arguments) != 0:
            raise RuntimeError(f"the training of {model} failed")


def rows(folder: Path) -> set[str]:
    """The lines of the data set, without those of the removed user."""
    lines = (line for path in (folder / "data").rglob("daily.*") for line in path.read_text().splitlines())
    return {line for line in lines if USER not in line.split("\t")}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
