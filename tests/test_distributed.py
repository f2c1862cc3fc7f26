"""Several processes train as one would: real ones, over gloo."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from recbole_llm_interest.runner import run

#: nothing is drawn in a step: neither dropout nor points of a history
NOTHING_DRAWN = {"dropout_prob": 0.0, "modality_dropout": 0.0, "ssl_future_weight": 0.0, "ssl_backward_weight": 0.1}


def losses_of(result):
    return [float(loss) for loss in re.findall(r"(?:next_item|train loss)\S* ([\d.]+)", Path(result.log).read_text())]


def test_two_processes_train_as_one(settings, here):
    given = {**settings, **NOTHING_DRAWN, "epochs": 3, "train_batch_size": 64}
    alone = run(["LLMInterest", "GRU4Rec"], "cycle", config_dict=given)
    together = run(["LLMInterest", "GRU4Rec"], "cycle", config_dict=given, nproc=2)
    for one, two in zip(alone, together, strict=True):
        print(losses_of(one), losses_of(two), one.test, two.test, one.seconds_per_epoch, two.seconds_per_epoch)
        a = torch.load(one.checkpoint, weights_only=True)["state_dict"]
        b = torch.load(two.checkpoint, weights_only=True)["state_dict"]
        for k in a:
            print(k, (a[k]-b[k]).abs().max())
    print(list(here.rglob("*.pth")), list(here.rglob("*.log")), list(here.rglob("events*")))
