"""Files that a former version wrote still load, and a training step still gives that version's numbers."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from torch import nn

from recbole_llm_interest.evaluation.results import read_results
from recbole_llm_interest.model import interest_tracker, sequence_encoders
from recbole_llm_interest.recommender import Recommender

FORMER = REPOSITORY / "tests" / "fixtures" / "former_version"
ANSWERS = json.loads((FORMER / "answers.json").read_text())
STEPS = json.loads((FORMER / "steps.json").read_text())
#: defaults of then that are others now
FORMER_DEFAULTS = {"ssl_future_weight": 0.1, "ssl_walks_weight": 0.0}
#: what ``make.py`` set beside the settings of ``conftest.py``
BASE = {"text_encoder": "hashing", "content_neighbours": 3, "use_gpu": False, "id_min_events": 1}


@pytest.fixture
def former(settings):
    """The model of the former version's checkpoint, on its data set."""
    paths = {name: settings[name] for name in ("data_path", "feature_cache")}
    return Recommender.load(FORMER / "checkpoint.pth", use_gpu=False, **paths)


@pytest.fixture
def folder(tmp_path):
    """A copy of the exported folder, which a test cannot change."""
    return shutil.copytree(FORMER / "folder", tmp_path / "folder")


def recommendations(recommender, state):
    return [[one.item, one.score] for one in recommender.recommend(state, 8)]


def assert_same(answers, expected):
    assert [item for item, _ in answers] == [item for item, _ in expected]
    assert [score for _, score in answers] == pytest.approx([score for _, score in expected], rel=1e-5, abs=1e-5)


def test_checkpoint_gives_the_same_recommendations(former):
    state = former.start("u1", history=["i0", "i1", "i2"], at=[1.0, 2.0, 3.5])
    assert_same(recommendations(former, state), ANSWERS["recommend"])
    assert_same(recommendations(former, former.start(history=["i4", "i5"])), ANSWERS["anonymous"])


def test_exported_folder_gives_the_same_recommendations(folder):
    recommender = Recommender.from_pretrained(folder, device="cpu")
    assert_same(recommendations(recommender, recommender.start(history=["i4", "i5"])), ANSWERS["anonymous"])


def test_user_state_is_restored(former, folder):
    for recommender in (former, Recommender.from_pretrained(folder, device="cpu")):
        assert recommender.version == ANSWERS["version"]
        state = recommender.restore(FORMER / "state.safetensors")
        assert_same(recommendations(recommender, state), ANSWERS["recommend"])


def test_results_are_read():
    [result] = read_results(FORMER / "table.json")
    assert result.test == ANSWERS["test"]
    assert result.environment_info["commit"] == "5ba52b1"


@pytest.mark.parametrize("name", STEPS)
def test_training_step_gives_the_same_numbers(built, name, monkeypatch):
    """A Transformer's first weights, norm and dropout are others since then, and are set to those of then here."""
    from recbole.utils import init_seed

    for module in (sequence_encoders, interest_tracker):
        monkeypatch.setattr(module, "identity_linear", nn.Linear)
    monkeypatch.setattr(sequence_encoders, "SMALL_STD", 16**-0.5)
    monkeypatch.setattr(sequence_encoders, "start_small", lambda layer: None)

    expected = STEPS[name]
    _, model, _, train, _, test = built(**BASE, block_dropout_prob=0.3, **{**FORMER_DEFAULTS, **expected["settings"]})
    if model.tracker.encoder.has_attention:
        state = model.state_dict()
        model.load_state_dict({key: value for key, value in state.items() if "input_norm" not in key})
    batch = next(iter(train))
    init_seed(7, True)
    losses = model.train().calculate_loss(batch)
    losses = losses if isinstance(losses, tuple) else (losses,)
    assert list(model.loss_names) == expected["loss_names"]
    assert [float(loss.detach()) for loss in losses] == pytest.approx(expected["losses"], rel=1e-6)

    sum(losses).backward()
    # parameters may have other names than then: their values are compared in ascending order
    gradients = np.sort([list(_summary(parameter)) for parameter in model.parameters()], axis=0)
    np.testing.assert_allclose(gradients, np.sort(list(expected["gradients"].values()), axis=0), rtol=1e-5, atol=2e-6)

    with torch.no_grad():
        scores = model.eval().full_sort_predict(next(iter(test))[0])[:3]
    then = [[-np.inf if score is None else score for score in row] for row in expected["scores"]]
    np.testing.assert_allclose(scores, then, rtol=1e-5, atol=1e-5)


def _summary(parameter):
    """Sum, norm and largest absolute value of its gradient."""
    gradient = (torch.zeros(1) if parameter.grad is None else parameter.grad.to_dense()).double()
    return float(gradient.sum()), float(gradient.norm()), float(gradient.abs().max())
