"""Collecting features: encoded once, never lost, lined up by token, whatever happens on the way."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import full_disk

from recbole_llm_interest.content import encoding_job
from recbole_llm_interest.content.blobs import MediaFile, Text
from recbole_llm_interest.content.encoding_job import EncodingJob, Partition
from recbole_llm_interest.content.feature_store import FeatureStore
from recbole_llm_interest.content.pipeline import align
from recbole_llm_interest.content.summary import EncodingSummary
from recbole_llm_interest.errors import ContentError, EncoderError, StorageError


class CountingEncoder:
    """Stands for an encoder where only the bookkeeping around it is tested: a text's length and first letter."""

    batch_size = 8
    packages: ClassVar[dict[str, str]] = {}
    needs_weights = False
    fingerprint = "a" * 64

    def __init__(self):
        self.description = {"name": "counting"}
        self.encoded = []

    def prepare(self):
        pass

    def load(self, content):
        if content == "poison":
            raise ContentError("is poison")
        if content == "busy":
            raise ContentError("is locked", is_lasting=False)
        return content

    def encode(self, batch):
        self.encoded += batch
        return np.array([[len(text), ord(text[0]), np.nan if text == "nan" else 1.0] for text in batch], np.float32)


def encode(texts, encoder, store, partition=None):
    """Features by token, and the summary."""
    summary = EncodingSummary("item", "text", "counting", len(texts))
    blobs = {token: Text(text) for token, text in texts.items()}
    job = EncodingJob(blobs, encoder, store, summary, partition)
    job.prepare()
    return job.run(), summary


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path, "text", "f")


def test_features_follow_tokens_whatever_the_order_of_the_rows(tmp_path):
    texts = {f"t{n}": "x" * (n + 1) for n in range(20)}
    tokens = ["", "t3", "unknown", "t11", "t0"]
    for number, turned in enumerate((texts, dict(reversed(texts.items())))):
        rows, _ = encode(turned, CountingEncoder(), FeatureStore(tmp_path / str(number), "text", "f"))
        features = align(tokens, rows)
        assert features.values[:, 0].tolist() == [0, 4, 0, 12, 1]
        assert features.present.tolist() == [False, True, False, True, True]


def test_second_run_makes_no_encoder_call(store):
    texts = {"a": "one", "b": "two", "c": "one"}
    first = CountingEncoder()
    before, summary = encode(texts, first, store)
    assert sorted(first.encoded) == ["one", "two"]  # the same text once
    assert (summary.encoded, summary.cached) == (3, 0)
    second = CountingEncoder()
    after, summary = encode(texts, second, store)
    assert second.encoded == []
    assert (summary.encoded, summary.cached) == (0, 3)
    assert all(np.array_equal(before[token], after[token]) for token in texts)


def test_only_what_is_new_is_encoded(store):
    encode({"a": "one"}, CountingEncoder(), store)
    encoder = CountingEncoder()
    encode({"a": "one", "b": "two"}, encoder, store)
    assert encoder.encoded == ["two"]


def test_another_encoder_is_a_miss(tmp_path):
    encode({"a": "one"}, CountingEncoder(), FeatureStore(tmp_path, "text", "f"))
    encoder = CountingEncoder()
    encode({"a": "one"}, encoder, FeatureStore(tmp_path, "text", "g"))
    assert encoder.encoded == ["one"]


def test_content_that_cannot_be_used_is_named_and_the_rest_goes_on(store):
    texts = {"a": "one", "b": "poison", "c": "nan", "d": "two"}
    rows, summary = encode(texts, CountingEncoder(), store)
    assert set(rows) == {"a", "d"}
    assert summary.refused == {"b": "is poison", "c": "gives features that are not finite"}
    assert "2 of 4 items have text content that cannot be used ('b' is poison; 'c' gives" in summary.problems()[0]
    again = CountingEncoder()
    _, summary = encode(texts, again, store)
    assert again.encoded == []
    assert set(summary.refused) == {"b", "c"}  # still named, though not tried again


def test_refused_content_is_tried_again_by_a_new_version_of_a_library(store, monkeypatch):
    encode({"a": "nan"}, CountingEncoder(), store)
    monkeypatch.setattr(encoding_job, "_versions", lambda packages: {"pillow": "99"})
    encoder = CountingEncoder()
    encode({"a": "nan"}, encoder, store)
    assert encoder.encoded == ["nan"]


def test_refused_content_is_tried_again_by_a_new_reader_of_media(store, monkeypatch):
    with monkeypatch.context() as former:
        former.setattr(encoding_job, "READER_VERSION", "1")
        encode({"a": "nan"}, CountingEncoder(), store)
    encoder = CountingEncoder()
    encode({"a": "nan"}, encoder, store)
    assert encoder.encoded == ["nan"]


def test_what_may_work_another_time_is_tried_again(store):
    for _ in range(2):
        rows, summary = encode({"a": "busy", "b": "one"}, CountingEncoder(), store)
        assert summary.refused == {"a": "is locked"}
    assert "busy" not in (store.folder / "manifest.json").read_text()
    assert store.read_rejections({**CountingEncoder().description, "libraries": encoding_job._versions(())}) == {}
    assert set(rows) == {"b"}


def test_file_that_changes_under_way_is_not_stored_under_the_old_key(tmp_path, store):
    """Its hash was taken when the job began; by the time it is read, it is another file."""
    (tmp_path / "page.txt").write_bytes(b"before")

    class Reader(CountingEncoder):
        def load(self, content):
            return content.read().decode()

    summary = EncodingSummary("item", "image", "reader", 1)
    job = EncodingJob({"a": MediaFile(tmp_path, "page.txt")}, Reader(), store, summary)
    (tmp_path / "page.txt").write_bytes(b"behind")
    assert job.run() == {}
    assert "was changed during the run" in summary.refused["a"]
    rows = EncodingJob({"a": MediaFile(tmp_path, "page.txt")}, Reader(), store, summary).run()
    assert rows["a"][1] == ord("b")
    assert summary.refused == {}


def test_full_disk_is_one_error_and_costs_nothing_that_was_there(store, capsys):
    """No file may grow past a limit, as on a full disk; capsys keeps the progress bar out of one."""
    encode({"a": "one"}, CountingEncoder(), store)
    before = sorted(path.name for path in store.folder.iterdir())
    with (
        full_disk(100),
        pytest.raises(
            StorageError, match=r"cannot be written \(File too large\): free some space, or set feature_cache"
        ),
    ):
        encode({"a": "one", "b": "two"}, CountingEncoder(), store)
    assert sorted(path.name for path in store.folder.iterdir()) == before
    rows, _ = encode({"a": "one", "b": "two"}, CountingEncoder(), store)
    assert set(rows) == {"a", "b"}


def test_nothing_but_refused_content_is_no_failure(store):
    rows, summary = encode({"a": "poison"}, CountingEncoder(), store)
    assert rows == {}
    assert set(summary.refused) == {"a"}


def test_interrupted_encoding_keeps_what_was_done(store, monkeypatch):
    class Interrupted(CountingEncoder):
        def encode(self, batch):
            if len(self.encoded) >= 24:
                raise KeyboardInterrupt
            return super().encode(batch)

    monkeypatch.setattr(encoding_job, "SHARD_ROWS", 8)
    texts = {str(n): f"text number {n}" for n in range(40)}
    with pytest.raises(KeyboardInterrupt):
        encode(texts, Interrupted(), store)
    rest = CountingEncoder()
    rows, _ = encode(texts, rest, store)
    assert len(rest.encoded) == 16
    assert set(rows) == set(texts)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4000000000 bytes."),
    ],
)
@pytest.mark.parametrize("where", ["load", "encode"])
def test_memory_that_runs_out_is_one_error_and_keeps_what_was_done(store, error, where):
    class Hungry(CountingEncoder):
        def load(self, content):
            return self.refuse_at(39, content) if where == "load" else content

        def encode(self, batch):
            if where == "encode":
                self.refuse_at(40, max(batch, key=len))
            return super().encode(batch)

        def refuse_at(self, length, text):
            if len(text) >= length:
                raise error
            return text

    texts = {str(n): "x" * (n + 1) for n in range(40)}
    with pytest.raises(EncoderError, match="out of memory while encoding items' text: lower text_batch_size"):
        encode(texts, Hungry(), store)
    rest = CountingEncoder()
    rows, _ = encode(texts, rest, store)
    assert len(rest.encoded) == 8  # the batch that was too much
    assert set(rows) == set(texts)


def test_error_that_is_not_of_memory_is_not_called_one(store):
    class Broken(CountingEncoder):
        def encode(self, batch):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        encode({"a": "one"}, Broken(), store)


def test_slow_encoding_closes_a_shard_before_it_is_full(store, monkeypatch):
    monkeypatch.setattr(encoding_job, "SHARD_SECONDS", 0.0)
    encode({str(n): f"text number {n}" for n in range(24)}, CountingEncoder(), store)
    assert len(list(store.folder.glob("*.safetensors"))) == 3  # one a batch


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "rename"])
def test_damaged_shard_is_encoded_again(store, damage, caplog):
    texts = {"a": "one", "b": "two"}
    before, _ = encode(texts, CountingEncoder(), store)
    (shard,) = store.folder.glob("*.safetensors")
    data = shard.read_bytes()
    if damage == "truncate":
        shard.write_bytes(data[:-3])
    elif damage == "flip":
        shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "empty":
        shard.write_bytes(b"")
    else:
        shard.rename(shard.with_stem("0" * 64))
    encoder = CountingEncoder()
    after, _ = encode(texts, encoder, store)
    assert len(encoder.encoded) == 2
    assert all(np.array_equal(before[token], after[token]) for token in texts)
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"refused": 3}', '{"encoder": {}, "refused": {"xyz": 1}}', "null"])
def test_damaged_manifest_costs_no_feature(store, damage):
    texts = {"a": "one", "b": "poison"}
    encode(texts, CountingEncoder(), store)
    (store.folder / "manifest.json").write_text(damage)
    encoder = CountingEncoder()
    rows, summary = encode(texts, encoder, store)
    assert encoder.encoded == []
    assert set(rows) == {"a"}
    assert set(summary.refused) == {"b"}


def test_manifest_says_what_made_the_features(store):
    encode({"a": "one"}, CountingEncoder(), store)
    manifest = json.loads((store.folder / "manifest.json").read_text())
    assert manifest["encoder"]["name"] == "counting"
    assert manifest["encoder"]["libraries"]["torch"] == torch.__version__
    assert manifest["fingerprint"] == "f"
    assert manifest["shards"] == [path.name for path in store.folder.glob("*.safetensors")]


def test_store_refuses_what_is_not_finite(store):
    key = Text("a").key()
    with pytest.raises(ValueError, match="finite"):
        store.write([key], np.array([[np.nan]], dtype=np.float32))
    assert store.read([key]) == {}


def test_store_holds_no_text(store):
    encode({"a": "a very private sentence"}, CountingEncoder(), store)
    assert all(b"private" not in path.read_bytes() for path in store.folder.iterdir())


def test_what_killed_writers_left_is_swept_up(store):
    encode({"a": "one"}, CountingEncoder(), store)
    left, new = store.folder / ".left", store.folder / ".new"
    for path in (left, new):
        path.write_bytes(b"half a shard")
    with new.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as the process does that is writing it
        encode({"a": "one"}, CountingEncoder(), store)
        assert not left.exists()
        assert new.exists()
    encode({"a": "one"}, CountingEncoder(), store)
    assert not new.exists()


def test_shares_of_several_processes_are_the_whole_and_do_not_overlap(store):
    texts = {str(n): f"text number {n}" for n in range(100)}
    encoders = [CountingEncoder() for _ in range(3)]
    for rank, encoder in enumerate(encoders):
        encode(texts, encoder, store, Partition(rank, 3))
    encoded = [text for encoder in encoders for text in encoder.encoded]
    assert sorted(encoded) == sorted(texts.values())
    assert min(len(encoder.encoded) for encoder in encoders) > 15


_PROGRAM = f"""
import sys, time
sys.path[:0] = {[os.path.dirname(__file__), os.path.dirname(os.path.dirname(__file__))]!r}
from pathlib import Path
from test_pipeline import CountingEncoder, encoding_job, encode
from recbole_llm_interest.content.feature_store import FeatureStore
class Slow(CountingEncoder):
    def encode(self, batch):
        time.sleep(0.01)
        return super().encode(batch)
encoding_job.SHARD_ROWS = 8
print("ready", flush=True)
encode({{str(n): "x" * (n + 1) for n in range(400)}}, Slow(), FeatureStore(Path(sys.argv[1]), "text", "f"))
"""


def start_encoding(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_PROGRAM), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.slow
def test_kill_in_mid_encoding_then_resume_gives_the_same_features(tmp_path):
    """A process that is killed without warning, at several moments: a resume ends where an undisturbed run does."""

    def shards():
        return sum(1 for _ in tmp_path.rglob("*.safetensors"))

    for more in [*random.Random(0).choices([0, 1, 2, 3], k=4), 1]:
        enough = shards() + more
        process = start_encoding(tmp_path)
        while shards() < enough:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    texts = {str(n): "x" * (n + 1) for n in range(400)}
    encoder = CountingEncoder()
    rows, _ = encode(texts, encoder, FeatureStore(tmp_path, "text", "f"))
    assert [rows[token][0] for token in texts] == list(range(1, 401))
    assert 0 < len(encoder.encoded) < 400


@pytest.mark.slow
def test_manifests_of_several_processes_at_once_are_whole_and_keep_all_refusals(store):
    """Ranks of one job finish together: each puts its own manifest in place and sweeps up."""
    program = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from recbole_llm_interest.content.feature_store import FeatureStore
        store = FeatureStore(Path({str(store.folder.parent)!r}), "text", "f")
        for number in range(60):
            store.write_manifest({{"name": "counting"}}, {{bytes([int(sys.argv[1]), number]): "is poison"}})
        """
    )
    processes = [subprocess.Popen([sys.executable, "-c", program, str(n)], stderr=subprocess.PIPE) for n in range(3)]
    assert [process.communicate()[1][-300:] for process in processes] == [b"", b"", b""]
    assert len(store.read_rejections({"name": "counting"})) > 60


@pytest.mark.slow
def test_several_processes_at_once_lose_nothing(tmp_path):
    processes = [start_encoding(tmp_path) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    encoder = CountingEncoder()
    rows, _ = encode({str(n): "x" * (n + 1) for n in range(400)}, encoder, FeatureStore(tmp_path, "text", "f"))
    assert encoder.encoded == []
    assert [row[0] for row in rows.values()] == list(range(1, 401))
