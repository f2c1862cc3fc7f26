"""What docstrings of the recommender use in their examples: a tiny trained model, and its checkpoint."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# the index of manifests of what tests write, also of the processes that they start, is not this user's
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="state-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)

SUBJECTS = ("space", "whales", "bread", "chess", "volcanoes", "tango", "vaccines", "castles")
#: a model of a few thousand parameters that learns in a second or two that each item follows from the last one
SETTINGS: dict[str, Any] = {
    "text_encoder": "hashing",
    "content_neighbours": 0,
    "repeat_bias": False,
    "MAX_ITEM_LIST_LENGTH": 6,
    "embedding_size": 16,
    "hidden_size": 16,
    "epochs": 25,
    "learning_rate": 0.03,
    "train_batch_size": 64,
    "topk": [3],
    "metrics": ["NDCG"],
    "valid_metric": "NDCG@3",
    "show_progress": False,
}


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a model of 24 users, each of whom goes through the items in the same order."""
    from recbole_llm_interest.training.comparison import run

    folder = tmp_path_factory.mktemp("doctest")
    write_tiny_dataset(folder / "data" / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["doctest"])
        settings = {**SETTINGS, "data_path": str(folder / "data"), "feature_cache": str(folder / "features")}
        (result,) = run(["LLMInterest"], "tiny", config_dict=settings)
    return folder / result.checkpoint


def write_tiny_dataset(folder: Path) -> None:
    """Write RecBole's atomic files: 24 users with nine events each, a day apart, titles of eight items."""
    folder.mkdir(parents=True)
    events = [
        f"u{user}\ti{1 + (user + step) % len(SUBJECTS)}\t{1.7e9 + 86400 * step}"
        for user in range(1, 25)
        for step in range(9)
    ]
    (folder / "tiny.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *events]) + "\n")
    titles = [f"i{number}\tA film about {subject}" for number, subject in enumerate(SUBJECTS, start=1)]
    (folder / "tiny.item").write_text("\n".join(["item_id:token\ttitle:token_seq", *titles]) + "\n")


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Path) -> Any:
    """What the checkpoint holds, as recommenders are made of it."""
    from recbole_llm_interest.recommender.loading import load_trained

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["doctest"])
        return load_trained(tiny_checkpoint, {})


@pytest.fixture
def recommender_names(tiny_model: Any, tiny_checkpoint: Path, tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """Makes the names that a docstring of the recommender uses, with a recommender of its own, which it may change."""
    import torch

    from recbole_llm_interest.recommender import Calibration, Recommender, join

    def names() -> dict[str, Any]:
        recommender = Recommender(tiny_model)
        return {
            "torch": torch,
            "Calibration": Calibration,
            "Recommender": Recommender,
            "join": join,
            "recommender": recommender,
            "state": recommender.start("u1", history=["i1", "i2"]),
            "checkpoint": tiny_checkpoint,
            "folder": tmp_path,
        }

    return names


@pytest.fixture(autouse=True)
def _doctests_of_the_recommender(request: pytest.FixtureRequest, doctest_namespace: dict[str, Any]) -> None:
    if isinstance(request.node, pytest.DoctestItem) and any(
        part in request.node.name for part in (".recommender", "live_figures")
    ):
        doctest_namespace.update(request.getfixturevalue("recommender_names")())
