"""Each reader refuses pipes, devices, folders, sockets and sparse files with a one-line error, quickly."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_llm_interest.cli.recommend import _read_pool
from recbole_llm_interest.content import feature_formats
from recbole_llm_interest.content.blobs import MediaFile
from recbole_llm_interest.content.catalogue import read_catalogue
from recbole_llm_interest.content.encoders import weights
from recbole_llm_interest.content.encoders.weights import folder_fingerprint
from recbole_llm_interest.content.feature_store import FeatureStore
from recbole_llm_interest.content.neighbour_files import NeighbourSearch
from recbole_llm_interest.content.precomputed import read_features
from recbole_llm_interest.errors import DataError, EncoderError, LLMInterestError, SettingsError, StorageError
from recbole_llm_interest.evaluation.results import read_results
from recbole_llm_interest.io.atomic_files import AtomicFormat, read_atomic_file
from recbole_llm_interest.io.config_files import read_config_files
from recbole_llm_interest.io.files import try_lock, write_text
from recbole_llm_interest.io.variants import read_variants
from recbole_llm_interest.training.config import configure
from recbole_llm_interest.training.search import _space_lines
from recbole_llm_interest.training.trials import TrialLog


def _holes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(6 * 2**30)


def _socket(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)  # the address of a socket must be short
        socket.socket(socket.AF_UNIX).bind(path.name)


#: create, at a path, something that is not a regular file or that is too large
NOT_REGULAR: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "loop": lambda path: path.symlink_to(path.name),
    "holes": _holes,
    "socket": _socket,
}
#: names that a file cannot have
INVALID_NAMES = {"long": "x" * 300, "longer": "x/" * 3000, "NUL": "a\0b", "lone surrogate": "\ud800"}


def _features(path: Path) -> object:
    return read_features(path, ["a", "b"], "item", "item_id")


def _features_with_ids(path: Path) -> object:
    np.save(path.with_name("f.npy"), np.zeros((2, 3)))
    return _features(path.with_name("f.npy"))


#: readers by the name of the file that they read
READERS: dict[str, Callable[[Path], object]] = {
    "settings.yaml": lambda path: read_config_files([str(path)]),
    "rows.yaml": read_variants,
    "table.json": read_results,
    "trials.json": lambda path: TrialLog(path, {}),
    "space.hyper": _space_lines,
    "pool.jsonl": _read_pool,
    "f.npy": _features,
    "f.safetensors": _features,
    "f.parquet": _features,
    "f.itememb": _features,
    "f.ids.tsv": _features_with_ids,
    "f.ids.csv": _features_with_ids,
    "f.ids.json": _features_with_ids,
    "i_id_mapping.csv": _features_with_ids,
    "content/items.jsonl": lambda path: read_catalogue(path.parent.parent, "d", "item", "item_id"),
    "d.item": lambda path: read_catalogue(path.parent, "d", "item", "item_id"),
    "d.inter": lambda path: read_atomic_file(path, AtomicFormat(), {"user_id": "token"}),
    "image.png": lambda path: MediaFile(path.parent, path.name).key(),
    "model/config.json": lambda path: folder_fingerprint(path.parent),
}
#: files whose whole path a user gives
NAMED = ["settings.yaml", "rows.yaml", "table.json", "space.hyper", "pool.jsonl", "f.npy", "d.inter", "image.png"]


def _refusal(read: Callable[[Path], object], path: Path) -> str:
    start = time.process_time()
    with pytest.raises(LLMInterestError) as caught:
        read(path)
    assert time.process_time() - start < 2
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("hostile", NOT_REGULAR)
@pytest.mark.parametrize("name", READERS)
def test_path_that_is_not_a_regular_file_is_refused(tmp_path, name, hostile):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if (name, hostile) == ("model/config.json", "holes"):
        pytest.skip("weights may have any size, and their hash is computed in parts")
    NOT_REGULAR[hostile](path)
    assert _refusal(READERS[name], path)


@pytest.mark.parametrize("kind", INVALID_NAMES)
@pytest.mark.parametrize("name", NAMED)
def test_invalid_names_are_refused(tmp_path, name, kind):
    assert len(_refusal(READERS[name], tmp_path / INVALID_NAMES[kind] / name)) < 1000
    assert len(_refusal(READERS[name], Path(INVALID_NAMES[kind]))) < 1000


@pytest.mark.parametrize("hostile", NOT_REGULAR)
def test_damaged_caches_are_ignored(tmp_path, hostile):
    store = FeatureStore(tmp_path, "text", "f" * 64)
    store.folder.mkdir()
    for name in ("0" * 64 + ".safetensors", "manifest.json"):
        NOT_REGULAR[hostile](store.folder / name)
    NOT_REGULAR[hostile](tmp_path / "neighbours")
    start = time.process_time()
    assert store.read([b"k" * 32]) == {}
    assert store.read_rejections({"name": "x"}) == {}
    search = NeighbourSearch("content_neighbours", 10, (), (10, 2), 10, run=pytest.fail)
    assert search._read(tmp_path / "neighbours") is None
    assert time.process_time() - start < 2


@pytest.mark.parametrize("kind", INVALID_NAMES)
@pytest.mark.parametrize("key", ["data_path", "checkpoint_dir", "feature_cache"])
def test_invalid_names_of_folders_in_settings_are_refused(settings, key, kind):
    with pytest.raises(SettingsError) as caught:
        configure("Pop", "cycle", overrides={**settings, key: INVALID_NAMES[kind]})
    assert str(caught.value).isprintable()
    for other in (5, 1.5, [1], {"a": 1}, True):
        with pytest.raises(LLMInterestError):
            configure("Pop", "cycle", overrides={**settings, key: other})


@pytest.mark.parametrize("kind", INVALID_NAMES)
def test_files_with_invalid_names_are_not_written(tmp_path, kind):
    path = tmp_path / INVALID_NAMES[kind]
    for write in (lambda: write_text(path, "x"), lambda: try_lock(path).__enter__()):
        with pytest.raises(StorageError) as caught:
            write()
        assert str(caught.value).isprintable()
    assert not list(tmp_path.iterdir())


def test_model_folder_with_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_MAX_FILES", 3)
    for number in range(4):
        (tmp_path / f"{number}.json").write_text("{}")
    with pytest.raises(EncoderError, match="has more than 3 files: name the folder of one model"):
        folder_fingerprint(tmp_path)


@pytest.mark.parametrize("value", [1, 1.5, "rot13", "zip", "klingon", "a\0b", [], "\ud800"])
def test_invalid_encoding_is_refused(value):
    with pytest.raises(DataError, match="is not an encoding of text"):
        AtomicFormat.from_config({"field_separator": "\t", "seq_separator": " ", "encoding": value})


@pytest.mark.parametrize("key", ["field_separator", "seq_separator"])
@pytest.mark.parametrize("value", ["", 5, None, []])
def test_invalid_separator_is_refused(key, value):
    config = {"field_separator": "\t", "seq_separator": " ", "encoding": None, key: value}
    with pytest.raises(DataError, match="a separator is a text that is not empty"):
        AtomicFormat.from_config(config)


def test_parquet_that_states_more_than_memory_holds_is_refused(tmp_path, monkeypatch):
    pd.DataFrame({"item_id": ["a"] * 5000, "f0": [1.0] * 5000}).to_parquet(tmp_path / "f.parquet")
    monkeypatch.setattr(feature_formats, "MEMORY_BYTES", 50_000)
    with pytest.raises(DataError, match="states 10,000 values, more than this machine's memory holds"):
        _features(tmp_path / "f.parquet")


@pytest.mark.parametrize("key", ["seed", "USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "hidden_size"])
@pytest.mark.parametrize("value", [[], [1, 2], {"a": 1}, 10**399, -(10**399), 5.5])
def test_values_of_another_type_are_refused(settings, key, value):
    with pytest.raises(LLMInterestError) as caught:
        configure("LLMInterest", "cycle", overrides={**settings, key: value})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("value", [10**399, [1, 2**63], {"a": -(2**63) - 1}])
@pytest.mark.parametrize("key", ["learning_rate", "eval_args", "topk"])
def test_integers_beyond_64_bits_in_settings_are_refused(settings, key, value):
    with pytest.raises(SettingsError):
        configure("Pop", "cycle", overrides={**settings, key: value})
