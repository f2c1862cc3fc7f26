"""What a training costs: CPU time, time to the best epoch and memory, with known answers."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recbole_llm_interest.training.comparison import run
from recbole_llm_interest.training.monitor import TrainingMonitor
from recbole_llm_interest.training.peak_memory import peak_memory_mb, reset_peak_memory


def monitored(scores, train=lambda: None, bigger=True, **trainer):
    """A monitor after one epoch for each validation score."""
    left = list(scores)
    trained = SimpleNamespace(
        epochs=len(scores), model=torch.nn.Linear(1, 1), _train_epoch=lambda data: train() or 0.5,
        _valid_epoch=lambda: (left.pop(0), {}), **trainer,
    )  # fmt: skip
    config = {"valid_metric": "NDCG@10", "valid_metric_bigger": bigger, "show_progress": False}
    monitor = TrainingMonitor(trained, "a model", config)
    for _ in scores:
        trained._train_epoch([0])
        trained._valid_epoch()
    return monitor


@pytest.mark.parametrize(
    ("scores", "bigger", "best"), [([0.1, 0.3, 0.2, 0.3], True, 2), ([0.3, 0.2, 0.1], False, 3), ([0.5], True, 1)]
)
def test_seconds_to_best_end_with_the_first_of_the_best_epochs(scores, bigger, best):
    monitor = monitored(scores, bigger=bigger)
    monitor.seconds = [1.0, 2.0, 4.0, 8.0][: len(scores)]
    assert monitor.costs["seconds_to_best"] == sum(monitor.seconds[:best])


def test_cpu_time_is_not_that_of_waiting():
    waiting = monitored([0.1, 0.2], train=lambda: time.sleep(0.1)).costs
    assert waiting["seconds_per_epoch"] >= 0.1 > 0.05 > waiting["cpu_seconds_per_epoch"]

    def compute():
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass

    assert monitored([0.1], train=compute).costs["cpu_seconds_per_epoch"] >= 0.05


def test_costs_of_a_model_that_another_process_trains_are_its_own():
    taken = iter([0.0, 7.0, 7.0, 10.0])
    monitor = monitored([0.1, 0.2], cpu_seconds=lambda: next(taken), peak_memory_mb=lambda: 123.0)
    assert monitor.costs["cpu_seconds_per_epoch"] == 5.0
    assert monitor.costs["peak_memory_mb"] == 123.0


def test_costs_go_on_after_an_interruption():
    first, second = monitored([0.1, 0.4]), monitored([])
    progress = {**first.progress(), "seconds": [1.0, 2.0], "cpu_seconds": [3.0, 5.0], "peak_memory_mb": 1e6}
    second.resume(progress, 0.4)
    assert second.costs == {
        **{"seconds_per_epoch": 1.5, "cpu_seconds_per_epoch": 4.0, "seconds_to_best": 3.0, "peak_memory_mb": 1e6}
    }
    former = {name: progress[name] for name in ("seconds", "losses", "valid_scores")}  # of an earlier version
    second.resume(former, 0.4)
    assert second.costs["cpu_seconds_per_epoch"] is None
    assert second.costs["seconds_per_epoch"] == 1.5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux measures anew")
def test_peak_memory_is_that_since_the_reset():
    reset_peak_memory()
    before = peak_memory_mb()
    held = np.ones(2**25)  # 256 MiB
    assert 250 < peak_memory_mb() - before < 300
    del held
    reset_peak_memory()
    assert peak_memory_mb() < before + 50


def test_result_has_costs_and_data_card(settings):
    trained, evaluated = run(["Pop", "GRU4Rec"], "cycle", config_dict=settings)
    for done in (trained, evaluated):
        assert done.cpu_seconds_per_epoch > 0
        assert 0 < done.seconds_to_best <= done.epochs * done.seconds_per_epoch * 1.0001
        assert 100 < done.peak_memory_mb < 20_000
        assert done.data_card["events"] == 24 * 9
        assert done.data_card["hash"] == trained.data_card["hash"]
        assert done.event_users == []  # leave-one-out: each user has one
    (known,) = run(["GRU4Rec"], "cycle", config_dict=settings, checkpoint=evaluated.checkpoint)
    assert (known.cpu_seconds_per_epoch, known.seconds_to_best) == (None, None)
