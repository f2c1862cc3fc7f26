"""What is made from a model says which data the model was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from recbole_llm_interest.evaluation.results import fingerprint
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint
from recbole_llm_interest.recommender import Recommender


@pytest.mark.slow
def test_checkpoint_folder_card_and_state_have_the_same_hashes(tiny_checkpoint, tmp_path):
    data_path = tiny_checkpoint.parents[1] / "data"
    recommender = Recommender.load(tiny_checkpoint, data_path=str(data_path), use_gpu=False)
    recommender.save(recommender.start("u1", history=["i1"]), tmp_path / "state")
    recommender.save_pretrained(tmp_path / "model")
    served = Recommender.from_pretrained(tmp_path / "model")
    served.save(served.start(history=["i1"]), tmp_path / "served")
    expected = load_checkpoint(Path(tiny_checkpoint))["data"]
    assert "tiny.inter" in expected
    assert json.loads((tmp_path / "model" / "config.json").read_text())["data"] == expected
    assert f"data {fingerprint(expected)}" in (tmp_path / "model" / "README.md").read_text()
    for name in ("state", "served"):
        with safe_open(tmp_path / name, "pt") as file:
            assert json.loads(file.metadata()["state"])["data"] == expected
