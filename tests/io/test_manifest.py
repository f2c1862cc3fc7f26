"""What was written is recorded before it is, and a manifest's word is believed only of this user's own runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from recbole_llm_interest.errors import StorageError
from recbole_llm_interest.io import manifest
from recbole_llm_interest.io.files import exclusive_data_set_lock, shared_data_set_lock
from recbole_llm_interest.io.manifest import (
    MANIFEST,
    Artifact,
    _line,
    drop,
    known_manifests,
    read,
    record,
    recorded_data_path,
)


@pytest.fixture(autouse=True)
def _own_index(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


def artifact(folder: Path, name: str, dataset: str = "daily") -> Artifact:
    return Artifact(folder / name, "checkpoint", dataset, folder / "data" / dataset, "Pop")


def test_artifacts_are_read_as_recorded_and_not_repeated(tmp_path):
    odd = os.fsdecode(b"caf\xe9 \n\x1b[31m.pth")  # no UTF-8, and a line feed
    recorded = [artifact(tmp_path, "a.pth"), artifact(tmp_path, odd, "my[1]")]
    record(tmp_path / "saved", recorded)
    record(tmp_path / "saved", [*recorded[1:], Artifact(tmp_path / "b", "export", "x", None)])
    record(tmp_path / "saved", recorded)
    assert read(tmp_path / "saved" / MANIFEST) == [*recorded, Artifact(tmp_path / "b", "export", "x", None)]


@pytest.mark.parametrize("torn", [1, 10, 90])
def test_line_of_a_killed_process_costs_nothing(tmp_path, torn):
    record(tmp_path, [artifact(tmp_path, "a"), artifact(tmp_path, "b")])
    path = tmp_path / MANIFEST
    path.write_bytes(path.read_bytes()[:-torn])
    assert read(path)[:1] == [artifact(tmp_path, "a")]
    record(tmp_path, [artifact(tmp_path, "b")])
    assert read(path) == [artifact(tmp_path, "a"), artifact(tmp_path, "b")]


def test_lines_that_are_no_artifacts_are_skipped(tmp_path):
    record(tmp_path, [artifact(tmp_path, "a")])
    good = json.loads((tmp_path / MANIFEST).read_text())
    bad = [1, {}, {**good, "path": "relative"}, {**good, "path": "/nul\0"}, {**good, "kind": "spell"}, "[" * 999]
    with (tmp_path / MANIFEST).open("a") as file:
        file.writelines((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in bad)
    assert read(tmp_path / MANIFEST) == [artifact(tmp_path, "a")]


def test_dropped_lines_are_gone_and_others_stay_as_they_are(tmp_path):
    record(tmp_path, [artifact(tmp_path, name) for name in "abc"])
    with (tmp_path / MANIFEST).open("a") as file:
        file.write('{"of": "a later version"}\n')
    lines = (tmp_path / MANIFEST).read_bytes().splitlines(keepends=True)
    drop(tmp_path / MANIFEST, [tmp_path / "b"])
    assert (tmp_path / MANIFEST).read_bytes() == b"".join([lines[0], *lines[2:]])


def test_writers_that_record_at_once_lose_no_line(tmp_path):
    def write(name):
        for number in range(30):
            record(tmp_path, [artifact(tmp_path, f"{name}{number}")])

    with ThreadPoolExecutor() as pool:  # locks are of open files: threads exclude each other as processes do
        writers = [pool.submit(write, name) for name in "ab"]
        while not all(writer.done() for writer in writers):
            drop(tmp_path / MANIFEST, [tmp_path / "a7"])  # replaces the file under them
    drop(tmp_path / MANIFEST, [tmp_path / "a7"])
    assert [writer.result() for writer in writers] == [None, None]
    names = {it.path.name for it in read(tmp_path / MANIFEST)}
    assert names == {f"{name}{number}" for name in "ab" for number in range(30)} - {"a7"}


def test_data_path_is_told_of_own_runs_only(tmp_path, monkeypatch):
    record(tmp_path / "saved", [artifact(tmp_path, "a.pth")])
    assert known_manifests() == [tmp_path / "saved" / MANIFEST]
    assert recorded_data_path(tmp_path / "a.pth") == tmp_path / "data"
    monkeypatch.chdir(tmp_path)
    assert recorded_data_path(Path("a.pth")) == Path("data")  # inside the current folder
    assert recorded_data_path(tmp_path / "b.pth") is None
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another-user"))
    assert recorded_data_path(tmp_path / "a.pth") is None  # as of a folder that was downloaded


def test_run_does_not_fail_for_an_index_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("where a folder should be")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    record(tmp_path / "saved", [artifact(tmp_path, "a.pth")])
    assert known_manifests() == []
    assert read(tmp_path / "saved" / MANIFEST) == [artifact(tmp_path, "a.pth")]


def test_manifest_that_cannot_be_written_is_an_error_or_said(tmp_path, caplog):
    (tmp_path / "saved").write_text("where a folder should be")
    with pytest.raises(StorageError, match=r"artifacts\.jsonl cannot be written .*: move the file"):
        record(tmp_path / "saved", [artifact(tmp_path, "a.pth")])
    manifest.record_beside([tmp_path / "saved", tmp_path / "beside"], [artifact(tmp_path, "a.pth")])
    assert read(tmp_path / "beside" / MANIFEST) == [artifact(tmp_path, "a.pth")]
    assert not caplog.records
    manifest.record_beside([tmp_path / "saved"], [artifact(tmp_path, "a.pth")])
    assert "the forget command will not find it" in caplog.text


def test_data_sets_of_one_name_are_told_apart_by_their_folder(tmp_path):
    (tmp_path / "data" / "daily").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert artifact(tmp_path, "a").is_of(tmp_path / "link" / "daily")
    assert not artifact(tmp_path, "a").is_of(tmp_path / "elsewhere" / "daily")
    assert not Artifact(tmp_path / "a", "export", "daily", None).is_of(tmp_path / "data" / "daily")


HOLDER = """
import sys, time
from pathlib import Path
from recbole_llm_interest.io.files import shared_data_set_lock
with shared_data_set_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_data_set_is_used_by_many_or_changed_by_one(tmp_path):
    in_use = pytest.raises(StorageError, match="is in use by a training or another command")
    with shared_data_set_lock(tmp_path), shared_data_set_lock(tmp_path), in_use, exclusive_data_set_lock(tmp_path):
        pass
    with (
        exclusive_data_set_lock(tmp_path),
        pytest.raises(StorageError, match="wait until `forget`"),
        shared_data_set_lock(tmp_path),
    ):
        pass
    with shared_data_set_lock(tmp_path / "missing"), exclusive_data_set_lock(tmp_path / "missing"):
        assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_killed_process_holds_nothing(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(StorageError), exclusive_data_set_lock(tmp_path):
        pass
    process.kill()
    process.wait()
    with exclusive_data_set_lock(tmp_path):
        pass


def test_recording_beside_a_downloaded_manifest_does_not_make_it_believed(tmp_path):
    foreign, own = artifact(tmp_path / "elsewhere", "letter.txt"), artifact(tmp_path / "downloaded", "report.html")
    manifest = tmp_path / "downloaded" / MANIFEST
    manifest.parent.mkdir()
    manifest.write_bytes(_line(foreign) + b"\n")
    record(manifest.parent, [own])
    believed = [one for known in known_manifests() for one in read(known)]
    assert believed == [own]
    assert read(manifest) == [foreign, own]


def test_nothing_is_recorded_behind_a_link(tmp_path):
    (tmp_path / "profile").write_text("mine\n")
    (tmp_path / "downloaded").mkdir()
    (tmp_path / "downloaded" / MANIFEST).symlink_to(tmp_path / "profile")
    with pytest.raises(StorageError, match="cannot be written"):
        record(tmp_path / "downloaded", [artifact(tmp_path, "a")])
    assert (tmp_path / "profile").read_text() == "mine\n"


@pytest.mark.parametrize("name", ["/\ud800", "/" + "a" * 256])
def test_lines_with_names_that_no_file_can_have_are_skipped(tmp_path, name):
    good = json.loads(_line(artifact(tmp_path, "a")))
    (tmp_path / MANIFEST).write_text("".join(json.dumps({**good, key: name}) + "\n" for key in ("path", "data_path")))
    assert read(tmp_path / MANIFEST) == []
