"""Distributed training equals training in one process: real processes, over gloo."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from recbole.data.interaction import Interaction

from recbole_llm_interest.cli.compare import main
from recbole_llm_interest.distributed import (
    LOSS_WEIGHT,
    _exit_with_parent,
    _local_batch,
    _picklable_error,
    rank,
    run_in_processes,
)
from recbole_llm_interest.errors import DataError, ProcessError
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint
from recbole_llm_interest.io.variants import Variant
from recbole_llm_interest.training.comparison import run
from recbole_llm_interest.training.config import configure
from recbole_llm_interest.training.experiment import run_experiment, supports_distributed_training
from recbole_llm_interest.training.trainer import LLMInterestTrainer

#: settings with which a step draws no random numbers: no dropout and no future items; the backward objective draws none
NOTHING_DRAWN = {"dropout_prob": 0.0, "modality_dropout": 0.0, "ssl_walks_weight": 0.0, "ssl_backward_weight": 0.1}


def words(settings):
    return ["--dataset=cycle", *(f"--{key}={value}" for key, value in settings.items())]


def losses_of(result):
    lines = re.findall(r"training \[time: [\d.]+s, (.*)\]", Path(result.log).read_text())
    return [[float(loss) for loss in re.findall(r": (\d+\.\d+)", line)] for line in lines]


def weights_of(checkpoint):
    return load_checkpoint(Path(checkpoint))["state_dict"]


def assert_equal(distributed, single):
    assert losses_of(distributed) == [pytest.approx(losses, abs=2e-4) for losses in losses_of(single)]
    assert len(losses_of(distributed)) == single.epochs == distributed.epochs
    assert distributed.test == pytest.approx(single.test, abs=1e-4)
    assert distributed.best_valid == pytest.approx(single.best_valid, abs=1e-4)
    assert distributed.ranks == single.ranks
    assert (distributed.test_digest, distributed.test_events) == (single.test_digest, single.test_events)
    expected = weights_of(single.checkpoint)
    for name, weights in weights_of(distributed.checkpoint).items():
        assert torch.allclose(weights, expected[name], atol=1e-5), name


@pytest.mark.slow
def test_two_processes_equal_one(settings, here, capfd):
    """Histories are cut into windows of 6 and 2 targets, so one process has more targets of a batch than the other."""
    given = {**settings, **NOTHING_DRAWN, "epochs": 3, "train_batch_size": 40}
    (single,) = run(["LLMInterest"], "cycle", config_dict=given)
    before = {*here.rglob("*")}
    assert main([*words(given), "--nproc=2", "--table=distributed"]) == 0
    captured = capfd.readouterr()
    from recbole_llm_interest.evaluation.results import read_results

    (distributed,) = read_results(here / "distributed.json")
    assert_equal(distributed, single)
    assert distributed.environment_info["processes"] == 2
    assert "rank" not in captured.err
    assert "Warning" not in captured.err
    assert captured.out.count("| LLMInterest |") == 2  # one in each table
    new = [path.suffix for path in {*here.rglob("*")} - before if path.is_file() and "tfevents" not in path.name]
    assert sorted(new) == [".json", ".log", ".md", ".safetensors", ".tex"]
    assert len(list(Path(distributed.log).with_suffix("").glob("events*"))) == 1

    (loaded,) = run(["LLMInterest"], "cycle", config_dict=given, checkpoint=distributed.checkpoint)
    assert loaded.test == distributed.test


@pytest.mark.slow
def test_two_processes_equal_one_for_a_stock_model(settings):
    """The last batch has a single row, which only one process has."""
    given = {**settings, "dropout_prob": 0.0, "train_batch_size": 11, "learning_rate": 0.01}
    (single,) = run(["GRU4Rec"], "cycle", config_dict=given)
    (distributed,) = run(["GRU4Rec"], "cycle", config_dict=given, nproc=2)
    assert_equal(distributed, single)


def test_unsupported_models_are_trained_by_one_process(settings, caplog):
    shared = {
        model: supports_distributed_training(configure(model, "cycle", overrides=settings))
        for model in ("LLMInterest", "SASRec", "FPMC", "Pop", "BPR", "S3Rec")
    }
    assert shared == {"LLMInterest": True, "SASRec": True, "FPMC": True, "Pop": False, "BPR": False, "S3Rec": False}
    (result,) = run(["Pop"], "cycle", config_dict=settings, nproc=2)
    assert result.environment_info["processes"] == 1
    assert "Pop does not support training by several processes: one is used" in caplog.text


def fail_in_the_second_epoch(row, config):
    """Fail in the second process; the first waits for it within a step."""
    train_epoch = LLMInterestTrainer._train_epoch

    def failing(self, train_data, epoch_idx, **kwargs):
        if rank() == 1 and epoch_idx == 1:
            raise DataError("the second process has no more data")
        return train_epoch(self, train_data, epoch_idx, **kwargs)

    LLMInterestTrainer._train_epoch = failing
    return run_experiment(row, config)


@pytest.mark.slow
def test_error_in_one_process_terminates_all_and_is_raised(settings, here, capfd):
    config = configure("LLMInterest", "cycle", overrides=settings)
    with pytest.raises(DataError, match=r"^the second process has no more data$"):
        run_in_processes(2, fail_in_the_second_epoch, Variant("LLMInterest", "LLMInterest"), config)
    assert "Traceback" not in capfd.readouterr().err
    _, checkpoint = sorted((here / "saved").glob("*.safetensors"))  # the first is the state for --resume
    assert run(["LLMInterest"], "cycle", config_dict=settings, checkpoint=str(checkpoint))


def kill_second_process():
    if rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    torch.distributed.barrier()


@pytest.mark.slow
def test_killed_process_terminates_all_and_is_named():
    with pytest.raises(ProcessError, match="process 2 of 2 was ended by SIGKILL"):
        run_in_processes(2, kill_second_process)


def test_unexpected_error_keeps_its_traceback():
    error: BaseException | None = None
    try:
        rank() / 0
    except ZeroDivisionError as bug:
        error = pickle.loads(pickle.dumps(_picklable_error(bug, "process 2 of 2")))
    assert isinstance(error, RuntimeError)
    assert re.search(r"process 2 of 2:\nTraceback(.*\n)*.*rank\(\) / 0(.*\n)*ZeroDivisionError", str(error))


def test_process_exits_with_its_parent():
    """The parent is killed, so it cannot terminate the process itself. Forks, to be quick."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)

    def train():
        threading.Thread(target=_exit_with_parent, daemon=True).start()
        sender.send("training")
        time.sleep(60)

    def start():
        fork.Process(target=train).start()
        time.sleep(60)

    starter = fork.Process(target=start)
    starter.start()
    sender.close()
    assert receiver.recv() == "training"
    starter.kill()
    assert receiver.poll(30)
    with pytest.raises(EOFError):  # every process that could send has ended
        receiver.recv()


def test_torchrun_is_refused(settings, monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert main(words(settings)) == 2
    assert "under torchrun, each process would do all of this by itself: give --nproc=2" in capsys.readouterr().err


def signal_while_processes_run(group):
    for _ in range(600):
        os.killpg(group, 0)
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("signal_sent", "code", "word"), [
    (signal.SIGINT, 130, "interrupted"),
    (signal.SIGTERM, 143, "terminated"),
])  # fmt: skip
def test_interrupt_terminates_all_with_one_line(settings, here, signal_sent, code, word):
    """By Ctrl-C, which reaches every process of the terminal, or by a scheduler, which signals the first one."""
    given = [*words({**settings, "epochs": 100_000, "stopping_step": 100_000}), "--nproc=2"]
    command = [sys.executable, str(REPOSITORY / "run_recbole.py"), *given]
    with subprocess.Popen(command, cwd=here, stderr=subprocess.PIPE, text=True, start_new_session=True) as job:
        try:
            while not list(here.rglob("*.resume.safetensors")) and job.poll() is None:
                time.sleep(0.1)
            (os.killpg if signal_sent == signal.SIGINT else os.kill)(job.pid, signal_sent)
            _, err = job.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            raise
    assert job.returncode == code
    lines = [
        line for line in err.strip().splitlines() if "resource_tracker" not in line
    ]  # a message of Python's on a busy machine
    resumed = r"the same command with --resume=(\S+) goes on from \1; encoded .* kept"
    assert re.fullmatch(rf"{word}: LLMInterest in epoch \d+: {resumed}", lines[-1])
    assert "Traceback" not in err
    with pytest.raises(ProcessLookupError):
        signal_while_processes_run(job.pid)


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_local_batches_add_up_to_the_batch(rows):
    """Each row is in one local batch, and the weighted mean of their losses is the loss of the batch."""
    targets = torch.arange(1, rows + 1)
    loss = torch.rand(rows, dtype=torch.float64)  # of each row, the mean over its targets
    whole = Interaction({"row": torch.arange(rows), "targets": targets, "loss": loss})
    batches = [_local_batch(lambda index: whole, lambda batch: batch["targets"], rank, 3, []) for rank in range(3)]
    weights = [float(batch[LOSS_WEIGHT][0]) for batch in batches]
    rows_of_batches = [batch["row"].tolist() for batch, weight in zip(batches, weights, strict=True) if weight]
    assert sorted(itertools.chain(*rows_of_batches)) == list(range(rows))
    assert all(len(batch) >= 1 for batch in batches)
    means = [float((batch["loss"] * batch["targets"]).sum() / batch["targets"].sum()) for batch in batches]
    weighted_mean = sum(weight * mean for weight, mean in zip(weights, means, strict=True)) / 3
    assert weighted_mean == pytest.approx(float((loss * targets).sum() / targets.sum()))
