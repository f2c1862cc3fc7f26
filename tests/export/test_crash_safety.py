"""An exported folder is one model or another, whenever the process is killed."""

from __future__ import annotations

import json
import os

import pytest

from recbole_llm_interest.io import folders
from recbole_llm_interest.recommender import Recommender


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the package handles it."""


@pytest.mark.parametrize("moment", range(0, 12, 2))
def test_killed_export_leaves_a_model_that_loads(tiny_model, here, monkeypatch, moment):
    folder = here / "model"
    Recommender(tiny_model).save_pretrained(folder, license="old")
    (folder / "own.txt").write_text("somebody's")
    calls = []

    def die(original):
        def call(*arguments):
            calls.append(arguments)
            if len(calls) > moment:
                raise Killed
            return original(*arguments)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(folders, "sync_folder", die(folders.sync_folder))
        patch.setattr(os, "rename", die(os.rename))
        patch.setattr(os, "replace", die(os.replace))
        with pytest.raises(Killed):
            Recommender(tiny_model).save_pretrained(folder, license="new")
    assert len(Recommender.from_pretrained(folder).items) == 8
    Recommender(tiny_model).save_pretrained(folder, license="newer")
    assert len(Recommender.from_pretrained(folder).items) == 8
    assert "license: newer" in (folder / "README.md").read_text()
    assert {path.name for path in folder.iterdir()} == {
        *("README.md", "config.json", "features.safetensors", "model.safetensors", "texts.json", "vocabulary.json"),
        "own.txt",
    }
    assert set(json.loads((folder / "config.json").read_text())["sha256"]) >= {"model.safetensors", "texts.json"}
