"""Fuzz targets: each reads the bytes of one file, and fails unless they are read or refused with a one-line error."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llm_interest.content.catalogue import read_catalogue
from recbole_llm_interest.content.feature_store import FeatureStore
from recbole_llm_interest.errors import DataError, LLMInterestError
from recbole_llm_interest.evaluation.results import read_results
from recbole_llm_interest.evaluation.table import as_table
from recbole_llm_interest.io.atomic_files import AtomicFormat, read_atomic_file
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint
from recbole_llm_interest.io.config_files import read_config_files
from recbole_llm_interest.recommender import Recommender

_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
_FORMER = Path(__file__).parent.parent / "fixtures" / "former_version"
_ENCODER = {"name": "some"}


def jsonl(data: bytes) -> None:
    """``content/items.jsonl``: read with every id once, or refused."""
    path = _FOLDER / "content" / "items.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    try:
        tokens = read_catalogue(_FOLDER, "none", "item", "item_id").tokens
    except DataError as error:
        _check_message(error)
        return
    assert 0 < len(tokens) == len(set(tokens)) <= data.count(b"\n") + 1


def atomic(data: bytes) -> None:
    """``x.inter``: every line below the header is a row, empty or refused, and kept values occur in the file."""
    path = _FOLDER / "x.inter"
    path.write_bytes(data)
    columns = {"user_id": "token", "item_id": "token", "timestamp": "float"}
    try:
        rows = read_atomic_file(path, AtomicFormat(), columns, ids=["user_id", "item_id"], time_field="timestamp")
        text = data.decode("utf-8-sig")
    except DataError as error:
        _check_message(error)
        return
    lines = {line.removesuffix("\r") for line in text.split("\n")[1:]}
    assert 0 < len(rows) <= len([line for line in text.split("\n")[1:] if line.strip("\r")])
    assert np.isfinite(rows["timestamp"]).all()
    for user, item in zip(rows["user_id"], rows["item_id"], strict=True):
        assert user
        assert item
        assert any(user in line and item in line for line in lines)


def manifest(data: bytes) -> None:
    """A store's ``manifest.json``: whatever it contains, the store can be read, and the next manifest is valid."""
    store = FeatureStore(_FOLDER, "text", "fuzz")
    store.folder.mkdir(exist_ok=True)
    (store.folder / "manifest.json").write_bytes(data)
    refused = store.read_rejections(_ENCODER)
    assert all(isinstance(key, bytes) and isinstance(reason, str) for key, reason in refused.items())
    store.write_manifest(_ENCODER, {b"k" * 32: "no image"})
    again = store.read_rejections(_ENCODER)
    assert again == {**refused, b"k" * 32: "no image"}
    assert json.loads((store.folder / "manifest.json").read_text())["encoder"] == _ENCODER


def shard(data: bytes) -> None:
    """A store's shard, under any name and under its own hash: read as rows of features, or ignored."""
    store = FeatureStore(_FOLDER, "image", "fuzz")
    store.folder.mkdir(exist_ok=True)
    for name in ("0" * 64, hashlib.sha256(data).hexdigest()):
        path = store.folder / f"{name}.safetensors"
        path.write_bytes(data)
        rows = store.read([b"k" * 32])
        assert set(rows) <= {b"k" * 32}
        path.unlink()


def checkpoint(data: bytes) -> None:
    """A checkpoint in the present format: read as nested values, or refused."""
    if not data.startswith(b"PK"):  # a former checkpoint would start a process
        _read("checkpoint.safetensors", data, load_checkpoint)


def state(data: bytes) -> None:
    """A user state: restored and continued, or refused."""
    restored = _read("state.safetensors", data, _recommender().restore)
    if restored is not None:
        _recommender().recommend(restored, 2)


def hub_folder(data: bytes) -> None:
    """``config.json`` of an exported folder, beside the other files: the model is built, or refused."""
    folder = _FOLDER / "hub"
    if not folder.exists():
        shutil.copytree(_FORMER / "folder", folder)
    _read("hub/config.json", data, lambda path: Recommender.from_pretrained(path.parent, device="cpu"))


def config(data: bytes) -> None:
    """A YAML file of settings: a mapping, or refused."""
    settings = _read("settings.yaml", data, lambda path: read_config_files([str(path)]))
    assert settings is None or all(isinstance(key, str) for key in settings)


def table(data: bytes) -> None:
    """The results of a comparison: shown as a table of as many rows, or refused."""
    results = _read("table.json", data, read_results)
    if results:
        assert as_table(results)


def _read(name: str, data: bytes, read: Callable[[Path], Any]) -> Any:
    """Return what is read from a file; None if it is refused."""
    path = _FOLDER / name
    path.write_bytes(data)
    try:
        return read(path)
    except LLMInterestError as error:
        _check_message(error)
        return None


@cache
def _recommender() -> Recommender:
    return Recommender.from_pretrained(_FORMER / "folder", device="cpu")


def _check_message(error: LLMInterestError) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 2000


TARGETS = {
    target.__name__: target for target in (jsonl, atomic, manifest, shard, checkpoint, state, hub_folder, config, table)
}
