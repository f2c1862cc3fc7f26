"""The jobs of kills.py that replace an exported folder and that forget a user, and what they have to leave."""

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
#: who is forgotten, of the set daily
USER = "ada"


def export(words: list[str]) -> int:
    """The job of exporting: writes the model of a checkpoint over the one that is there."""
    checkpoint, data, features = words
    loaded = Recommender.load(checkpoint, data_path=data, feature_cache=features, checkpoint_dir="saved", use_gpu=False)
    loaded.save_pretrained(MODEL, license="mit")
    return 0


def exported(folder: Path) -> dict[str, str]:
    """Hashes of an exported folder's files as a reader gets them; none before the first export.

    Raises:
        ValueError: the files are not of one model.
    """
    if not current_file(folder / MODEL, "config.json").exists():
        return {}
    hashes = json.loads(current_file(folder / MODEL, "config.json").read_text())["sha256"]
    found = {name: _digest(current_file(folder / MODEL, name)) for name in [*hashes, "README.md", "config.json"]}
    for name, expected in hashes.items():
        if found[name] != expected:
            raise ValueError(f"{name} is of another model than config.json")
    return found


def forget(words: list[str]) -> int:
    """The job of forgetting: anything may be left, if it is said."""
    code = recbole_llm_interest.cli.forget.main(words)
    return 0 if code == recbole_llm_interest.cli.forget.LEFT else code


def prepare(folder: Path, data: Path, training: list[str]) -> None:
    """Make what a user is forgotten from: the data set, and what two trainings leave.

    Args:
        folder: of the job.
        data: the folder of the data set daily.
        training: the command line of a training.
    """
    shutil.copytree(data, folder / "data" / "daily")
    for model in (["--model=LLMInterest"], ["--model=Pop", "--save_dataset=True"]):
        words = [*training, *model, "--table=saved/table", "--data_path=data", "--feature_cache=features"]
        if recbole_llm_interest.cli.compare.main(words) != 0:
            raise RuntimeError(f"the training of {model} did not end well")


def rows(folder: Path) -> set[str]:
    """The lines of the data set, without those of who is forgotten."""
    lines = (line for path in (folder / "data").rglob("daily.*") for line in path.read_text().splitlines())
    return {line for line in lines if USER not in line.split("\t")}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
