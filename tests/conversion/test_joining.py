"""One data set of several: every event and all content, under ids that mean what they meant."""

from __future__ import annotations

import json

import pytest
from conftest import write_dataset
from PIL import Image
from recbole.config import Config
from recbole.data import create_dataset

from recbole_llm_interest.conversion import join_data_sets
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.training.comparison import run


def write_shop(here, name, users, items, first=0, titles=None):
    """A shop whose users buy three items each."""
    events = [(f"u{u}", f"i{(u + step) % items}", float(first + step)) for u in range(users) for step in range(3)]
    write_dataset(here / "data", name, events, titles)
    return here / "data" / name


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def cells(path):
    header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_a_joined_data_set_has_the_histories_and_texts_of_each_shop(here, settings):
    write_shop(here, "books", 8, 5, titles={f"i{i}": f"book {i}" for i in range(5)})
    write_shop(here, "films", 6, 4, first=100, titles={f"i{i}": f"film {i}" for i in range(4)})
    made = join_data_sets(["books", "films"], "both", ids="prefixed")
    assert made.events == {"books": 24, "films": 18}
    assert made.shared == {"user id": 0, "item id": 0}
    assert "books: 24 events" in str(made)
    config = Config("LLMInterest", "both", config_dict={**settings, "data_path": str(here / "data")})
    dataset = create_dataset(config)
    assert dataset.user_num == 1 + 8 + 6
    assert dataset.item_num == 1 + 5 + 4
    users, items = (dataset.id2token(field, dataset.inter_feat[field]) for field in ("user_id", "item_id"))
    assert {*zip(users, items, dataset.inter_feat["timestamp"].tolist(), strict=True)} == {
        (f"{shop}:u{u}", f"{shop}:i{(u + step) % count}", first + step)
        for shop, shoppers, count, first in (("books", 8, 5, 0), ("films", 6, 4, 100))
        for u in range(shoppers)
        for step in range(3)
    }
    texts = {row["item_id:token"]: row["title:token_seq"] for row in cells(here / "data" / "both" / "both.item")}
    assert texts["films:i3"] == "film 3"
    assert texts["books:i3"] == "book 3"
    assert len(texts) == 9


def test_a_data_set_may_be_elsewhere(here):
    write_shop(here, "books", 2, 3)
    (here / "other" / "data").mkdir(parents=True)
    films = write_shop(here / "other", "films", 2, 3)
    for folder in (films, "../other/data/films"):
        made = join_data_sets(["books", str(folder)], f"both{len(str(folder))}", ids="prefixed")
        assert made.events == {"books": 6, "films": 6}


def test_columns_are_those_of_all_and_empty_where_one_has_none(here):
    books, films = (write_shop(here, name, users, 3) for name, users in (("books", 2), ("films", 1)))
    for folder, column in ((books, "price:float"), (films, "device:token")):
        path = folder / f"{folder.name}.inter"
        header, *rows = path.read_text().splitlines()
        path.write_text("\n".join([f"{header}\t{column}", *(f"{row}\t7" for row in rows)]) + "\n")
    join_data_sets(["books", "films"], "both", ids="shared")
    rows = cells(here / "data" / "both" / "both.inter")
    assert [(row["price:float"], row["device:token"]) for row in rows] == [("7", "")] * 6 + [("", "7")] * 3


def test_content_lines_and_files_go_along_under_new_names(here):
    books = write_shop(here, "books", 2, 3)
    write_shop(here, "films", 2, 3, titles={"i0": "one reel"})
    (books / "content" / "images").mkdir(parents=True)
    Image.new("RGB", (2, 2), "red").save(books / "content" / "images" / "a.png")
    (here / "secret.png").write_bytes(b"secret")
    rows = [
        {"item_id": "i0", "title": "Ä\tbook", "image_file_name": "images/a.png", "price": 3},
        {"item_id": "i1", "image_file_name": "images/none.png"},
        {"item_id": "i2", "image_file_name": "../../../secret.png"},
        {"title": "nothing"},
        {"item_id": "i0", "title": "a second time"},
    ]
    (books / "content" / "items.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in [*rows, 5]))
    event = {"user_id": "u1", "item_id": "i1", "timestamp": 0.0, "review": "good"}
    (books / "content" / "events.jsonl").write_text(json.dumps(event) + "\n")
    made = join_data_sets(["films", "books"], "both", ids="prefixed")
    content = here / "data" / "both" / "content"
    assert read_lines(content / "items.jsonl") == [
        {"item_id": "films:i0", "title": ["one", "reel"]},
        {"item_id": "books:i0", "title": "Ä\tbook", "image_file_name": "books/images/a.png", "price": 3},
        {"item_id": "books:i1", "image_file_name": "books/images/none.png"},
        {"item_id": "books:i2", "image_file_name": "books/../../../secret.png"},
    ]
    assert read_lines(content / "events.jsonl") == [{**event, "user_id": "books:u1", "item_id": "books:i1"}]
    assert (content / "books/images/a.png").read_bytes() == (books / "content/images/a.png").read_bytes()
    assert [path.name for path in here.rglob("*.png")].count("secret.png") == 1
    assert made.skipped == {"films": 0, "books": 2}
    assert made.missing == 1
    assert "books: 6 events; 2 rows left out" in str(made)


def test_a_row_that_is_left_out_of_two_files_counts_once(here):
    """The content of one data set is in RecBole's file, and is written as JSON lines, too."""
    books, films = write_shop(here, "books", 2, 3), write_shop(here, "films", 2, 3, titles={"i0": "film"})
    (books / "content").mkdir()
    (books / "content" / "items.jsonl").write_text('{"item_id": "i0", "title": "book"}\n')
    with (films / "films.item").open("a") as file:
        file.write("\tno id\n")
    made = join_data_sets(["books", "films"], "both", ids="prefixed")
    assert made.skipped == {"books": 0, "films": 1}


def test_an_id_in_two_shops_is_an_error_until_it_is_said_what_it_means(here):
    write_shop(here, "books", 3, 3, titles={"i0": "book"})
    write_shop(here, "films", 2, 3, titles={"i0": "film", "i2": "reel"})
    with pytest.raises(DataError, match=r"books have the same user id: give ids=shared .* ids=prefixed") as error:
        join_data_sets(["books", "films"], "both")
    assert "u0" not in str(error.value)
    assert not (here / "data" / "both").exists()
    made = join_data_sets(["books", "films"], "both", ids="shared")
    assert made.shared == {"user id": 2, "item id": 3}
    described = cells(here / "data" / "both" / "both.item")
    assert [row["title:token_seq"] for row in described] == ["book", "reel"]  # the first content counts
    assert len(cells(here / "data" / "both" / "both.inter")) == 15


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((["books"], "both"), {}, "joins two data sets or more"),
        ((["books", "books"], "both"), {}, "joins two data sets or more, of different names"),
        ((["books", "none"], "both"), {}, "none.inter does not exist: --data_path"),
        ((["books", "elsewhere/films"], "both"), {}, "elsewhere/films/films.inter does not exist"),
        ((["books", "films"], "../both"), {}, "is no name of a folder"),
        ((["books", "films"], "ml-100k"), {}, "give another name"),
        ((["books", "films"], "films"), {"ids": "shared"}, "films.inter exists: give another name$"),
        ((["books", "films"], "both"), {"ids": "same"}, "give one of unique, shared, prefixed"),
        ((["books", "typed"], "both"), {"ids": "shared"}, "timestamp:token, and another one timestamp:float"),
        ((["books", "nameless"], "both"), {}, "has no column 'user_id'"),
    ],
)
def test_what_cannot_be_joined_is_an_error_and_nothing_is_written(here, arguments, options, message):
    for name in ("books", "films"):
        write_shop(here, name, 2, 3)
    for name, header in (("typed", "user_id:token\titem_id:token\ttimestamp:token"), ("nameless", "item_id:token")):
        (here / "data" / name).mkdir()
        (here / "data" / name / f"{name}.inter").write_text(f"{header}\n")
    before = sorted(here.rglob("*"))
    with pytest.raises((DataError, SettingsError), match=message):
        join_data_sets(*arguments, **options)
    assert sorted(path for path in here.rglob("*") if not path.name.startswith(".")) == before


def test_a_model_of_the_joined_shops_learns_both(here, settings):
    """Each shop goes round its own items: what follows is certain in both."""
    for name, items in (("books", 5), ("films", 4)):
        events = [(f"u{u}", f"i{(u + step) % items}", float(step)) for u in range(20) for step in range(9)]
        write_dataset(here / "data", name, events, items={f"i{i}": f"{name} {i}" for i in range(items)})
    join_data_sets(["books", "films"], "both", ids="prefixed")
    (result,) = run(["LLMInterest"], "both", config_dict={**settings, "epochs": 20, "data_path": str(here / "data")})
    assert next(value for name, value in result.test.items() if name.startswith("ndcg")) > 0.9
