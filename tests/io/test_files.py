"""Files are written completely or not at all, and a name is locked by one process at a time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from recbole_llm_interest.errors import StorageError
from recbole_llm_interest.io.files import exclusive_lock, remove_unfinished, try_lock, write_atomically, write_text


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "checkpoint.pth"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"half of the n")
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"No space left on device.*free some space"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_new_file_has_the_permissions_of_the_umask(tmp_path):
    umask = os.umask(0o027)
    try:
        write_text(tmp_path / "folder" / "a.txt", "é")
    finally:
        os.umask(umask)
    assert (tmp_path / "folder" / "a.txt").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder" / "a.txt").read_bytes() == "é".encode()


def test_error_names_the_remedy_and_the_hint(tmp_path):
    (tmp_path / "folder").write_text("a file where a folder should be")
    with pytest.raises(
        StorageError, match=r"move the file or folder that has its name .*, or set feature_cache; a prev"
    ):
        write_text(tmp_path / "folder" / "a.txt", "text", "set feature_cache")


def test_files_of_killed_processes_are_removed_and_those_in_use_kept(tmp_path):
    abandoned = tmp_path / ".a.txt.killed"
    abandoned.write_text("half")

    def write(file):
        in_use = {path.name for path in tmp_path.iterdir()}
        assert abandoned.name not in in_use
        remove_unfinished(tmp_path / "a.txt")
        assert {path.name for path in tmp_path.iterdir()} == in_use
        file.write(b"whole")

    write_atomically(tmp_path / "a.txt", write)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"whole"]


def test_name_is_locked_once(tmp_path):
    with exclusive_lock(tmp_path / "table", "give another name"):
        with try_lock(tmp_path / "table") as is_locked:
            assert not is_locked
        with (
            pytest.raises(StorageError, match="table is in use by another run: wait until that run ends, or give anot"),
            exclusive_lock(tmp_path / "table", "give another name"),
        ):
            pass
    with try_lock(tmp_path / "table") as is_locked:
        assert is_locked
    assert not list(tmp_path.iterdir())


STRESS = """
import random, signal, sys, time
from pathlib import Path
import torch
from recbole_llm_interest.io.files import write_atomically
def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGTERM, interrupt)
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGTERM))
path, count, end = Path(sys.argv[1]), 0, time.monotonic() + 4
tensors = {str(n): torch.randn(50) for n in range(60)}
while time.monotonic() < end:
    try:
        signal.setitimer(signal.ITIMER_REAL, random.random() * 0.02 + 1e-4)
        while True:
            write_atomically(path, lambda file: torch.save(tensors, file))
    except KeyboardInterrupt:
        count += 1
signal.setitimer(signal.ITIMER_REAL, 0)
torch.load(path)
print(count, sorted(it.name for it in path.parent.iterdir()))
"""


@pytest.mark.slow
def test_interrupts_while_torch_writes_neither_abort_the_process_nor_spoil_the_file(tmp_path):
    done = subprocess.run([sys.executable, "-c", STRESS, str(tmp_path / "weights.pth")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count, names = done.stdout.split(" ", 1)
    assert int(count) > 20
    assert names.strip() == "['weights.pth']"


def test_folders_in_a_thousand_folders_are_one_line(tmp_path):
    path = tmp_path / ("x/" * 1900) / "file"
    for write in (lambda: write_text(path, "a"), lambda: try_lock(path).__enter__()):
        with pytest.raises(StorageError, match="File name too long"):
            write()
