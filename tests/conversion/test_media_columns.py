"""Columns of images and audio: files are copied where readers open them, and URLs are left out."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from recbole_llm_interest.content.catalogue import MEDIA_COLUMNS, read_catalogue
from recbole_llm_interest.conversion import from_pandas
from recbole_llm_interest.conversion.media import FILE_NAMES
from recbole_llm_interest.errors import DataError

EVENTS = {"user": ["u", "u"], "item": ["a", "b"]}


def picture(path, colour="red"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)


def opened(here, modality, kind="item"):
    """What readers find of each item's or user's file, as bytes by token."""
    catalogue = read_catalogue(here / "data" / "mine", "mine", kind, f"{kind}_id", strict=True)
    return {token: blob.open(blob.key()).read() for token, blob in catalogue.blobs[modality].items()}


def test_columns_of_file_names_are_the_catalogues():
    assert FILE_NAMES == MEDIA_COLUMNS


def test_files_beside_the_table_are_copied_to_where_readers_open_them(here):
    source = here / "elsewhere"
    picture(source / "covers" / "x" / "1.png")
    picture(source / "covers" / "y" / "1.png", "blue")
    soundfile.write(source / "a.wav", np.zeros(800), 8000)
    lines = [
        {"id": "a", "title": "A", "poster": "covers/x/1.png", "preview": str(source / "a.wav")},
        {"id": "b", "poster": "covers/y/1.png", "preview": "gone.wav"},
    ]
    (source / "items.jsonl").write_text("\n".join(map(json.dumps, lines)))
    made = from_pandas(EVENTS, source / "items.jsonl", name="mine")
    assert opened(here, "image") == {
        "a": (source / "covers/x/1.png").read_bytes(),
        "b": (source / "covers/y/1.png").read_bytes(),
    }
    assert opened(here, "audio") == {"a": (source / "a.wav").read_bytes()}
    report = made.tables[1]
    assert report.columns["image"] == "'poster', 2 files, 2 of them copied to content/images/items"
    assert report.columns["text"] == "title"
    assert "1 row of 'preview' name a file that does not exist (the first: row 2, 'gone.wav')" in report.remarks
    assert made.modalities == ["text", "image", "audio"]
    assert made.command.endswith("--modalities=text,image,audio")


def test_files_in_the_content_folder_are_named_and_not_copied(here):
    picture(here / "data" / "mine" / "content" / "images" / "1.png")
    items = [{"id": "a", "image_file_name": "images/1.png"}, {"id": "b", "image_file_name": None}]
    made = from_pandas(EVENTS, items, name="mine")
    assert set(opened(here, "image")) == {"a"}
    assert [path.name for path in (here / "data/mine/content/images").iterdir()] == ["1.png"]
    assert made.tables[1].columns["image"] == "'image_file_name', 1 file"


def test_bytes_as_hugging_face_has_them_become_files(here):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    items = [{"id": "a", "image": {"bytes": buffer.getvalue(), "path": None}}, {"id": "b", "image": None}]
    from_pandas(EVENTS, items, name="mine")
    assert opened(here, "image") == {"a": buffer.getvalue()}


def test_files_of_items_and_users_with_equal_names_stay_apart(here):
    picture(here / "covers" / "1.png", "red")
    picture(here / "avatars" / "1.png", "blue")
    items, users = [{"id": "a", "poster": "covers/1.png"}], [{"id": "u", "photo": "avatars/1.png"}]
    from_pandas(EVENTS, items, users, name="mine")
    assert opened(here, "image") == {"a": (here / "covers/1.png").read_bytes()}
    assert opened(here, "image", "user") == {"u": (here / "avatars/1.png").read_bytes()}


def test_copy_does_not_replace_a_file_that_another_row_names(here):
    there = here / "data/mine/content/images/items/1.png"
    picture(there, "red")
    before = there.read_bytes()
    picture(here / "covers" / "1.png", "blue")
    items = [{"id": "a", "poster": "images/items/1.png"}, {"id": "b", "poster": "covers/1.png"}]
    with pytest.raises(DataError, match=r"content/images/items/1\.png exists, and is another file"):
        from_pandas(EVENTS, items, name="mine")
    assert there.read_bytes() == before
    assert not (here / "data/mine/mine.inter").exists()


def test_overwriting_removes_copies_that_no_row_names_any_more(here):
    content = here / "data/mine/content"
    for name in ("1.png", "2.png"):
        picture(here / "covers" / name)
    picture(content / "own.png")
    items = [
        {"id": "a", "poster": "covers/1.png"},
        {"id": "b", "poster": "covers/2.png"},
        {"id": "c", "poster": "own.png"},
    ]
    users = [{"id": "u", "photo": "covers/1.png"}]
    from_pandas(EVENTS, items, users, name="mine")
    picture(here / "covers" / "2.png", "blue")
    made = from_pandas(EVENTS, items[1:2], name="mine", overwrite=True)
    assert opened(here, "image") == {"b": (here / "covers/2.png").read_bytes()}
    assert set(opened(here, "image", "user")) == {"u"}  # its content is not replaced
    assert made.obsolete == [Path("data/mine/content/images/items/1.png")]
    assert not made.obsolete[0].exists()
    assert (content / "own.png").exists()  # it is no copy
    assert "removed 1 former file that no row names any more, such as data/mine/content/images/items/1.png" in str(made)


def test_names_of_a_former_row_remove_nothing_outside_of_content(here):
    picture(here / "secret" / "1.png")
    content = here / "data/mine/content"
    (content / "images").mkdir(parents=True)
    (content / "images/items").symlink_to(here / "secret")
    names = ["images/items/1.png", "images/items/../../../../../secret/1.png", str(here / "secret/1.png")]
    (content / "items.jsonl").write_text(
        "".join(json.dumps({"item_id": n, "image_file_name": n}) + "\n" for n in names)
    )
    made = from_pandas(EVENTS, [{"id": "a", "title": "A"}], name="mine", overwrite=True)
    assert made.obsolete == []
    assert (here / "secret/1.png").exists()


def test_name_with_a_tilde_is_a_name(here):
    picture(here / "~thumb.png")
    from_pandas(EVENTS, [{"id": "a", "poster": "~thumb.png"}], name="mine")
    assert set(opened(here, "image")) == {"a"}


def test_link_out_of_content_is_copied_not_named(here):
    picture(here / "secret.png")
    (here / "data/mine/content").mkdir(parents=True)
    (here / "data/mine/content/a.png").symlink_to(here / "secret.png")
    from_pandas(EVENTS, [{"id": "a", "poster": "a.png"}], name="mine")
    assert opened(here, "image") == {"a": (here / "secret.png").read_bytes()}


def test_second_column_of_a_modality_is_left_out(here):
    picture(here / "1.png")
    made = from_pandas(EVENTS, [{"id": "a", "poster": "1.png", "thumbnail": "1.png"}], name="mine")
    assert made.tables[1].left_out == {"thumbnail": "a second column of image, beside 'poster'"}


@pytest.mark.parametrize("url", ["https://x.org/1.jpg", "s3://bucket/1.png", "data:image/png;base64,AAAA"])
def test_urls_are_left_out_and_nothing_is_asked_for(url, here, network):
    made = from_pandas(EVENTS, [{"id": "a", "title": "A", "poster": url}], name="mine")
    assert made.tables[1].left_out["poster"].startswith("URLs, and nothing is downloaded")
    assert made.modalities == ["text"]
    assert network == []


def test_titles_that_end_like_names_are_text(here):
    made = from_pandas(EVENTS, [{"id": "a", "title": "Alien.com"}, {"id": "b", "title": "Node.js"}], name="mine")
    assert made.tables[1].columns["text"] == "title"


def test_files_of_which_none_exists_are_an_error(here):
    with pytest.raises(
        DataError,
        match=r"no file of the column 'poster' exists in .*\(1 name, the first: row 1, .*drop='poster'",
    ):
        from_pandas(EVENTS, [{"id": "a", "poster": "1.png"}], name="mine")
    assert not (here / "data").exists()
    assert from_pandas(EVENTS, [{"id": "a", "poster": "1.png"}], name="mine", drop=["poster"]).counts.events == 2
