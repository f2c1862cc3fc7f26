"""The catalogue: what items and users are, read as it stands in the file, or refused with file and line."""

from __future__ import annotations

import json
import re

import pytest

from recbole_llm_interest.content.catalogue import read_catalogue
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.io.atomic_files import AtomicFormat


def texts_of(*arguments, **named):
    return {token: piece.text for token, piece in read_catalogue(*arguments, **named).blobs["text"].items()}


def write_items(folder, *lines):
    folder.mkdir(exist_ok=True)
    (folder / "d.item").write_text("\n".join(["item_id:token\ttitle:token_seq\tyear:token", *lines]) + "\n")


def test_text_joins_the_named_columns_in_order(tmp_path):
    write_items(tmp_path, "7\tToy  Story\t1995", "8\t\t1990", "9\t\t")
    texts = texts_of(tmp_path, "d", "item", "item_id", ["year", "title"])
    assert texts == {"7": "year: 1995, title: Toy Story", "8": "year: 1990"}  # 9 has nothing to say


def test_all_columns_but_the_id_are_the_default(tmp_path):
    write_items(tmp_path, "7\tHeat\t1995")
    assert texts_of(tmp_path, "d", "item", "item_id", None) == {"7": "title: Heat, year: 1995"}


@pytest.mark.parametrize(
    "title", ['"Quoted" from the start', '"Open quote', "NA", "null", "O'Brien", "日本語 été 🎬", "a\\tb"]
)
def test_titles_stay_as_they_are(tmp_path, title):
    write_items(tmp_path, f"NA\t{title}\t1995", "007\tNext\t1996")
    texts = texts_of(tmp_path, "d", "item", "item_id", ["title"])
    assert texts == {"NA": f"title: {title}", "007": "title: Next"}


def test_jsonl_goes_before_columns(tmp_path):
    write_items(tmp_path, "7\tHeat\t1995")
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "items.jsonl").write_text(
        '{"item_id": 7, "title": "Line\\none", "genres": ["Crime", "Drama"], "image_file_name": "7", "note": null}\n'
    )
    texts = texts_of(tmp_path, "d", "item", "item_id", None)
    assert texts == {"7": "title: Line one, genres: Crime, Drama"}


def test_misspelt_column_is_named_with_the_nearest(tmp_path):
    write_items(tmp_path, "7\tHeat\t1995")
    with pytest.raises(DataError, match=r"'titel'.*did you mean 'title'\?"):
        read_catalogue(tmp_path, "d", "item", "item_id", ["titel"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["7\tHeat\t1995", "7\tRan\t1995"], r"1 with a duplicate item_id \(line 3\)"),
        (["7\tHeat\t1995", "8\tHe\tat\t1995"], r"1 with a different number of columns than the header's 3 \(line 3\)"),
        (["\tHeat\t1995", "7\tHeat\t1995"], r"1 without 'item_id' \(line 2\)"),
    ],
)
def test_broken_rows_are_left_out_and_counted_or_an_error(tmp_path, lines, message, caplog):
    write_items(tmp_path, *lines)
    assert texts_of(tmp_path, "d", "item", "item_id", ["title"]) == {"7": "title: Heat"}
    (line,) = caplog.messages
    assert re.search(f"2 rows read, 1 kept, 1 skipped: {message}", line)
    with pytest.raises(DataError, match=message):
        read_catalogue(tmp_path, "d", "item", "item_id", None, strict=True)


def test_blank_lines_and_very_long_cells_are_read(tmp_path):
    write_items(tmp_path, f"7\t{'long ' * 50_000}\t1995", "", "8\tHeat\t1995\r", "")
    texts = texts_of(tmp_path, "d", "item", "item_id", ["title", "year"])
    assert len(texts["7"]) > 200_000
    assert texts["8"] == "title: Heat, year: 1995"


def test_encoding_is_named_where_it_is_wrong_and_obeyed_where_it_is_given(tmp_path):
    (tmp_path / "d.item").write_bytes("item_id:token\ttitle:token_seq\n7\tCaché\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"d\.item is not utf-8"):
        read_catalogue(tmp_path, "d", "item", "item_id", None)
    assert texts_of(tmp_path, "d", "item", "item_id", layout=AtomicFormat(encoding="latin-1")) == {"7": "title: Caché"}


def test_broken_json_is_named(tmp_path):
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "items.jsonl").write_text('{"item_id": "1"}\n{"item_id": \n')
    with pytest.raises(DataError, match=r"items\.jsonl: 2 rows read, 1 kept, 1 skipped: .* \(line 2: Expecting value"):
        read_catalogue(tmp_path, "d", "item", "item_id", None, strict=True)


def write_jsonl(folder, *rows):
    (folder / "content").mkdir(exist_ok=True)
    (folder / "content" / "items.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def test_template_makes_a_sentence_and_leaves_out_what_is_empty_with_its_words(tmp_path):
    write_jsonl(
        tmp_path,
        {"item_id": "1", "title": "Heat", "year": 1995, "genres": ["Crime", "Drama"]},
        {"item_id": "2", "title": "Ran", "year": None, "genres": []},
        {"item_id": "3", "title": "", "year": ""},
        {"item_id": "4", "title": "活着", "year": 1994},
    )
    template = "{title} ({year}) genres: {genres}."
    assert texts_of(tmp_path, "d", "item", "item_id", text_template=template) == {
        "1": "Heat (1995) genres: Crime, Drama.",
        "2": "Ran",
        "4": "活着 (1994)",
    }


@pytest.mark.parametrize("template", ["{title", "title}", "{} and {}", "no column", "", "{year:.0f}", "{title!r}"])
def test_template_that_cannot_be_read_is_an_error(tmp_path, template):
    with pytest.raises(SettingsError, match="item_text_template"):
        read_catalogue(tmp_path, "d", "item", "item_id", text_template=template)


def test_numbers_that_are_none_are_nothing(tmp_path):
    """JSON's NaN, as pandas writes what is missing."""
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "items.jsonl").write_text('{"item_id": 1, "title": NaN, "image_file_name": NaN, "y": 0}\n')
    catalogue = read_catalogue(tmp_path, "d", "item", "item_id")
    assert catalogue.blobs["text"]["1"].text == "y: 0"
    assert catalogue.blobs["image"] == {}


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 100_000])
def test_absurd_json_is_an_error_that_names_the_line(tmp_path, value):
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "items.jsonl").write_text(f'{{"item_id": 1, "title": {value}}}\n')
    with pytest.raises(DataError, match=r"none of its 1 rows can be used: 1 not a JSON object \(line 1: "):
        read_catalogue(tmp_path, "d", "item", "item_id")


def test_template_with_a_misspelt_column_is_named_with_the_nearest(tmp_path):
    write_jsonl(tmp_path, {"item_id": "1", "title": "Heat"})
    with pytest.raises(DataError, match=r"'titel'.*did you mean 'title'\?"):
        read_catalogue(tmp_path, "d", "item", "item_id", text_template="{titel}")


@pytest.mark.parametrize("text", [{"text_fields": ["title"]}, {"text_template": "{title}"}])
def test_columns_may_be_named_for_content_that_is_not_there(tmp_path, caplog, text):
    """A data set's own settings file names them, and content is optional: it may be left out without editing that."""
    catalogue = read_catalogue(tmp_path, "d", "user", "user_id", **text)
    assert (catalogue.tokens, catalogue.blobs["text"]) == ([], {})
    (setting,) = text
    assert f"user_{setting} has no effect: there is no {tmp_path / 'content' / 'users.jsonl'}" in caplog.text


def test_files_are_named_by_their_columns_and_kept_out_of_the_text(tmp_path):
    write_jsonl(
        tmp_path,
        {"item_id": "1", "title": "Heat", "image_file_name": "images/a  b.jpg", "audio_file_name": "1.wav"},
        {"item_id": "2", "image_file_name": None, "audio_file_name": ""},
    )
    catalogue = read_catalogue(tmp_path, "d", "item", "item_id")
    assert catalogue.tokens == ["1", "2"]
    assert {token: piece.name for token, piece in catalogue.blobs["image"].items()} == {"1": "images/a  b.jpg"}
    assert {token: piece.name for token, piece in catalogue.blobs["audio"].items()} == {"1": "1.wav"}
    assert {token: piece.text for token, piece in catalogue.blobs["text"].items()} == {"1": "title: Heat"}
