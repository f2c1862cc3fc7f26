"""Hostile checkpoints are refused with a one-line error, quickly, without a connection and with little memory."""

from __future__ import annotations

import json
import os
import pickle
import resource
import socket
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from recbole.quick_start import load_data_and_model
from recbole.utils import get_trainer

from recbole_llm_interest.cli.migrate import main as migrate
from recbole_llm_interest.errors import CheckpointError, LLMInterestError
from recbole_llm_interest.io.checkpoints.layout import CHECKSUM_PLACE
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint, read_resume_state
from recbole_llm_interest.io.checkpoints.writing import write_state
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.recommender.loading import read_configuration
from recbole_llm_interest.settings import read_settings
from recbole_llm_interest.settings.groups import ContentSettings
from recbole_llm_interest.settings.portable import CALLERS_SETTINGS, portable_settings, withheld_content
from recbole_llm_interest.settings.recbole_sources import recbole_keys

FORMER = REPOSITORY / "tests" / "fixtures" / "former_version" / "checkpoint.pth"


@pytest.fixture
def limited_cost():
    """Check that a test takes at most five CPU seconds, and its child processes at most a gigabyte."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, time.process_time()
    yield
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss <= max(before, 10**6)


def refusal(path, read=load_checkpoint):
    with pytest.raises(CheckpointError) as caught:
        read(Path(path))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


# --- former files, which are pickles


def body(value):
    """Opcodes that put a value on the pickle's stack."""
    return pickle.dumps(value, 2)[2:-1]


def config_of(effective, given=()):
    """A pickled ``Config``, as former versions wrote it."""
    state = {"final_config_dict": effective, "external_config_dict": dict(given)}
    return b"crecbole.config.configurator\nConfig\n)\x81" + body(state) + b"b"


NAMES = {"model": "LLMInterest", "dataset": "cycle", "item_digest": None}


def write_former(path, config, weights=b"}", compression=zipfile.ZIP_STORED, storage=b""):
    parts = body("config") + config + body("state_dict") + weights
    write_pickle(path, b"\x80\x02}(" + parts + b"u.", compression, storage)


def write_pickle(path, pickled, compression=zipfile.ZIP_STORED, storage=b""):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", storage)
        archive.writestr("archive/version", b"3\n")


OBJECT_DTYPE = b"cnumpy\ndtype\n(S'O8'\nI00\nI01\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntb"
#: an array of one pointer, 0x4141414141414141
POINTERS = (
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I1\nt"
    + OBJECT_DTYPE
    + b"I00\nS'AAAAAAAA'\ntb"
)
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"


def tensor(offset, size, stride):
    arguments = STORAGE + body(offset) + body(size) + body(stride) + b"\x89N"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def weights_of(value):
    return b"}(" + body("w") + value + b"u"


CONNECTING = ("SASRec", "cycle", None, {"local_rank": 1, "nproc": 2, "world_size": 2, "ip": "127.0.0.1", "offset": 0})


def test_valid_former_file_is_read(tmp_path):
    numbers = np.arange(4, dtype=np.float32)
    write_former(tmp_path / "x", config_of(NAMES), weights_of(tensor(0, (2, 2), (1, 2))), storage=numbers.tobytes())
    assert torch.equal(load_checkpoint(tmp_path / "x")["state_dict"]["w"], torch.tensor([[0.0, 2.0], [1.0, 3.0]]))


@pytest.mark.parametrize(
    ("config", "weights", "message"),
    [
        (config_of(NAMES), weights_of(POINTERS), "not of numbers of a known type"),
        (config_of({**NAMES, "model": np.arange(3)}), b"}", "config.model"),
        (config_of(NAMES), weights_of(b"cposix\nsystem\n" + body(("touch executed",)) + b"R"), "names posix.system"),
        (config_of(NAMES), weights_of(tensor(2, (3,), (1,))), "not inside its storage"),
        (config_of(NAMES), weights_of(tensor(0, (10**12,), (0,))), "larger than its storage"),
        (config_of(NAMES), weights_of(tensor(0, (2,), (-1,))), "not a non-negative integer"),
        (config_of(NAMES), weights_of(body(10**30)), "more than 64 bits"),
        (b"crecbole.config.configurator\nConfig\n" + body(CONNECTING) + b"R", b"}", "is not a RecBole configuration"),
        (body({}), b"}", "is not a RecBole configuration"),
        (body("LLMInterest"), b"}", "is not a RecBole configuration"),
        (body(None), b"}", "is not a RecBole configuration"),
        (config_of({}), b"}", "config.model"),
        (config_of({**NAMES, "dataset": "../cycle"}), b"}", "config.dataset"),
        (config_of(NAMES), body(None), "state_dict"),
        (config_of(NAMES), b"Nr\xff\xff\xff\x7f", "MemoryError"),
    ],
)  # fmt: skip
def test_hostile_former_file_is_refused(tmp_path, limited_cost, config, weights, message):
    write_former(tmp_path / "x.pth", config, weights, storage=bytes(16))
    assert message in refusal(tmp_path / "x.pth")
    assert not Path("executed").exists()


def test_former_file_makes_no_connection(tmp_path, limited_cost):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0)
        model, dataset, files, settings = CONNECTING
        call = body((model, dataset, files, {**settings, "port": server.getsockname()[1]}))
        write_former(tmp_path / "x.pth", b"crecbole.config.configurator\nConfig\n" + call + b"R")
        refusal(tmp_path / "x.pth")
        with pytest.raises(BlockingIOError):
            server.accept()


def test_compressed_former_file_is_refused_before_it_is_unpacked(tmp_path, limited_cost):
    write_former(tmp_path / "x.pth", config_of(NAMES), b"}", zipfile.ZIP_DEFLATED, storage=bytes(2**26))
    assert (tmp_path / "x.pth").stat().st_size < 3 * 2**20
    assert "compressed members" in refusal(tmp_path / "x.pth")


def test_pickle_that_expands_when_written_is_refused(tmp_path, limited_cost):
    """Thirty nested lists, each with the previous one twice, take a gigabyte as JSON."""
    nested: list = []
    for _ in range(30):
        nested = [nested, nested]
    write_former(tmp_path / "x.pth", config_of(NAMES), weights_of(body(nested)))
    assert "too many" in refusal(tmp_path / "x.pth")


@pytest.mark.parametrize("key", ["config", "state_dict"])
def test_former_file_without_a_part_is_refused(tmp_path, limited_cost, key):
    parts = {"config": body("config") + config_of(NAMES), "state_dict": body("state_dict") + b"}"}
    del parts[key]
    write_pickle(tmp_path / "x.pth", b"\x80\x02}(" + b"".join(parts.values()) + b"u.")
    refusal(tmp_path / "x.pth")


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("model", ["ItemKNN", "EASE", "GRU4Rec"])
def test_checkpoint_written_by_recbole_gives_the_same_scores(built, settings, here, monkeypatch, model, protocol):
    """Without this package, RecBole pickles the whole configuration, numpy arrays and matrices."""
    config, trained, _, train, _, test = built(model, repeatable=True, modalities=[])
    trainer = get_trainer(config["MODEL_TYPE"], model)(config, trained)
    trainer.eval_collector.data_collect(train)
    expected = trainer.evaluate(test, load_best_model=False)
    state = {
        "config": config, "epoch": 0, "cur_step": 0, "best_valid_score": np.float64(0.1),
        "state_dict": trained.state_dict(), "other_parameter": trained.other_parameter(),
        "optimizer": trainer.optimizer.state_dict(),
    }  # fmt: skip
    torch.save(state, "stock.pth", pickle_protocol=protocol)
    monkeypatch.setattr("sys.argv", ["test", f"--data_path={settings['data_path']}"])
    config, restored, _, _, _, test = load_data_and_model("stock.pth")
    trainer = get_trainer(config["MODEL_TYPE"], model)(config, restored)
    trainer.eval_collector.data_collect(train)
    assert trainer.evaluate(test, load_best_model=False) == expected
    if model == "GRU4Rec":
        trainer.resume_checkpoint("stock.pth")
        assert trainer.start_epoch == 1
        assert trainer.evaluate(test, model_file="stock.pth") == expected


# --- the present format


def checkpoint_of(**parts):
    config = {**NAMES, "settings": {}, "given": {}}
    return {"config": config, "state_dict": {"w": torch.arange(4.0)}, **parts}


@pytest.mark.parametrize("config", [{}, "LLMInterest", None, [], {"model": "LLMInterest"}, {**NAMES, "model": 3}])
def test_invalid_config_is_refused(tmp_path, config):
    write_state(tmp_path / "x", checkpoint_of(config=config))
    assert "is not a checkpoint: config" in refusal(tmp_path / "x")
    assert "is not a resume state: config" in refusal(tmp_path / "x", read_resume_state)
    with pytest.raises(CheckpointError):
        Recommender.load(tmp_path / "x")


@pytest.mark.parametrize(
    "parts",
    [{"state_dict": None}, {"state_dict": {"w": 3}}, {"state_dict": {1: torch.ones(1)}}, {"epoch": "1"},
     {"other_parameter": []}, {"optimizer": torch.ones(1)}, {"data": {"x.inter": 3}}],
)  # fmt: skip
def test_part_of_another_type_is_refused(tmp_path, parts):
    write_state(tmp_path / "x", checkpoint_of(**parts))
    assert f"is not a checkpoint: {next(iter(parts))}" in refusal(tmp_path / "x")


def with_content(path, content, numbers=b"", **tensors):
    """Write a file with a valid checksum and any JSON."""
    described = {
        "__metadata__": {"checksum": "0" * 8, "format": "recbole_llm_interest checkpoint 1", "content": content}
    }
    header = json.dumps({**described, **tensors}, separators=(",", ":")).encode()
    whole = len(header).to_bytes(8, "little") + header + numbers
    path.write_bytes(whole[: CHECKSUM_PLACE.start] + b"%08x" % zlib.crc32(whole) + whole[CHECKSUM_PLACE.stop :])


def stored(dtype, shape, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


PARTS = ",".join(f'"{name}":{{"$tensor":"w"}}' for name in ("data", "indices", "indptr"))
SPARSE = f'{{"$sparse":{{"format":"csr","shape":[2,2],{PARTS}}}}}'


@pytest.mark.parametrize(
    ("content", "numbers", "described"),
    [
        ("", b"", {}),
        ("{}", b"", {}),
        ("[" * 1000 + "]" * 1000, b"", {}),
        ('{"a":' * 70 + "1" + "}" * 70, b"", {}),
        ("1" * 400, b"", {}),
        ('{"$tensor":"none"}', b"", {}),
        ('{"$float":"1"}', b"", {}),
        ('{"$dict":[[[1],2]]}', b"", {}),
        ('{"$set":[[1]]}', b"", {}),
        ('{"$what":1}', b"", {}),
        ("[" + ",".join(["[]"] * 5_000_000) + "]", b"", {}),
        ("{}", b"", stored("F32", [2**40], 2**42)),
        ("{}", bytes(8), stored("F32", [3], 8)),
        ("{}", bytes(8), stored("F8_E4M3", [8], 8)),
        ("{}", bytes(4), stored("F32", [-1], 4)),
        ("{}", b"", stored("F32", [0, 2**47], 0)),
        ('{"$array":{"$tensor":"w"}}', b"\2", stored("BOOL", [1], 1)),
        (SPARSE, np.array([9, 9, 9]).tobytes(), stored("I64", [3], 24)),
        (SPARSE.replace("csr", "csc"), np.array([-1, 0, 2**40]).tobytes(), stored("I64", [3], 24)),
        ('{"$sparse_tensor":{"indices":{"$tensor":"w"},"values":{"$tensor":"w"},"size":[2]}}', bytes(8),
         stored("I64", [1], 8)),
    ],
)  # fmt: skip
def test_hostile_file_with_a_valid_checksum_is_refused(tmp_path, limited_cost, content, numbers, described):
    with_content(tmp_path / "x", content, numbers, **({"w": described} if described else {}))
    refusal(tmp_path / "x")


def test_sparse_file_and_pipe_are_refused(tmp_path, limited_cost):
    with (tmp_path / "holes").open("wb") as file:
        file.write(b"\0" * 8)
        file.truncate(6 * 2**30)
    os.mkfifo(tmp_path / "pipe")
    refusal(tmp_path / "holes")
    refusal(tmp_path / "pipe")
    refusal("/dev/zero")
    with pytest.raises(CheckpointError, match="File name too long"):
        load_checkpoint(tmp_path / ("x" * 300))


@pytest.mark.slow
def test_sizes_larger_than_the_weights_are_refused(tiny_checkpoint, tmp_path, limited_cost):
    saved = load_checkpoint(tiny_checkpoint)
    places = {"data_path": str(tiny_checkpoint.parents[1] / "data"), "use_gpu": False}
    for key in ("num_layers", "embedding_size", "hidden_size", "content_neighbours"):
        config = saved["config"]
        changed = {**config["settings"], key: 10**7}
        write_state(tmp_path / "x", {**saved, "config": {**config, "settings": changed}})
        with pytest.raises(LLMInterestError) as caught:
            Recommender.load(tmp_path / "x", **places)
        assert "\n" not in str(caught.value)


# --- settings that are not read from a file


@pytest.mark.parametrize("key", sorted(CALLERS_SETTINGS | {key for key in recbole_keys() if "path" in key}))
def test_setting_of_the_caller_is_not_read_from_a_file(key):
    assert portable_settings({key: "anything", "hidden_size": 8}) == {"hidden_size": 8}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("text_encoder", "/models/e5"), ("text_encoder", "../e5"), ("image_encoder", "local-dir:/models"),
        ("image_weights", "~/w.safetensors"), ("audio_encoder", "..\\x"), ("item_text_features", "/etc/passwd"),
        ("user_image_features", "a/../../b.npy"),
    ],
)  # fmt: skip
def test_path_of_content_is_withheld(key, value):
    assert portable_settings({key: value}) == {}
    assert withheld_content({key: value}) == [key]


@pytest.mark.parametrize(
    "settings",
    [{"benchmark_filename": ["x/../../y"]}, {"load_col": {"../inter": ["a"]}}, {"new_model_path": "x"},
     {"some": object()}, {"some": [torch.device("cuda")]}],
)  # fmt: skip
def test_paths_and_objects_in_settings_are_ignored(settings):
    assert portable_settings(settings) == {}


@pytest.mark.slow
def test_permissions_in_a_checkpoint_are_ignored(tiny_checkpoint, tmp_path, network):
    saved = load_checkpoint(tiny_checkpoint)
    hostile = {"download_weights": True, "allow_pickle": True, "gpu_id": "7", "data_path": "/", "log_wandb": True}
    config = saved["config"]
    changed = {**config, "settings": {**config["settings"], **hostile}, "given": {**config["given"], **hostile}}
    write_state(tmp_path / "x", {**saved, "config": changed})
    data = str(tiny_checkpoint.parents[1] / "data")
    _, restored = read_configuration(tmp_path / "x", {"data_path": data})
    assert read_settings(ContentSettings, restored).download_weights is False
    assert (restored["allow_pickle"], restored["gpu_id"], restored["log_wandb"]) == (False, "0", False)
    assert restored["data_path"] == f"{data}/tiny"
    with pytest.raises(LLMInterestError, match="set --data_path"):
        read_configuration(tmp_path / "x", {})
    assert not network


# --- migration


def test_migrated_checkpoint_has_the_same_weights_and_no_paths(tmp_path, capsys):
    former = tmp_path / "model.pth"
    former.write_bytes(FORMER.read_bytes())
    assert migrate([str(former)]) == 0
    assert f"{former}: converted to {tmp_path / 'model.safetensors'}" in capsys.readouterr().out
    then, now = load_checkpoint(former), load_checkpoint(tmp_path / "model.safetensors")
    assert then["state_dict"].keys() == now["state_dict"].keys()
    assert all(torch.equal(values, now["state_dict"][name]) for name, values in then["state_dict"].items())
    assert "data_path" not in now["config"]["settings"].keys() | now["config"]["given"].keys()
    assert migrate([str(former)]) == 2
    assert "already" in capsys.readouterr().err


@pytest.mark.slow
def test_long_name_of_a_weight_is_cut_in_the_message(tiny_checkpoint, tmp_path):
    saved = load_checkpoint(tiny_checkpoint)
    write_state(tmp_path / "x", {**saved, "state_dict": {**saved["state_dict"], "é" * 9000: torch.zeros(1)}})
    with pytest.raises(LLMInterestError) as caught:
        Recommender.load(tmp_path / "x", data_path=str(tiny_checkpoint.parents[1] / "data"), use_gpu=False)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", [".", "/", "", ".."])
def test_migrating_what_has_no_name_is_one_line(name, capsys):
    assert migrate([name]) == 2
    assert capsys.readouterr().err.endswith("is not a regular file: give one that a training wrote\n")


def test_header_shorter_than_its_beginning_is_refused(tmp_path):
    write_state(tmp_path / "x", checkpoint_of())
    whole = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes((5).to_bytes(8, "little") + whole[8:])
    assert "its first bytes are wrong" in refusal(tmp_path / "x")
