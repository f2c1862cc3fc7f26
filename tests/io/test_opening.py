"""The one door for bytes: regular files of a bounded size, inside a folder, and JSON within bounds."""

from __future__ import annotations

import json
import os
import resource
import socket
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io import opening
from recbole_llm_interest.io.opening import (
    FileKind,
    open_file,
    parse_json,
    read_bytes,
    read_json,
    read_lines,
    read_text,
)
from recbole_llm_interest.io.tensor_files import parse_tensors

KIND = FileKind("some file", DataError, 1000, "name another")


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "fifo")
    return folder / "fifo"


def listening(folder: Path) -> Path:
    here = os.getcwd()
    os.chdir(folder)  # the names of sockets are short
    socket.socket(socket.AF_UNIX).bind("socket")
    os.chdir(here)
    return folder / "socket"


def sparse(folder: Path) -> Path:
    with (folder / "sparse").open("wb") as file:
        file.truncate(6 * 2**30)
    return folder / "sparse"


def loop(folder: Path) -> Path:
    (folder / "loop").symlink_to("loop")
    return folder / "loop"


#: names that are no file to read, and the reason
HOSTILE = {
    "fifo": (fifo, "is not a regular file"),
    "socket": (listening, "cannot be read: No such device or address"),
    "device": (lambda folder: Path("/dev/zero"), "is not a regular file"),
    "folder": (lambda folder: folder, "is not a regular file"),
    "sparse": (sparse, "has 6,442,450,944 bytes: at most 1,000 are allowed"),
    "loop": (loop, "cannot be read: Too many levels of symbolic links"),
    "long": (lambda folder: folder / ("x" * 5000), "cannot be read: File name too long"),
    "long part": (lambda folder: folder / ("x" * 300), "cannot be read: File name too long"),
    "NUL": (lambda folder: folder / "a\0b", "has an invalid name"),
    "surrogate": (lambda folder: folder / "\ud800", "has an invalid name"),
    "below a file": (lambda folder: Path(__file__) / "x", "cannot be read: Not a directory"),
    "missing": (lambda folder: folder / "missing", "does not exist"),
    "line feed": (lambda folder: folder / "a\nb\x1b[31m", "does not exist"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("read", [read_bytes, read_text, read_json, lambda *given: next(read_lines(*given))])
def test_what_is_no_file_is_refused_in_one_line_at_once(tmp_path, name, read):
    make, reason = HOSTILE[name]
    path = make(tmp_path)
    start = time.process_time()
    with pytest.raises(DataError) as caught:
        read(path, KIND)
    assert time.process_time() - start < 1
    message = str(caught.value)
    assert message.startswith("some file ")
    assert reason in message
    assert message.endswith(": name another")
    assert message.isprintable()
    assert len(message) < 500


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"x" * 900)
    with open_file(path, 1000) as file:
        path.write_bytes(b"x" * 1100)
        with pytest.raises(opening.FileReadError, match="has grown to more than 1,000 bytes"):
            opening._read_bounded(file, 1000)


def test_a_file_larger_than_the_memory_that_is_left_is_refused(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(2**28)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**26, hard))
    try:
        with pytest.raises(DataError, match="larger than the memory"):
            read_bytes(path, FileKind("some file", DataError, None, "name another"))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_a_slow_medium_ends(tmp_path, monkeypatch):
    path = tmp_path / "slow"
    path.write_bytes(b"x")
    monkeypatch.setattr(opening, "_GRACE_SECONDS", -1.0)
    with pytest.raises(DataError, match="seconds to read"):
        read_bytes(path, KIND)


def test_files_stay_inside_a_folder(tmp_path, monkeypatch):
    inside = tmp_path / "inside"
    (inside / "deep").mkdir(parents=True)
    (tmp_path / "secret").write_text("no")
    (inside / "file").write_text("yes")
    (inside / "out").symlink_to(tmp_path / "secret")
    (inside / "in").symlink_to("file")
    (inside / "up").symlink_to(tmp_path)
    for name in ("out", "../secret", str(tmp_path / "secret"), "up/secret"):
        with pytest.raises(DataError, match="leads out of the folder inside"):
            read_bytes(inside / name, KIND, inside)
    for name in ("file", "in", "deep/../file", str(inside / "file")):
        assert read_bytes(inside / name, KIND, inside) == b"yes"
    monkeypatch.chdir(tmp_path)
    assert read_bytes(Path("inside/in"), KIND, Path("inside")) == b"yes"


def test_a_pipe_that_replaces_a_file_does_not_block(tmp_path):
    done = threading.Event()

    def read():
        with pytest.raises(DataError):
            read_bytes(fifo(tmp_path), KIND)
        done.set()

    threading.Thread(target=read, daemon=True).start()
    assert done.wait(2)


def test_lines_are_decoded_and_bounded(tmp_path, monkeypatch):
    path = tmp_path / "lines"
    path.write_bytes("\ufeffé\r\nb\u2028c\n\nlast".encode())
    assert list(read_lines(path, KIND)) == ["é\r\n", "b\u2028c\n", "\n", "last"]
    path.write_bytes(b"good\nb\xffd\n")
    with pytest.raises(DataError, match=r"is not UTF-8 \(line 2\)"):
        list(read_lines(path, KIND))
    with pytest.raises(DataError, match=r"is not UTF-8 \(line 2\)"):
        read_text(path, KIND)
    monkeypatch.setattr(opening, "MAX_LINE_BYTES", 4)
    path.write_bytes(b"four\n12345\n"[1:])
    with pytest.raises(DataError, match=r"has a line of more than 4 bytes \(line 2\)"):
        list(read_lines(path, KIND))


@pytest.mark.parametrize("text", ["[" * 100 + "]" * 100, "[" * 10**6, '{"a":' * 70 + "1" + "}" * 70, "9" * 19,
                                  "[-9223372036854775809]", "9" * 400, "9" * 5000, "", "{", "\0", "[1,]"])  # fmt: skip
def test_json_beyond_its_bounds_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_json(text)
    assert len(str(caught.value)) < 300
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(DataError, match="is not JSON"):
        read_json(tmp_path / "file.json", FileKind("table", DataError, 10**8, "name another"))


@pytest.mark.parametrize("text", ["[" * 60 + "]" * 60, '{"a": "' + "9" * 400 + '"}', "[-9223372036854775808]",
                                  "9223372036854775807", "1e400", "[1.5, null, NaN]"])  # fmt: skip
def test_json_within_its_bounds_is_read(text):
    assert repr(parse_json(text)) == repr(json.loads(text))


def test_long_integers_are_read_on_request():
    assert parse_json("[" + "9" * 400 + "]", long_integers=True) == [int("9" * 400)]
    with pytest.raises(ValueError, match="4300"):
        parse_json("9" * 5000, long_integers=True)


@given(st.binary(max_size=200), st.integers(0, 200), st.booleans())
def test_damaged_tensors_are_a_value_error(noise, place, is_inserted):
    whole = save({"a": torch.arange(6).reshape(2, 3), "b": torch.zeros(0, 2)}, {"made": "here"})
    data = whole[:place] + noise + whole[place if is_inserted else place + len(noise) :]
    try:
        parsed = parse_tensors(data)
    except ValueError:
        return
    assert all(values.dtype in (torch.int64, torch.float32) or values.numel() for values in parsed.tensors.values())


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "C64", "U64", "F6_E2M3", "X", 5, None])
def test_odd_types_of_tensors_are_refused(dtype):
    header = json.dumps({"weight": {"dtype": dtype, "shape": [2, 2], "data_offsets": [0, 4]}}).encode()
    with pytest.raises(ValueError, match=r"has the tensor 'weight' of type"):
        parse_tensors(len(header).to_bytes(8, "little") + header + b"\0" * 4)


@pytest.mark.parametrize("shape", [[2**62, 0, 2**62], [-1, 2], [2**64], ["a"], 5, [1] * 100, [1.5]])
def test_odd_shapes_of_tensors_are_refused(shape):
    header = json.dumps({"weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    with pytest.raises(ValueError, match=r"is damaged|header|of shape"):
        parse_tensors(len(header).to_bytes(8, "little") + header)
