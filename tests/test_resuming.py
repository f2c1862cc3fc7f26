"""An interrupted run goes on to the very result of one that nobody disturbed, or is refused in one line."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY, cycle_events, write_dataset

from recbole_llm_interest.errors import CheckpointError, SettingsError
from recbole_llm_interest.evaluation.comparison import read_results
from recbole_llm_interest.experiment import EpochWatch
from recbole_llm_interest.resuming import StateKeeper
from recbole_llm_interest.runner import main, run

EPOCHS = 5
#: a schedule, dropout, contrasts, a scaled validation every second epoch: all that a state could lose
DEMANDING = {
    "epochs": EPOCHS,
    "learning_rate_schedule": "cosine",
    "warmup_epochs": 1,
    "clip_grad_norm": {"max_norm": 1.0},
    "ssl_views_weight": 0.1,
}


@pytest.fixture
def given(settings):
    return settings | {"epochs": EPOCHS, "text_encoder": "hashing"}


@pytest.fixture
def stop_before(monkeypatch):
    """Ends runs as a kill would when an epoch begins; called without a number, no longer."""
    train_epoch = EpochWatch._timed

    def stop(number=None):
        def timed(self, original):
            inner = train_epoch(self, original)

            def train(data, epoch, *args, **kwargs):
                if epoch == number:
                    raise KeyboardInterrupt
                return inner(data, epoch, *args, **kwargs)

            return train

        monkeypatch.setattr(EpochWatch, "_timed", timed)

    return stop


def curve(here, model):
    """Losses and validation scores of each epoch, from all the logs of a model, the times of their lines apart."""
    found = {}
    for log in sorted((here / "log" / model).glob("*.log"), key=lambda path: path.stat().st_mtime_ns):
        text = re.sub(r"\x1b\[\d+m", "", log.read_text())
        for kind, pattern in (("loss", r"epoch (\d+) training \[time: [\d.]+s, (.*)\]"),
                              ("score", r"epoch (\d+) evaluating \[time: [\d.]+s, (.*)\]")):  # fmt: skip
            found |= {(kind, int(epoch)): values for epoch, values in re.findall(pattern, text)}
    return found


def forget_logs(here):
    for log in (here / "log").rglob("*.log"):
        log.unlink()


def states(here):
    return sorted((here / "saved").glob("*.resume.pth"))


def interrupted(here, model, given, stop_before, epoch=2):
    """The state of a run that ended when ``epoch`` began."""
    stop_before(epoch)
    with pytest.raises(KeyboardInterrupt):
        run([model], "cycle", config_dict=given)
    stop_before()
    (state,) = states(here)
    return state


def weights_of(path):
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("LLMInterest", DEMANDING),
        ("LLMInterest", {"loss_candidates": 3, "epochs": EPOCHS, "eval_step": 2}),
        ("GRU4Rec", {}),
        ("GRU4Rec", {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni3"}}),
        ("BPR", {}),
        ("MultiVAE", {"anneal_cap": 0.9, "total_anneal_steps": 30}),
        ("RecVAE", {}),
    ],
)
def test_a_run_that_goes_on_is_one_that_nobody_disturbed(given, here, stop_before, model, more, epoch):
    given = given | more
    (undisturbed,) = run([model], "cycle", config_dict=given)
    expected = curve(here, model)
    forget_logs(here)
    state = interrupted(here, model, given, stop_before, epoch)
    (resumed,) = run([model], "cycle", config_dict=given, resume=str(state))
    assert curve(here, model) == expected
    assert len(expected) > EPOCHS
    for name in ("test", "best_valid", "epochs", "places", "test_digest"):
        assert getattr(resumed, name) == getattr(undisturbed, name), name
    assert resumed.seconds_per_epoch > 0
    for name, weights in weights_of(undisturbed.checkpoint).items():
        assert torch.equal(weights, weights_of(resumed.checkpoint)[name]), name
    assert states(here) == []
    assert Path(resumed.checkpoint) == state.with_name(state.name.replace(".resume", ""))
