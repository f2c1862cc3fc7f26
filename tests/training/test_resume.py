"""Resuming: a resumed run has the result of an uninterrupted one; other settings and damage are one-line errors."""

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
from conftest import REPOSITORY
from recbole.config import Config

from recbole_llm_interest.cli.compare import main
from recbole_llm_interest.errors import CheckpointError, SettingsError
from recbole_llm_interest.evaluation.results import read_results
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint, read_resume_state
from recbole_llm_interest.training.comparison import run
from recbole_llm_interest.training.monitor import TrainingMonitor
from recbole_llm_interest.training.resume import ResumableTraining

EPOCHS = 5
#: settings whose state a resumed run could lose
DEMANDING = {
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
    """Interrupt runs when an epoch begins; without a number, stop doing so."""
    train_epoch = TrainingMonitor._timed

    def stop(number=None):
        def timed(self, original):
            inner = train_epoch(self, original)

            def train(data, epoch, *args, **kwargs):
                if epoch == number:
                    raise KeyboardInterrupt
                return inner(data, epoch, *args, **kwargs)

            return train

        monkeypatch.setattr(TrainingMonitor, "_timed", timed)

    return stop


def curve(here, model):
    """Return losses and validation scores of each epoch from all logs of a model."""
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
    return sorted((here / "saved").glob("*.resume.safetensors"))


def interrupted(here, model, given, stop_before, epoch=2):
    """Return the resume state of a run that is interrupted when ``epoch`` begins."""
    stop_before(epoch)
    with pytest.raises(KeyboardInterrupt):
        run([model], "cycle", config_dict=given)
    stop_before()
    (state,) = states(here)
    return state


def weights_of(path):
    return load_checkpoint(Path(path))["state_dict"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "more", "epoch"),
    [
        ("LLMInterest", DEMANDING, 3),
        ("LLMInterest", {"loss_candidates": 3, "eval_step": 2}, 3),
        ("GRU4Rec", {}, 1),
        ("GRU4Rec", {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni3"}}, 2),
        ("MultiVAE", {"anneal_cap": 0.9, "total_anneal_steps": 30}, 2),
        ("RecVAE", {}, 2),
    ],
)
def test_resumed_run_equals_an_uninterrupted_one(given, here, stop_before, model, more, epoch):
    given = given | more
    (uninterrupted,) = run([model], "cycle", config_dict=given)
    expected = curve(here, model)
    forget_logs(here)
    state = interrupted(here, model, given, stop_before, epoch)
    (resumed,) = run([model], "cycle", config_dict=given, resume=str(state))
    assert curve(here, model) == expected
    assert len(expected) > EPOCHS
    for name in ("test", "best_valid", "epochs", "ranks", "test_digest", "losses", "valid_scores"):
        assert getattr(resumed, name) == getattr(uninterrupted, name), name
    assert resumed.seconds_per_epoch > 0
    for name, weights in weights_of(uninterrupted.checkpoint).items():
        assert torch.equal(weights, weights_of(resumed.checkpoint)[name]), name
    assert states(here) == []
    assert Path(resumed.checkpoint) == state.with_name(state.name.replace(".resume", ""))


def test_resume_state_of_an_earlier_version_is_resumed(given, here, stop_before):
    """It is a pickle, and its keys had other names."""
    (uninterrupted,) = run(["GRU4Rec"], "cycle", config_dict=given)
    path = interrupted(here, "GRU4Rec", given, stop_before)
    state = read_resume_state(path)
    former = {"progress": "record", "random_states": "draws", "counters": "numbers"}
    state = {former.get(key, key): value for key, value in state.items()}
    state["run"]["in_effect"] = state["run"].pop("effective_settings")
    recorded, config = state["config"], Config.__new__(Config)
    names = {key: recorded[key] for key in ("model", "dataset", "item_digest")}
    config.__dict__.update(final_config_dict=recorded["settings"] | names, external_config_dict=recorded["given"])
    new = Path(path).with_suffix("").with_suffix("")
    torch.save({**state, "config": config}, new.with_suffix(".resume.pth"), pickle_protocol=2)
    Path(path).unlink()
    (resumed,) = run(["GRU4Rec"], "cycle", config_dict=given, resume=str(new.with_suffix(".pth")))
    assert not new.with_suffix(".resume.pth").exists()
    assert (resumed.test, resumed.losses) == (uninterrupted.test, uninterrupted.losses)


@pytest.mark.slow
def test_same_command_resumes_the_runs_of_a_table(given, here, stop_before, capfd):
    words = ["--dataset=cycle", *(f"--{key}={value}" for key, value in given.items())]
    assert main(["--model=GRU4Rec,Pop", *words, "--table=left-alone"]) == 0
    stop_before(3)
    command = ["--model=Pop,GRU4Rec", *words, "--table=mine"]
    assert main(command) == 130
    assert (
        "interrupted: GRU4Rec in epoch 3: the same command goes on from saved/GRU4Rec-mine-" in capfd.readouterr().err
    )
    assert len(states(here)) == 1
    stop_before()
    trained = []
    original = ResumableTraining.restore
    ResumableTraining.restore = lambda self, state: trained.append(state["epoch"]) or original(self, state)
    try:
        assert main(command) == 0
    finally:
        ResumableTraining.restore = original
    assert trained == [2]
    assert states(here) == []
    by_row = {result.variant: result for result in read_results(here / "mine.json")}
    for result in read_results(here / "left-alone.json"):
        assert by_row[result.variant].test == result.test
        assert by_row[result.variant].epochs == result.epochs


def test_finished_run_cannot_be_resumed_and_keeps_its_checkpoint(given, here, capsys):
    (finished,) = run(["GRU4Rec"], "cycle", config_dict=given)
    before = Path(finished.checkpoint).read_bytes()
    words = ["--model=GRU4Rec", "--dataset=cycle", *(f"--{key}={value}" for key, value in given.items())]
    assert main([*words, f"--resume={finished.checkpoint}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "there is nothing to resume" in line
    assert f"--checkpoint={finished.checkpoint} evaluates it" in line
    assert Path(finished.checkpoint).read_bytes() == before


def test_recboles_own_resuming_keeps_a_finished_checkpoint(given, built):
    from recbole.utils import get_trainer

    config, model, _, train, valid, _ = built("GRU4Rec", **given)
    trainer = get_trainer(config["MODEL_TYPE"], "GRU4Rec")(config, model)
    trainer.fit(train, valid, verbose=False)
    before = Path(trainer.saved_model_file).read_bytes()
    again = get_trainer(config["MODEL_TYPE"], "GRU4Rec")(config, built("GRU4Rec", **given)[1])
    again.resume_checkpoint(trainer.saved_model_file)
    again.start_epoch = config["epochs"]
    again.fit(train, valid, verbose=False)
    assert Path(trainer.saved_model_file).read_bytes() == before


def test_run_interrupted_during_its_test_is_not_trained_again(given, here, monkeypatch):
    import recbole_llm_interest.training.experiment as experiment

    (uninterrupted,) = run(["GRU4Rec"], "cycle", config_dict=given)
    forget_logs(here)
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "_test", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(["GRU4Rec"], "cycle", config_dict=given)
    forget_logs(here)
    (state,) = states(here)
    (resumed,) = run(["GRU4Rec"], "cycle", config_dict=given, resume=str(state))
    assert curve(here, "GRU4Rec") == {}
    assert (resumed.test, resumed.epochs, resumed.best_valid) == (
        uninterrupted.test, uninterrupted.epochs, uninterrupted.best_valid)  # fmt: skip


@pytest.mark.slow
def test_resuming_with_other_settings_or_data_is_one_line_and_exit_2(given, here, stop_before, capsys):
    state = interrupted(here, "LLMInterest", given, stop_before)
    checkpoint = str(state).replace(".resume", "")
    before = {path: path.read_bytes() for path in (state, Path(checkpoint))}

    def refusal(model="LLMInterest", resume=checkpoint, **other):
        words = [f"--{key}={value}" for key, value in {**given, **other}.items()]
        assert main([f"--model={model}", "--dataset=cycle", *words, f"--resume={resume}"]) == 2
        *_, line = capsys.readouterr().err.splitlines()  # before it, bars of encoding
        assert line.startswith("error: ")
        assert {path: path.read_bytes() for path in before} == before
        return line

    assert "was begun with learning_rate=0.003, now 0.1: give that again" in refusal(learning_rate=0.1)
    assert "was begun with epochs=5, now 9" in refusal(epochs=9)
    assert "was begun with seed=2020, now 1" in refusal(seed=1)
    assert "was begun with text_max_length=None, now 3" in refusal(text_max_length=3)
    assert "was begun with model='LLMInterest', now 'GRU4Rec'" in refusal(model="GRU4Rec")
    assert "was begun with text_encoder='hashing', now 'all-MiniLM-L6-v2'" in refusal(text_encoder="all-MiniLM-L6-v2")
    assert "does not exist; no epoch had ended" in refusal(resume="saved/nothing.pth")
    with pytest.raises(SettingsError, match="several go on by the same --table"):
        run(["Pop", "GRU4Rec"], "cycle", config_dict=given, resume=checkpoint)
    items = here / "data" / "cycle" / "cycle.item"
    events = here / "data" / "cycle" / "cycle.inter"
    for path, old, new in ((items, "whales", "sharks"), (events, "u3\ti7", "u3\ti6")):
        text = path.read_text()
        path.write_text(text.replace(old, new, 1))
        assert f"was begun with other data: {path.name} has changed since" in refusal()
        path.write_text(text)
    Path(checkpoint).write_bytes(before[Path(checkpoint)][:-99])
    before[Path(checkpoint)] = Path(checkpoint).read_bytes()
    assert f"checkpoint {checkpoint} is damaged" in refusal()


@pytest.mark.slow
def test_damaged_resume_state_is_one_line_and_exit_2(given, here, stop_before, capsys):
    state = interrupted(here, "GRU4Rec", given, stop_before)
    whole, chance = state.read_bytes(), random.Random(0)
    words = ["--model=GRU4Rec", "--dataset=cycle", *(f"--{key}={value}" for key, value in given.items())]
    content = load_checkpoint(Path(state))["state_dict"]["item_embedding.weight"].numpy().tobytes()
    in_weights = whole.index(content) + len(content) // 2
    damaged = [whole[:cut] for cut in (0, 1, len(whole) // 2, len(whole) - 1)]
    places = (in_weights, whole.index(b"best_valid_result"))
    damaged += [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in places]
    for number, data in enumerate(damaged):
        state.write_bytes(data)
        assert main([*words, f"--resume={state}"]) == 2, number
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{state} is damaged" in line
    from recbole_llm_interest.training.resume import load_resume_state

    state.write_bytes(whole)
    expected = repr(load_resume_state(state))
    for _ in range(150):
        place = chance.randrange(len(whole))
        state.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :])
        try:
            found = repr(load_resume_state(state))
        except CheckpointError:
            continue
        assert re.sub("0x[0-9a-f]+", "", found) == re.sub("0x[0-9a-f]+", "", expected)  # padding


@pytest.mark.slow
@pytest.mark.parametrize(("model", "kills"), [("LLMInterest", 4), ("GRU4Rec", 4)])
def test_run_killed_at_random_ends_in_the_same_result(given, here, model, kills):
    given = (
        given | {"epochs": 60, "learning_rate_schedule": "linear"} if model == "LLMInterest" else given | {"epochs": 60}
    )
    given |= {"stopping_step": 100}
    words = [f"--model={model}", "--dataset=cycle", *(f"--{key}={value}" for key, value in given.items())]
    (uninterrupted,) = run([model], "cycle", config_dict=given)
    expected = curve(here, model)
    forget_logs(here)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "recbole_llm_interest", *words, "--table=mine"]
    chance, reached = random.Random(model), []
    for _ in range(kills):
        job = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        logged = len(curve(here, model))
        wanted = logged + chance.randrange(2, 2 * 60 // kills)
        while job.poll() is None and len(curve(here, model)) < wanted:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.02))
        job.send_signal(signal.SIGKILL)
        job.wait()
        reached.append(len(curve(here, model)))
        for path in (here / "saved").glob("[!.]*.safetensors"):
            load_checkpoint(Path(path))
    assert subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert curve(here, model) == expected
    assert reached == sorted(set(reached))
    (resumed,) = read_results(here / "mine.json")
    assert (resumed.test, resumed.best_valid, resumed.epochs) == (
        uninterrupted.test, uninterrupted.best_valid, uninterrupted.epochs)  # fmt: skip
    for name, weights in weights_of(uninterrupted.checkpoint).items():
        assert torch.equal(weights, weights_of(resumed.checkpoint)[name]), name
    assert list((here / "saved").glob(".*")) == []
    assert states(here) == []


@pytest.mark.slow
def test_two_processes_restore_their_random_states(given, here, monkeypatch):
    """Each process has random number generators of its own."""
    given = given | {"train_batch_size": 40}
    (uninterrupted,) = run(["LLMInterest"], "cycle", config_dict=given, nproc=2)
    expected = curve(here, "LLMInterest")
    forget_logs(here)
    words = ["--model=LLMInterest", "--dataset=cycle", *(f"--{key}={value}" for key, value in given.items())]
    job = subprocess.Popen(
        [sys.executable, "-m", "recbole_llm_interest", *words, "--nproc=2", "--epochs=5"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
    )
    while job.poll() is None and not states(here):
        time.sleep(0.01)
    job.send_signal(signal.SIGKILL)
    job.wait()
    (state,) = states(here)
    with pytest.raises(CheckpointError, match="begun by 2 processes, not 1: give --nproc=2"):
        run(["LLMInterest"], "cycle", config_dict=given, resume=str(state))
    forget_logs(here)
    (resumed,) = run(["LLMInterest"], "cycle", config_dict=given, resume=str(state), nproc=2)
    rest = curve(here, "LLMInterest")
    assert rest
    assert rest == {key: values for key, values in expected.items() if key in rest}
    assert resumed.test == uninterrupted.test
    assert resumed.epochs == EPOCHS
