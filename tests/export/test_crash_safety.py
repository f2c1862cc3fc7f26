"""An exported folder is one model or another, whenever the process is killed."""

from __future__ import annotations

import json

import pytest
from conftest import killed_while_replacing

from recbole_llm_interest.recommender import Recommender


@pytest.mark.parametrize("moment", range(0, 12, 2))
def test_killed_export_leaves_a_model_that_loads(tiny_model, here, moment):
    folder = here / "model"
    Recommender(tiny_model).save_pretrained(folder, license="old")
    (folder / "own.txt").write_text("somebody's")
    with killed_while_replacing(moment):
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
