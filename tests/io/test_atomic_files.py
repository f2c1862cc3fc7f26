"""Atomic files in several blocks, header checks and columns; malformed files are in ``tests/robustness``."""

from __future__ import annotations

import pytest

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.atomic_files import AtomicFormat, drop_rows, file_format, read_atomic_file, read_header
from recbole_llm_interest.io.atomic_files.lines import scan_lines
from recbole_llm_interest.io.row_report import RowReport

ROWS = ["u1\ti1\t1.5", "", "u2\tCaché\t2", "u3\ti3", "u4\ti4\t4"]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "d.inter"
    file.write_text("\n".join(["user_id:token\titem_id:token\trating:float", *ROWS]))
    return file


@pytest.mark.parametrize("block_bytes", [1, 2, 7, 64, 4096])
def test_result_does_not_depend_on_the_size_of_blocks(path, block_bytes, monkeypatch):
    monkeypatch.setattr(file_format, "_BLOCK_BYTES", block_bytes)
    report = RowReport(path)
    scan = scan_lines(path, AtomicFormat(), 3, report)
    assert (scan.row_count, scan.line_count, scan.longest) == (4, 6, len("u2\tCaché\t2".encode()))
    assert scan.skipped.tolist() == [3, 5]
    assert scan.row_lines.tolist() == [2, 4, 6]
    assert report.skipped == 1
    kept = b"".join(drop_rows(path, AtomicFormat(), "item_id", ["Caché"])).decode().split("\n")
    assert kept[1:] == [row for row in ROWS if "Caché" not in row] + [""]


def test_line_beyond_the_limit_is_an_error(path, monkeypatch):
    monkeypatch.setattr(file_format, "_BLOCK_BYTES", 16)
    monkeypatch.setattr(file_format, "MAX_LINE_BYTES", 64)
    path.write_text("user_id:token\n" + "x" * 100 + "\n")
    with pytest.raises(DataError, match="a line after line 2 is longer than 64 bytes"):
        scan_lines(path, AtomicFormat(), 1, RowReport(path))


def test_columns_are_returned_in_the_order_asked_for(path):
    frame = read_atomic_file(path, AtomicFormat(), {"rating": "float", "user_id": "token"}, ids=["user_id"])
    assert list(frame) == ["rating", "user_id"]
    assert frame["rating"].tolist() == [1.5, 2.0, 4.0]
    assert frame["user_id"].tolist() == ["u1", "u2", "u4"]
    assert read_header(path, AtomicFormat()) == {"user_id": "token", "item_id": "token", "rating": "float"}


@pytest.mark.parametrize(("setting", "column"), [("ids", "who"), ("columns", "title")])
def test_missing_column_is_an_error_that_lists_the_columns(path, setting, column):
    columns = {"user_id": "token", **({column: "token"} if setting == "columns" else {})}
    with pytest.raises(DataError, match=f"has no column '{column}'; it has user_id, item_id, rating"):
        read_atomic_file(path, AtomicFormat(), columns, ids=[column] if setting == "ids" else [])


def test_report_lists_the_first_lines_of_each_reason(path, caplog):
    report = RowReport(path)
    report.skip_lines("with a NUL", range(2, 9))
    report.skip("not JSON", 1, ["12: Expecting value"])
    report.finish(row_count=10)
    assert caplog.messages == [
        f"{path}: 10 rows read, 2 kept, 8 skipped: 7 with a NUL (line 2, 3, 4, 5, 6, …); "
        "1 not JSON (line 12: Expecting value)"
    ]
