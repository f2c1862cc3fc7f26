"""A model in another process is a row like any other: trained there, scored by our evaluator on the same events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, SUBJECTS, cycle_events, write_dataset
from recbole.utils import get_model

from recbole_llm_interest.cli import compare
from recbole_llm_interest.errors import SettingsError, TrainingError
from recbole_llm_interest.evaluation.results import read_results
from recbole_llm_interest.peers.data import histories, item_embeddings, training_events
from recbole_llm_interest.peers.model import PeerModel
from recbole_llm_interest.peers.process import PYTHON_VARIABLE, PeerProcess, peers_command
from recbole_llm_interest.peers.worker.channel import Channel
from recbole_llm_interest.training.comparison import run
from recbole_llm_interest.training.search import tune

PEERS_PYTHON = Path(os.environ.get(PYTHON_VARIABLE, REPOSITORY / ".venv-peers" / "bin" / "python"))
needs_peers = pytest.mark.skipif(not PEERS_PYTHON.exists(), reason="`make peers` has not been run: RecTools is missing")
COUNTING = [sys.executable, str(Path(__file__).with_name("counting_peer.py"))]


@pytest.fixture
def counting(monkeypatch):
    """A transition count stands in for the program of RecTools."""
    monkeypatch.setattr("recbole_llm_interest.peers.model.peers_command", lambda: COUNTING)


def pipe():
    """A channel that receives what it sends."""
    read, write = os.pipe()
    return Channel(os.fdopen(read, "rb"), os.fdopen(write, "wb"))


def test_messages_arrive_as_they_were_sent():
    channel = pipe()
    arrays = {"ids": np.arange(6).reshape(2, 3), "scores": np.array([[-np.inf, 0.5]], np.float32), "none": np.empty(0)}
    channel.send({"do": "score", "größe": [1, None]}, arrays)
    channel.send({})
    header, received = channel.receive()
    assert header == {"do": "score", "größe": [1, None]}
    assert received.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(received[name], array, strict=True)
    assert channel.receive() == ({}, {})


@pytest.mark.parametrize("line", [b"not JSON\n", b'{"header": {}, "arrays": [["x", "|O", [1]]]}\n12345678'])
def test_what_is_no_message_is_refused(line):
    channel = pipe()
    channel.target.write(line)
    channel.target.flush()
    with pytest.raises(ValueError, match=r"no part of a message|Expecting"):
        channel.receive()


def test_cut_message_is_the_end():
    channel = pipe()
    channel.send({}, {"x": np.zeros(4)})
    whole = channel.source.read1()
    channel.target.write(whole[:-3])
    channel.target.close()
    with pytest.raises(EOFError):
        channel.receive()


def test_training_events_are_all_but_the_held_out(counting, built):
    """Each user of ``cycle`` walks i{u}, i{u + 1}, …: nine events, the last two of which are held out."""
    _, _, data, train, _, _ = built("rectools:SASRec")
    events = training_events(train._dataset)
    tokens = data.id2token(data.iid_field, events["items"])
    users = data.id2token(data.uid_field, events["users"])
    expected = {f"u{user}": [f"i{(user + step) % len(SUBJECTS)}" for step in range(7)] for user in range(24)}
    assert {user: tokens[users == user].tolist() for user in np.unique(users)} == expected


def test_histories_are_whole_and_times_end_with_the_rows_own(counting, built):
    _, _, data, train, _, test = built("rectools:HSTU")
    rows = test._dataset[torch.arange(5)]
    given = histories(train._dataset, rows, 6)
    lengths = rows[data.item_list_length_field]
    for row, length, items, times in zip(
        rows[data.item_list_field], lengths, given["histories"], given["times"], strict=True
    ):
        assert items[:length].tolist() == row[:length].tolist()
        assert not items[length:].any()
        assert times.shape == (7,)
        assert (np.diff(times) >= 0).all()
        assert times[-1] > times[length - 1]


def test_embeddings_are_the_features_that_our_model_gets(built):
    _, _, data, *_ = built("LLMInterest", text_encoder="hashing")
    np.testing.assert_array_equal(item_embeddings(data), data.item_content["text"].values.numpy())
    data.item_content = {}
    with pytest.raises(SettingsError, match="set modalities"):
        item_embeddings(data)


def test_missing_environment_is_one_line(monkeypatch, tmp_path, settings, capsys):
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=PYTHON_VARIABLE):
        peers_command()
    monkeypatch.delenv(PYTHON_VARIABLE)
    monkeypatch.setattr("recbole_llm_interest.peers.process._ENVIRONMENT", tmp_path / "none")
    with pytest.raises(SettingsError, match="make peers"):
        run(["rectools:SASRec"], "cycle", config_dict=settings)


def test_failed_process_is_one_line_with_its_last_words():
    process = PeerProcess("rectools:SASRec", [sys.executable, "-c", "raise SystemExit('the wheels came off')"])
    with pytest.raises(TrainingError, match=r"rectools:SASRec.*the wheels came off"):
        process.ask({})
    process.close()


def test_killed_process_is_one_line():
    process = PeerProcess("rectools:SASRec", [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    with pytest.raises(TrainingError, match="signal 9"):
        process.ask({})
    process.close()


def test_unknown_model_of_the_library_is_named():
    with pytest.raises(SettingsError, match=r"did you mean 'rectools:SASRec'"):
        run(["rectools:SASrek"], "cycle")


def test_model_refuses_its_settings_itself(counting, settings):
    with pytest.raises(SettingsError, match="no setting 'n_blocks'"):
        run(["rectools:SASRec"], "cycle", config_dict={**settings, "rectools_n_blocks": 1})


def test_setting_of_a_peer_without_one_is_said_to_have_no_effect(settings, caplog):
    with pytest.raises(SettingsError, match="topk"):  # before anything is trained
        run(["Pop"], "cycle", config_dict={**settings, "rectools_n_factors": 16, "topk": [9], "valid_metric": "NDCG@9"})
    assert "the setting rectools_n_factors has no effect: no model of RecTools is run" in caplog.text


@pytest.mark.slow
def test_peer_is_a_row_like_any_other(counting, settings, here):
    """The next item of ``cycle`` follows from the last one, so that counts rank every tested item first."""
    words = [f"--{key}={value}" for key, value in settings.items()]
    table = here / "table.json"
    command = ["--model=rectools:SASRec,Pop", "--dataset=cycle", f"--table={table}", *words]
    assert compare.main(command) == 0
    peer, pop = read_results(table)
    assert peer.test["recall@3"] == 1.0
    assert set(peer.ranks) == {1}
    assert peer.test_digest == pop.test_digest
    assert peer.candidates == pop.candidates
    assert (peer.model, peer.epochs, peer.parameters) == ("rectools:SASRec", 2, 81)
    assert [score for _, score in peer.valid_scores] == [1.0, 1.0]
    assert (peer.cpu_seconds_per_epoch, peer.peak_memory_mb) == (0.5, 100.0)  # of the other process
    assert peer.environment_info["library"] == "RecTools 0"
    assert "library" not in pop.environment_info
    before = table.read_bytes()
    assert compare.main(command) == 0  # nothing is trained again
    assert table.read_bytes() == before


@pytest.mark.slow
def test_interrupted_run_of_a_peer_starts_anew(counting, settings, here, monkeypatch, capfd):
    """The other process has the optimizer, which no resume state holds."""
    words = [f"--{key}={value}" for key, value in settings.items()]
    command = ["--model=rectools:SASRec", "--dataset=cycle", f"--table={here / 'table.json'}", *words]
    train_epoch, losses = PeerModel.train_epoch, []

    def interrupt_second(model):
        losses.append(loss := train_epoch(model))
        if len(losses) == 2:
            raise KeyboardInterrupt
        return loss

    monkeypatch.setattr(PeerModel, "train_epoch", interrupt_second)
    assert compare.main(command) == 130
    assert "rectools:SASRec in epoch 2: the same command starts anew" in capfd.readouterr().err
    assert compare.main(command) == 0
    assert len(losses) == 4


@pytest.mark.slow
def test_checkpoint_of_a_peer_is_evaluated(counting, settings):
    (trained,) = run(["rectools:SASRec"], "cycle", config_dict=settings)
    (tested,) = run(["rectools:SASRec"], "cycle", config_dict=settings, checkpoint=trained.checkpoint)
    assert tested.test == trained.test
    assert tested.epochs == 0


def test_weights_are_copied_and_loaded(counting, built):
    _, model, *_ = built("rectools:SASRec", rectools_weight=2)
    assert type(model) is get_model("rectools:eSASRec")
    counts = model.weights["counts"]
    assert counts.requires_grad
    assert not counts.any()
    model.train_epoch()
    assert counts.sum() == 2 * 24 * 6  # 24 users with six steps between seven training events
    saved = {name: values.clone() for name, values in model.state_dict().items()}
    model.train_epoch()
    model.load_state_dict(saved)
    assert counts.sum() == 2 * 24 * 6


@pytest.mark.slow
def test_search_of_a_peer_leaves_no_process(counting, settings, here, monkeypatch):
    started, start = [], PeerProcess.__init__

    def keep(self, *arguments):
        started.append(self)
        start(self, *arguments)

    monkeypatch.setattr(PeerProcess, "__init__", keep)
    (here / "space").write_text("rectools_weight choice [1,2]\n")
    given = {"space": here / "space", "output": here / "best.yaml", "algorithm": "exhaustive"}
    best = tune("rectools:SASRec", "cycle", config_dict=settings, **given)
    assert best.settings["rectools_weight"] in (1, 2)
    assert len(started) == 2
    assert all(process._process.poll() is not None for process in started)


@needs_peers
@pytest.mark.slow
@pytest.mark.parametrize("name", ["SASRec", "eSASRec", "HSTU"])
def test_scores_are_those_of_the_librarys_recommend(name):
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY / "recbole_llm_interest" / "peers"),
        "OMP_NUM_THREADS": "1",
    }
    command = [str(PEERS_PYTHON), str(Path(__file__).with_name("recommended.py")), name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["ours"] == found["library"]
    assert len(np.unique(found["ours"], axis=0)) > 1  # of users with different histories


@needs_peers
@pytest.mark.slow
def test_models_of_rectools_learn_and_are_tested_on_the_same_events(settings):
    """They learn that each item of ``cycle`` has one successor."""
    names = ["rectools:SASRec", "rectools:eSASRec", "rectools:HSTU", "rectools:UniSRec"]
    rectools = {"rectools_n_factors": 16, "rectools_n_blocks": 1, "rectools_batch_size": 8, "learning_rate": 0.01}
    given = {**settings, **rectools, "epochs": 15, "text_encoder": "hashing", "stopping_step": 15}
    results = run([*names, "Pop"], "cycle", config_dict=given)
    assert len({result.test_digest for result in results}) == 1
    assert len({result.candidates for result in results}) == 1
    assert all(result.losses["loss"][-1] < result.losses["loss"][0] for result in results[:4])
    assert all(result.test["recall@3"] > 0.8 > results[4].test["recall@3"] for result in results[:3])


@needs_peers
@pytest.mark.slow
def test_unknown_setting_of_a_model_of_rectools_is_one_line(settings):
    with pytest.raises(SettingsError, match=r"SASRecModel has no setting 'n_blcks'; it has .*n_blocks"):
        run(["rectools:SASRec"], "cycle", config_dict={**settings, "rectools_n_blcks": 1})


@pytest.mark.slow
@pytest.mark.parametrize("targets", ["last", "successive", "all"])
def test_peer_is_tested_on_the_same_events_of_a_period(counting, settings, here, targets):
    """All users walk round at the same time: transitions before the period are those in it."""
    events = [(user, item, 1000 * (time % 1000) + time // 1000) for user, item, time in cycle_events(length=12)]
    write_dataset(here / "data", "together", events)
    given = {**settings, "time_split": [0.7, 0.85], "test_targets": targets}
    peer, pop = run(["rectools:SASRec", "Pop"], "together", config_dict=given)
    assert peer.test_digest == pop.test_digest
    assert peer.test_events == pop.test_events
    if targets != "all":  # whose histories end before the period
        assert peer.test["recall@3"] == 1.0
