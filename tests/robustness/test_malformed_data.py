"""Malformed data: every invalid file is one error of one line, and every skipped row is reported."""

from __future__ import annotations

import json
import logging
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_llm_interest.content.catalogue import read_catalogue
from recbole_llm_interest.content.precomputed import read_features
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.io.atomic_files import AtomicFormat, drop_rows, read_atomic_file, read_header
from recbole_llm_interest.io.config_files import read_config_files
from recbole_llm_interest.io.variants import read_variants

#: values that some reader has misread; each is tested as an id, as a title and as a line of ids
VALUES = {
    "quote": '"',
    "open quote": '"The beginning',
    "quoted": '"Heat"',
    "quote within": 'The "real" one',
    "apostrophe": "O'Brien",
    "two quotes": '""',
    "NA": "NA",
    "N/A": "N/A",
    "null": "null",
    "NULL": "NULL",
    "None": "None",
    "nan": "nan",
    "NaN": "NaN",
    "#N/A": "#N/A",
    "hash": "# no comment",
    "leading zeros": "007",
    "zero": "0",
    "minus zero": "-0",
    "float": "7.0",
    "exponent": "1e5",
    "too large": "1e400",
    "beyond 64 bits": "123456789012345678901234567890",
    "underscore": "1_000",
    "comma": "1,000",
    "hexadecimal": "0x10",
    "Arabic seven": "\u0667",
    "true": "True",
    "false": "false",
    "date": "2024-01-01",
    "inf": "inf",
    "-Infinity": "-Infinity",
    "padding's name": "[PAD]",
    "space before and after": " Heat ",
    "one space": " ",
    "no-break space": "\u00a0Heat",
    "carriage return": "He\rat",
    "vertical tab": "He\x0bat",
    "form feed": "He\x0cat",
    "unit separator": "He\x1fat",
    "next line": "He\x85at",
    "line separator": "He\u2028at",
    "byte order mark": "\ufeffHeat",
    "zero width": "He\u200bat",
    "right to left": "\u202etaeH",
    "emoji": "🎬👩‍👩‍👧",
    "combining": "e\u0301te\u0301",
    "composed": "\u00e9t\u00e9",
    "not in Unicode": "\uffff",
    "backslash": "a\\tb\\n",
    "backslash at the end": "C:\\",
    "formula": "=1+1",
    "template": "{title} %s ${x}",
    "markup": "<script>alert(1)</script>",
    "statement": "'; DROP TABLE items; --",
    "path": "../../etc/passwd",
    "255 characters": "x" * 255,
}  # fmt: skip
each_value = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
TEXT = {"user_id": "token", "item_id": "token", "timestamp": "float"}


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def read_events(path: Path, layout: AtomicFormat = AtomicFormat(), **options) -> pd.DataFrame:  # noqa: B008
    options = {"ids": ["user_id", "item_id"], "time_field": "timestamp", **options}
    return read_atomic_file(path, layout, TEXT, **options)


@each_value
@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_ids_of_events_are_read_verbatim(value, column, tmp_path):
    rows = [{"user_id": "u", "item_id": "i"} | {column: token} for token in ("before", value, "after")]
    lines = [f"{row['user_id']}\t{row['item_id']}\t{time}" for time, row in enumerate(rows)]
    events = read_events(
        write(tmp_path / "d.inter", "\n".join(["user_id:token\titem_id:token\ttimestamp:float", *lines]))
    )
    assert list(events[column]) == ["before", value, "after"]
    assert list(events["timestamp"]) == [0, 1, 2]


@each_value
@pytest.mark.parametrize("column", ["item_id", "title"])
@pytest.mark.parametrize("file", ["d.item", "content/items.jsonl"])
def test_item_ids_and_titles_are_read_verbatim(value, column, file, tmp_path):
    rows = [
        {"item_id": str(number), "title": f"Film {number}", "year": "1995"} | ({column: value} if number == 2 else {})
        for number in (1, 2, 3)
    ]
    if file == "d.item":
        lines = ["item_id:token\ttitle:token_seq\tyear:token", *("\t".join(row.values()) for row in rows)]
    else:
        lines = [json.dumps(row, ensure_ascii=bool(len(value) % 2)) for row in rows]
    write(tmp_path / file, "\n".join(lines) + "\n")
    catalogue = read_catalogue(tmp_path, "d", "item", "item_id", ["title"], strict=True)
    token = value if column == "item_id" else "2"
    assert catalogue.tokens == ["1", token, "3"]
    shown = " ".join(value.split()) if column == "title" else "Film 2"
    texts = {token: blob.text for token, blob in catalogue.blobs["text"].items()}
    assert texts == {"1": "title: Film 1", "3": "title: Film 3"} | ({token: f"title: {shown}"} if shown else {})


@each_value
@pytest.mark.parametrize("file", ["f.ids.tsv", "f.ids.json"])
def test_precomputed_features_belong_to_verbatim_ids(value, file, tmp_path):
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "f.npy", rows)
    ids = ["before", value, "after"]
    write(tmp_path / file, json.dumps(ids) if file.endswith("json") else "".join(f"{token}\thigh\n" for token in ids))
    found = read_features(tmp_path / "f.npy", ids, "item", "item_id")
    assert {token: row.tolist() for token, row in found.items()} == dict(zip(ids, rows.tolist(), strict=True))


@pytest.mark.parametrize("model", ["Pop", "SASRec", "LLMInterest"])
def test_models_get_every_item_and_user(model, built, settings):
    """All values at once, as users and as items, for LLMInterest and for stock models."""
    tokens = list(VALUES.values())
    lines = [
        f"{user}\t{tokens[(place + step) % len(tokens)]}\t{step}\r"
        for place, user in enumerate(tokens)
        for step in range(4)
    ]
    folder = Path(settings["data_path"]) / "malformed"
    write(
        folder / "malformed.inter", "\n".join(["user_id:token\titem_id:token\ttimestamp:float\r", *lines]), "utf-8-sig"
    )
    write(folder / "malformed.item", "\n".join(["item_id:token\ttitle:token_seq", *(f"{t}\t{t}" for t in tokens)]))
    load = {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title"]}}
    _, _, data, *_ = built(model, "malformed", text_encoder="hashing", repeatable=True, **load)
    for field in ("user_id", "item_id"):
        assert list(data.field2id_token[field][1:]) == tokens
    assert len(data.item_feat) == len(tokens) + 1


# --- files


HEADER = "user_id:token\titem_id:token\ttimestamp:float"
GOOD = "u1\ti1\t1\nu2\ti2\t2\nu3\ti3\t3\n"
LONG = "x" * 1_000_000


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (f"{HEADER}\n{GOOD}".encode(), 3),
        (f"{HEADER}\n{GOOD}".encode("utf-8-sig"), 3),
        (f"{HEADER}\n{GOOD}".replace("\n", "\r\n").encode(), 3),
        (f"{HEADER}\n{GOOD}".replace("\n", "\r\n").encode("utf-8-sig"), 3),
        (f"{HEADER}\n{GOOD}".rstrip().encode(), 3),
        (f"{HEADER}\n{GOOD}\n\n\n".encode(), 3),
        (f"{HEADER}\r\n\r\n{GOOD}\r\n".encode(), 3),
        (f"{HEADER}\n\n\nu1\ti1\t1\n\nu2\ti2\t2\n".encode(), 2),
        (f"{HEADER}\n{GOOD}u4\t{'x' * 255}\t4".encode(), 4),
    ],
    ids=["plain", "mark", "CRLF", "mark, CRLF", "no last LF", "empty lines after", "before", "between", "long id"],
)  # fmt: skip
def test_line_ends_marks_and_empty_lines_do_not_matter(data, kept, tmp_path, caplog):
    (tmp_path / "d.inter").write_bytes(data)
    with caplog.at_level(logging.INFO):
        events = read_events(tmp_path / "d.inter", strict=True)
    assert len(events) == kept
    assert list(events["timestamp"]) == list(range(1, kept + 1))
    assert f"{kept} rows read, {kept} kept, 0 skipped" in caplog.text


BROKEN_ROWS = {
    "a tab in an id": ("u4\ti\t4\t4", "with a different number of columns than the header's 3 (line 3)"),
    "a column that is missing": ("u4\ti4", "with a different number of columns"),
    "words": ("no row at all", "with a different number of columns"),
    "spaces": ("   ", "with a different number of columns"),
    "another separator": ("u4,i4,4", "with a different number of columns"),
    "no user": ("\ti4\t4", "without 'user_id' (line 3)"),
    "no item": ("u4\t\t4", "without 'item_id' (line 3)"),
    "a NUL in an id": ("u\0\ti4\t4", "with a NUL (line 3)"),
    "a NUL for a time": ("u4\ti4\t\0", "with a NUL (line 3)"),
    "no time": ("u4\ti4\t", "without a finite number in 'timestamp' (line 3)"),
    "time NaN": ("u4\ti4\tnan", "without a finite number in 'timestamp'"),
    "time NA": ("u4\ti4\tNA", "without a finite number in 'timestamp'"),
    "time null": ("u4\ti4\tnull", "without a finite number in 'timestamp'"),
    "time Inf": ("u4\ti4\tinf", "without a finite number in 'timestamp'"),
    "time -Inf": ("u4\ti4\t-Infinity", "without a finite number in 'timestamp'"),
    "time overflows": ("u4\ti4\t1e999", "without a finite number in 'timestamp'"),
    "time in words": ("u4\ti4\tyesterday", "without a finite number in 'timestamp'"),
    "time as a date": ("u4\ti4\t2024-01-01", "without a finite number in 'timestamp'"),
    "time with a comma": ("u4\ti4\t1,5", "without a finite number in 'timestamp'"),
    "time quoted": ('u4\ti4\t"4"', "without a finite number in 'timestamp'"),
    "time hexadecimal": ("u4\ti4\t0x4", "without a finite number in 'timestamp'"),
    "an absurd user": (f"{LONG}\ti4\t4", "with more than 255 characters in 'user_id' (line 3)"),
    "an absurd item": (f"u4\t{LONG}\t4", "with more than 255 characters in 'item_id' (line 3)"),
    "a million tabs": ("\t" * 1_000_000, "with a different number of columns"),
    "a million characters of one": (LONG, "with a different number of columns"),
}


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(("row", "reason"), BROKEN_ROWS.values(), ids=BROKEN_ROWS.keys())
def test_invalid_row_is_skipped_and_reported_and_the_others_are_kept(row, reason, ending, tmp_path, caplog):
    lines = [HEADER, "u1\ti1\t1", row, "u2\ti2\t2", "u3\ti3\t3"]
    path = write(tmp_path / "d.inter", ending.join(lines))
    events = read_events(path)
    assert list(events["user_id"]) == ["u1", "u2", "u3"]
    assert list(events["item_id"]) == ["i1", "i2", "i3"]
    assert list(events["timestamp"]) == [1, 2, 3]
    (message,) = caplog.messages
    assert f"4 rows read, 3 kept, 1 skipped: 1 {reason}" in message
    assert len(message) < 500
    with pytest.raises(DataError, match=re.escape(reason)):
        read_events(path, strict=True)


@pytest.mark.parametrize(
    ("times", "warning"),
    [
        ([5, -3, 7], "1 with a negative timestamp"),
        ([1_700_000_000, 1_700_000_001_000, 1_700_000_002], "timestamps in several units, in 2, 1 rows"),
        ([1_700_000_000_000, 1_700_000_000_000_000, 1_700_000_002_000], "timestamps in several units"),
        ([1_700_000_000, 0, 1_700_000_002], "1 with a timestamp that is missing or in another unit"),
        ([1_700_000_000, 20_240_101, 1_700_000_002], "1 with a timestamp that is missing or in another unit"),
        ([1_700_000_000, 9_900_000_000, 1_700_000_002], "1 with a timestamp in the future"),
        ([1_700_000_000_000, 9_900_000_000_000, 1_700_000_002_000], "1 with a timestamp in the future"),
    ],
)
def test_suspicious_timestamps_are_kept_with_a_warning(times, warning, tmp_path, caplog):
    lines = [HEADER, *(f"u\ti{number}\t{time}" for number, time in enumerate(times))]
    path = write(tmp_path / "d.inter", "\n".join(lines))
    assert list(read_events(path)["timestamp"]) == times
    (message,) = caplog.messages
    assert f"3 rows read, 3 kept, 0 skipped: {warning}" in message
    with pytest.raises(DataError, match=warning):
        read_events(path, strict=True)


@pytest.mark.parametrize(
    "times", [[1, 2, 3], [0, 0, 0], [0.25, 0.5, 1], [1995, 2001, 2020], [1.7e9, 1.7e9, 1.6e9], [1e12, 1.1e12, 1.2e12]]
)
def test_timestamps_in_one_unit_give_no_warning(times, tmp_path, caplog):
    lines = [HEADER, *(f"u\ti{number}\t{time!r}" for number, time in enumerate(times))]
    assert list(read_events(write(tmp_path / "d.inter", "\n".join(lines)), strict=True)["timestamp"]) == times
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


BROKEN_FILES = {
    "nothing": (b"", "is empty"),
    "a mark alone": ("".encode("utf-8-sig"), "is empty"),
    "an empty line": (b"\n", "is empty"),
    "empty lines": (b"\r\n\r\n\r\n", "is empty"),
    "a header alone": (HEADER.encode(), "has no rows below its header"),
    "a header and empty lines": (f"{HEADER}\n\n\n".encode(), "has no rows below its header"),
    "no header": (GOOD.encode(), "the first line must name each column with its type"),
    "names without types": (f"user_id\titem_id\ttimestamp\n{GOOD}".encode(), "name each column with its type"),
    "a type that is none": (
        f"{HEADER.replace('token', 'string')}\n{GOOD}".encode(),
        "types are token, token_seq, float",
    ),
    "a column without a name": (f":token\t{HEADER}\n".encode(), "name each column with its type"),
    "two colons": (f"{HEADER}:x\n{GOOD}".encode(), "name each column with its type"),
    "a column twice": (f"{HEADER}\tuser_id:token\n".encode(), "names the column 'user_id' twice"),
    "commas": (f"{HEADER}\n{GOOD}".replace("\t", ",").encode(), "'\\\\t' separates columns"),
    "no user column": (
        f"{HEADER}\n{GOOD}".replace("user_id", "who").encode(),
        "has no column 'user_id'; it has who, item_id",
    ),
    "UTF-16": (f"{HEADER}\n{GOOD}".encode("utf-16"), "is utf-16, not utf-8: save it as UTF-8, or set encoding: utf-16"),
    "UTF-16 of the other order": (b"\xfe\xff" + f"{HEADER}\n{GOOD}".encode("utf-16-be"), "is utf-16, not utf-8"),
    "UTF-16 without a mark": (f"{HEADER}\n{GOOD}".encode("utf-16-le"), "the first line must name each column"),
    "UTF-32": (f"{HEADER}\n{GOOD}".encode("utf-32"), "is utf-16, not utf-8|is not utf-8"),
    "latin-1": (f"{HEADER}\nu1\tCaché\t1\n".encode("latin-1"), "is not utf-8 (after line 1)"),
    "half a character": (f"{HEADER}\nu1\tCaché".encode()[:-1], "is not utf-8"),
    "half a surrogate pair": (f"{HEADER}\nu1\ti\t1\n".encode() + b"\xed\xa0\x80\ti\t1\n", "is not utf-8"),
    "random bytes": (np.random.default_rng(0).bytes(5000), "is not utf-8|name each column|is utf-16"),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00" + bytes(range(256)), "is not utf-8|name each column"),
    "a zip": (b"PK\x03\x04" + bytes(50), "name each column"),
    "a pickle": (b"\x80\x04\x95", "is not utf-8"),
    "NULs": (bytes(1000), "name each column"),
    "a web page": (b"<!DOCTYPE html>\n<html></html>\n", "name each column"),
    "a header of a million characters": (f"{LONG}\t{HEADER}\n".encode(), "name each column"),
    "a million columns": (b"c:token\t" * 1_000_000 + b"\n", "names the column 'c' twice"),
    "rows of which none is one": (
        f"{HEADER}\nu1\n\t\t\nu1\ti1\tx\n".encode(),
        "none of its 3 rows can be used: 1 with a different",
    ),
}


@pytest.mark.parametrize(("data", "message"), BROKEN_FILES.values(), ids=BROKEN_FILES.keys())
def test_invalid_file_is_one_error(data, message, tmp_path):
    (tmp_path / "d.inter").write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_events(tmp_path / "d.inter")
    assert any(part in str(caught.value).replace("\\t", "\\\\t") for part in message.split("|"))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "UTF8", "utf-8-sig", "gb18030"]
)
def test_configured_encoding_is_read(encoding, tmp_path):
    path = write(tmp_path / "d.inter", f"{HEADER}\nu1\tCaché\t1\r\nu2\ti2\t2\n", encoding)
    assert list(read_events(path, AtomicFormat(encoding=encoding), strict=True)["item_id"]) == ["Caché", "i2"]
    assert list(read_header(path, AtomicFormat(encoding=encoding))) == ["user_id", "item_id", "timestamp"]


def test_invalid_format_or_path_is_one_error(tmp_path):
    path = write(tmp_path / "d.inter", f"{HEADER}\n{GOOD}")
    with pytest.raises(DataError, match="encoding='klingon' is not an encoding"):
        read_events(path, AtomicFormat(encoding="klingon"))
    write(path, f"{HEADER}\n{GOOD}".replace("\t", "::"))
    with pytest.raises(DataError):
        read_events(path, AtomicFormat(separator="::"))
    for nothing in (tmp_path / "missing.inter", tmp_path):
        with pytest.raises(DataError, match=r"does not exist|is not a regular file"):
            read_events(nothing)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("", np.nan),
        ("NA", np.nan),
        ("null", np.nan),
        ("None", np.nan),
        (" nan ", np.nan),
        ("5", 5.0),
        (" 5 ", 5.0),
        ("1e2", 100.0),
    ],
)
def test_missing_number_is_nan_and_its_row_is_kept(cell, value, tmp_path):
    path = write(tmp_path / "d.item", f"item_id:token\tprice:float\ni1\t1.5\ni2\t{cell}\ni3\t3\n")
    rows = read_atomic_file(
        path, AtomicFormat(), {"item_id": "token", "price": "float"}, ids=["item_id"], unique=True, strict=True
    )
    assert rows["price"].tolist() == pytest.approx([1.5, value, 3], nan_ok=True)


@pytest.mark.parametrize("cell", ["cheap", "inf", "1 2", "1;2", "0x1", "--"])
@pytest.mark.parametrize("kind", ["float", "float_seq"])
def test_row_with_an_invalid_number_is_skipped(cell, kind, tmp_path, caplog):
    if (kind, cell) == ("float_seq", "1 2"):
        cell = "1 nan"
    path = write(tmp_path / "d.item", f"item_id:token\tprice:{kind}\ni1\t1.5\ni2\t{cell}\ni3\t3\n")
    rows = read_atomic_file(path, AtomicFormat(), {"item_id": "token", "price": kind}, ids=["item_id"], unique=True)
    assert list(rows["item_id"]) == ["i1", "i3"]
    assert "3 rows read, 2 kept, 1 skipped" in caplog.text


def test_sequences_are_split_and_rows_with_long_words_skipped(tmp_path, caplog):
    path = write(
        tmp_path / "d.item", f"item_id:token\ttitle:token_seq\ni1\ta  b\ni2\t{LONG}\ni3\t\ni4\t{'ab ' * 300_000}\n"
    )
    rows = read_atomic_file(
        path, AtomicFormat(), {"item_id": "token", "title": "token_seq"}, ids=["item_id"], unique=True
    )
    assert [len(words) for words in rows["title"]] == [2, 0, 300_000]
    assert "1 with a word of more than 255 characters in 'title' (line 3)" in caplog.text


def test_empty_token_is_missing_and_the_token_na_is_not(tmp_path):
    path = write(tmp_path / "d.item", "item_id:token\tbrand:token\ni1\t\ni2\tNA\n")
    rows = read_atomic_file(path, AtomicFormat(), {"item_id": "token", "brand": "token"}, ids=["item_id"])
    assert rows["brand"].isna().tolist() == [True, False]


@pytest.mark.parametrize("kind", ["item", "user"])
def test_duplicate_id_keeps_its_first_row(kind, tmp_path, caplog):
    path = write(tmp_path / f"d.{kind}", f"{kind}_id:token\tname:token\n1\ta\n01\tb\n1\tc\n2\td\n")
    rows = read_atomic_file(
        path, AtomicFormat(), {f"{kind}_id": "token", "name": "token"}, ids=[f"{kind}_id"], unique=True
    )
    assert list(rows["name"]) == ["a", "b", "d"]
    assert f"1 with a duplicate {kind}_id (line 4)" in caplog.text


def test_events_of_items_without_a_row_are_reported(built, settings, caplog):
    path = Path(settings["data_path"]) / "cycle" / "cycle.item"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    load = {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id"]}}
    _, _, data, *_ = built("Pop", repeatable=True, **load)
    assert data.item_num == 8
    assert re.search(
        r"cycle: \d+ of 216 interactions dropped, because their item or user is not in the \.item or \.user file",
        caplog.text,
    )
    with pytest.raises(DataError, match="interactions dropped"):
        built("Pop", repeatable=True, strict_data=True, **load)


def test_strict_data_applies_to_every_model(built, settings):
    with (Path(settings["data_path"]) / "cycle" / "cycle.inter").open("a") as file:
        file.write("u0\ti0\tnever\n")
    for model in ("Pop", "LLMInterest"):
        built(model, repeatable=True, modalities=[])
        with pytest.raises(DataError, match="217 rows read, 216 kept, 1 skipped: 1 without a finite number"):
            built(model, repeatable=True, modalities=[], strict_data=True)


# --- JSON lines


BROKEN_JSON = {
    "half an object": '{"item_id": ',
    "a list": '["i2"]',
    "a number": "7",
    "a word": "i2",
    "single quotes": "{'item_id': 'i2'}",
    "a number with leading zeros": '{"item_id": 007}',
    "no id": '{"title": "Heat"}',
    "id null": '{"item_id": null}',
    "id empty": '{"item_id": ""}',
    "id NaN": '{"item_id": NaN}',
    "id Infinity": '{"item_id": Infinity}',
    "id a fraction": '{"item_id": 7.5}',
    "id a list": '{"item_id": ["i2"]}',
    "id an object": '{"item_id": {"id": "i2"}}',
    "id true": '{"item_id": true}',
    "id with a NUL": '{"item_id": "i\\u0000"}',
    "id of a million characters": f'{{"item_id": "{LONG}"}}',
    "id that came before": '{"item_id": "i1", "title": "another"}',
    "a hundred thousand brackets": '{"item_id": ' + "[" * 100_000,
    "a number of five thousand digits": f'{{"item_id": "i2", "year": {"9" * 5000}}}',
    "two objects": '{"item_id": "i2"}{"item_id": "i3"}',
    "a NUL": "\0",
    "half a string": '{"item_id": "i2',
}


@pytest.mark.parametrize("kind", ["item", "user"])
@pytest.mark.parametrize("line", BROKEN_JSON.values(), ids=BROKEN_JSON.keys())
def test_invalid_json_line_is_skipped_and_reported(line, kind, tmp_path, caplog):
    lines = ['{"item_id": "i1", "title": "Heat"}', line, '{"item_id": 4, "title": "Ran"}']
    write(tmp_path / "content" / f"{kind}s.jsonl", "\n".join(lines).replace("item_id", f"{kind}_id"))
    catalogue = read_catalogue(tmp_path, "d", kind, f"{kind}_id")
    assert catalogue.tokens == ["i1", "4"]
    assert {blob.text for blob in catalogue.blobs["text"].values()} == {"title: Heat", "title: Ran"}
    (message,) = caplog.messages
    assert "3 rows read, 2 kept, 1 skipped" in message
    assert "(line 2" in message
    assert len(message) < 500
    with pytest.raises(DataError, match="1 skipped"):
        read_catalogue(tmp_path, "d", kind, f"{kind}_id", strict=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has no rows"),
        (b"\n\r\n  \n", "has no rows"),
        (b'[\n{"item_id": "1"}\n]', None),
        (b'[{"item_id": "1"}, {"item_id": "2"}]', "none of its 1 rows can be used: 1 not a JSON object but a list"),
        ('{"item_id": "1"}'.encode("utf-16"), r"is not UTF-8 \(line 1\)"),
        ('{"item_id": "é"}'.encode("latin-1"), r"is not UTF-8 \(line 1\)"),
        (np.random.default_rng(0).bytes(3000), "is not UTF-8|none of its"),
        (bytes(1000), "none of its 1 rows"),
    ],
)
def test_invalid_json_file_is_one_error(data, message, tmp_path):
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "items.jsonl").write_bytes(data)
    if message is None:  # an array over several lines: lines that are objects are read, and the others skipped
        assert read_catalogue(tmp_path, "d", "item", "item_id").tokens == ["1"]
        return
    with pytest.raises(DataError, match=message):
        read_catalogue(tmp_path, "d", "item", "item_id")


# --- settings files

#: a few lines that expand to a billion values
BILLION_LAUGHS = b"a0: &a0 [lol]\n" + b"".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n".encode() for n in range(1, 10)
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"# nothing but a comment\n", "is empty"),
        (b"- epochs\n", "does not hold 'key: value' lines"),
        (b"epochs\n", "does not hold 'key: value' lines"),
        (b"epochs: 5\nseed: 1\nepochs: 6\n", "names 'epochs' twice"),
        (b"epochs: [1, 2\n", "is not readable YAML"),
        (b"epochs:\t5\n\t- x", "is not readable YAML"),
        (b"epochs: 'five\n", "is not readable YAML"),
        (b"\0", "is not readable YAML"),
        ("epochs: 5".encode("utf-16"), "is not UTF-8 .*YAML"),
        ("text_prompt: Caché".encode("latin-1"), "is not UTF-8 .*YAML"),
        (b"a: &x [" + b"[" * 5_000, "is not readable YAML"),
        (b"seed: !!python/object/apply:os.mkdir [executed]", "is not readable YAML"),
        (b"seed: !!python/name:os.system", "is not readable YAML"),
        (b"a: *nothing", "is not readable YAML"),
        (b"--- 1\n--- 2\n", "is not readable YAML"),
        (b"epochs: 5\n---\nepochs: 6\n", "is not readable YAML"),
        (b"? [a, b]\n: 5\n", "is not readable YAML|does not hold"),
        (BILLION_LAUGHS, "holds more than 10,000 values after its aliases are expanded"),
        (
            BILLION_LAUGHS.replace(b"[", b"{<<: [").replace(b"]", b"]}").replace(b"{<<: [lol]}", b"{lol: 1}"),
            "more than 10,000 val",
        ),
        (b"a: &a [*a]\n", "is not readable YAML: the value in line 1 contains itself"),
        (b"a: &a {b: *a}\n", "is not readable YAML: the value in line 1 contains itself"),
        (b"seed: 2001-99-99\n", "is not readable YAML"),
        (b"text_prompt: " + LONG.encode(), "has 1,000,013 bytes: at most 250,000 are allowed"),
        (b"metrics: [" + b"1," * 12_000 + b"1]", "holds more than 10,000 values"),
    ],
)
@pytest.mark.parametrize("read", [lambda path: read_config_files([str(path)]), read_variants])
def test_invalid_settings_file_is_one_error(data, message, read, tmp_path, monkeypatch):
    if read is read_variants and not re.search("YAML|bytes|values", message):
        pytest.skip("files of variants have another structure")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_bytes(data)
    started = time.process_time()
    with pytest.raises(SettingsError, match=message) as caught:
        read(tmp_path / "s.yaml")
    assert time.process_time() - started < 10
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"epochs: 5\r\nseed: 1\r\n",
        "epochs: 5\nseed: 1\n".encode("utf-8-sig"),
        b"{epochs: 5, seed: 1}",
        b"epochs: 5\nseed: 1",
        b"%YAML 1.1\n---\nepochs: 5\nseed: 1\n...\n",
    ],
)
def test_form_of_a_settings_file_does_not_matter(data, tmp_path):
    (tmp_path / "s.yaml").write_bytes(data)
    assert list(read_config_files([str(tmp_path / "s.yaml")])) == ["epochs", "seed"]


# --- removing rows


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_dropping_rows_keeps_the_others_byte_for_byte(encoding, ending, tmp_path):
    lines = [HEADER, "7\ta\t1", "07\t7\t7", "7.\ta\t1", "77\té\t1", "7\t\t", "", "8\t7\t2", '"7"\ta\t1']
    path = write(tmp_path / "d.inter", ending.join(lines) + ending, encoding)
    layout = AtomicFormat(encoding="utf-8" if encoding == "utf-8-sig" else encoding)
    left = b"".join(drop_rows(path, layout, "user_id", ["7", "x|8"]))
    kept = [line for line in lines if not line.startswith("7\t")]
    assert left == (ending.join(kept) + ending).encode(encoding)
    left = b"".join(drop_rows(path, layout, "timestamp", ["1"]))
    kept = [line for line in lines if not line.endswith("\t1")]
    assert left == (ending.join(kept) + ending).encode(encoding)
