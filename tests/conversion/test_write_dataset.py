"""The files of a conversion, what it says, and what it leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm_interest.conversion import from_pandas, writing
from recbole_llm_interest.conversion.values import MISSING_WORDS
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.io.atomic_files import AtomicFormat, read_atomic_file

COLUMNS = {"user_id": "token", "item_id": "token", "timestamp": "float"}
EVENTS = {"user": ["u", "u", "v"], "item": ["a", "b", "a"], "time": ["2014-01-03", "2014-01-02", "2014-01-01"]}

# no control characters, which are replaced, and no ".0", which a column of whole numbers loses
texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="."), min_size=1, max_size=8
)
ids = st.one_of(st.integers(), st.uuids(), texts)
events = st.lists(st.tuples(ids, ids, st.integers(10**9, 10**9 + 30)), min_size=1, max_size=20)


def read(made):
    return read_atomic_file(
        made.files[0], AtomicFormat(), COLUMNS, ids=["user_id", "item_id"], time_field="timestamp", strict=True
    )


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(events)
def test_every_kept_event_is_read_back_once_in_the_order_of_time(events):
    rows = [(f"{user}".strip(), f"{item}".strip(), float(time)) for user, item, time in events]
    expected = sorted((row for row in rows if not {*row[:2]} & {"", *MISSING_WORDS}), key=lambda row: row[2])
    table = pd.DataFrame(events, columns=["user", "item", "time"], dtype=object)
    with TemporaryDirectory() as folder:
        if not expected:
            with pytest.raises(DataError, match="none of its"):
                from_pandas(table, name="mine", data_path=folder)
            return
        made = from_pandas(table, name="mine", data_path=folder)
        assert (
            list(read(made)[list(COLUMNS)].astype({"user_id": str, "item_id": str}).itertuples(index=False, name=None))
            == expected
        )
    assert sum(skipped.count for skipped in made.tables[0].skipped) == len(events) - len(expected)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([17862, 5], ["17862", "5"]),
        ([17862.0, 5.0], ["17862", "5"]),
        (["17862.0", "5.0"], ["17862", "5"]),
        (["17862.0", "x"], ["17862.0", "x"]),
        (["007", "7"], ["007", "7"]),
        ([uuid.UUID(int=1), uuid.UUID(int=2)], [str(uuid.UUID(int=1)), str(uuid.UUID(int=2))]),
        (["two words", "a\tb\nc"], ["two words", "a b c"]),
        (["NA", "none"], ["NA", "none"]),
        ([b"x", b"y"], ["x", "y"]),
        ([2**70, -1], [str(2**70), "-1"]),
        ([np.int32(3), np.float32(4)], ["3", "4"]),
        ([1.5, 2.0], ["1.5", "2"]),
    ],
)
def test_ids_of_any_type(cells, expected, here):
    made = from_pandas({"user": pd.Series(cells, dtype=object), "item": ["a", "b"]}, name="mine")
    assert read(made).user_id.tolist() == expected


def test_ids_of_the_tables_meet_whatever_their_types_are(here):
    made = from_pandas(
        {"user": [1.0, 2.0, np.nan], "item": ["7", "8", "9"]},
        [{"id": 7, "title": "A"}],
        pd.DataFrame({"user": [2, 3], "age": [30.0, np.nan]}),
        name="mine",
    )
    assert rows(made.files[1]) == [{"item_id": "7", "title": "A"}]
    assert rows(made.files[2]) == [{"user_id": "2", "age": 30}, {"user_id": "3"}]
    assert "1 of the 2 items of the events have no row here" in made.tables[1].remarks
    assert "1 of the 2 users here are in no event that is kept" in made.tables[2].remarks


def test_rows_that_cannot_be_used_are_counted_with_the_first_of_them(here):
    made = from_pandas(
        {
            "user": ["u", None, "u", "x" * 256, "u", "u", "u"],
            "item": ["a", "a", " ", "a", "a", "[PAD]", "b"],
            "time": ["2014-01-01", "2014-01-01", "2014-01-01", "2014-01-01", "soon", "2014-01-01", "2014-01-02"],
        },
        name="mine",
    )
    assert [str(skipped) for skipped in made.tables[0].skipped] == [
        "1 row without a user (the first: row 2)",
        "1 row whose user has more than 255 characters (the first: row 4)",
        "1 row without an item (the first: row 3)",
        "1 row whose item is [PAD], which RecBole reserves (the first: row 6)",
        "1 row without a time in 'time' (the first: row 5, 'soon')",
    ]
    assert made.counts.events == 2


@pytest.mark.parametrize("word", ["NULL", "null", "None", "NaN", "nan", r"\N", "<NA>"])
def test_words_for_a_missing_id_are_no_id(word, here):
    made = from_pandas(
        {"user": ["17850.0", word, word, "13047.0"], "item": ["a", "a", "b", "b"]},
        [{"id": "a", "title": "A"}, {"id": word, "title": "B"}],
        [{"id": 17850, "age": 5}],
        name="mine",
    )
    assert read(made).user_id.tolist() == ["17850", "13047"]
    skipped = f"2 rows whose user is a word for a missing value (the first: row 2, {word!r})"
    assert [str(each) for each in made.tables[0].skipped] == [skipped]
    assert rows(made.files[1]) == [{"item_id": "a", "title": "A"}]
    assert [each.reason for each in made.tables[1].skipped] == ["whose id is a word for a missing value"]
    assert rows(made.files[2]) == [{"user_id": "17850", "age": 5}]


@pytest.mark.parametrize("backend", ["numpy_nullable", "pyarrow"])
def test_nullable_types_of_pandas(backend, here):
    events = pd.DataFrame({**EVENTS, "price": [1.5, None, 2], "word": ["x", None, "y"], "new": [True, None, False]})
    items = pd.DataFrame({"id": ["a", "b"], "title": ["A", None], "year": [2001, None], "seen": [None, True]})
    plain = from_pandas(events, items, name="plain")
    made = from_pandas(
        events.convert_dtypes(dtype_backend=backend), items.convert_dtypes(dtype_backend=backend), name="mine"
    )
    assert [path.read_text() for path in made.files] == [path.read_text() for path in plain.files]


@pytest.mark.parametrize("cell", [{"x"}, frozenset("x"), ("x",), ["x"], {"x": 1}, np.array(["x"])])
def test_containers_beside_the_events_are_left_out(cell, here):
    made = from_pandas({**EVENTS, "tags": [cell] * 3}, name="mine")
    assert made.tables[0].left_out == {"tags": "lists or dictionaries"}
    with pytest.raises(DataError, match="'user' holds lists or dictionaries"):
        from_pandas({**EVENTS, "user": [cell] * 3}, name="other", user="user")


def test_frozen_sets_are_lists_of_content(here):
    made = from_pandas(EVENTS, [{"id": "a", "cast": frozenset({"A"})}], name="mine")
    assert rows(made.files[1]) == [{"item_id": "a", "cast": ["A"]}]


def test_columns_without_a_name_are_said_unless_they_number_the_rows(here):
    (here / "e.csv").write_text(",user,,item\n1,u,7,a\n2,u,9,b\n")
    assert from_pandas("e.csv").tables[0].left_out == {"Unnamed: 2": "has no name: give it one to keep it"}
    items = pd.DataFrame({"id": ["a", "b"], "title": ["A", "B"], "": ["x", "y"]})
    assert set(from_pandas(EVENTS, items, name="mine").tables[1].left_out) == {""}


def test_home_folder_is_written_as_a_tilde(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here / "home"))
    (here / "home").mkdir()
    (here / "home" / "e.csv").write_text("user,item\nu,a\n")
    made = from_pandas("~/e.csv", data_path="~/data")
    assert made.files == [here / "home/data/e/e.inter"]
    assert made.files[0].exists()


def test_exact_repeats_need_times(here):
    events = {"user": ["u"] * 3, "item": ["a", "a", "b"]}
    with pytest.raises(
        SettingsError, match=r"deduplicate='exact' compares times, and events has none: .*'consecutive'"
    ):
        from_pandas(events, name="mine", deduplicate="exact")
    assert from_pandas(events, name="mine", deduplicate="consecutive").counts.events == 2


def test_other_columns_have_types_that_fit(here):
    made = from_pandas(
        {
            **EVENTS,
            "rating": [4.5, None, 3],
            "bought": [True, False, True],
            "session_id": [1, 2, 2],
            "zip": ["00501", "10001", "00501"],
            "country": ["United Kingdom", "United Kingdom", None],
            "review": ["a fine film", "too\tlong\nfor me", "no word of it"],
            "seen": pd.to_datetime(EVENTS["time"]),
            "tags": [["x"], [], ["y"]],
            "link": ["https://x.org/1"] * 3,
            "photo": ["a.jpg"] * 3,
            "nothing": [None] * 3,
            "word": ["x" * 300] * 3,
        },
        name="mine",
        drop=["zip"],
        time="time",
    )
    header, first, second, _ = made.files[0].read_text().split("\n")[:4]
    assert header.split("\t")[3:] == [
        "rating:float", "bought:float", "session_id:token", "country:token", "review:token_seq", "seen:float",
    ]  # fmt: skip
    assert first.split("\t")[3:] == ["3", "1", "2", "", "no word of it", "1388534400"]
    assert second.split("\t")[3:] == ["", "0", "2", "United Kingdom", "too long for me", "1388620800"]
    assert made.tables[0].left_out == {
        "zip": "dropped",
        "tags": "lists or dictionaries",
        "link": "URLs",
        "photo": "files of image of events, which are not read",
        "nothing": "empty",
        "word": "a word of more than 255 characters",
    }


def test_codes_with_leading_zeros_stay_words(here):
    made = from_pandas({**EVENTS, "zip": ["00501", "10001", "00501"]}, name="mine")
    assert "zip:token" in made.files[0].read_text()


def test_content_is_written_as_the_catalogue_reads_it(here):
    items = pd.DataFrame(
        {
            "id": ["a", "b", "b", None],
            "title": ["Amélie\nof Montmartre", None, "again", "x"],
            "year": [2001.0, np.nan, 1, 1],
            "genres": ["Comedy|Sci-Fi", "Drama", "", ""],
            "cast": [np.array(["A", "B"]), None, None, None],
            "released": pd.to_datetime(["2001-04-25", None, None, None]),
            "url": ["http://x.org", None, None, None],
            "cover": ["https://x.org/a.jpg", None, None, None],
            "extra": [{"x": 1}, None, None, None],
            "object": [print, None, None, None],
            "void": [None, None, None, None],
        }
    )
    made = from_pandas(EVENTS, items, name="mine")
    assert rows(made.files[1]) == [
        {"item_id": "a", "title": "Amélie\nof Montmartre", "year": 2001, "genres": ["Comedy", "Sci-Fi"],
         "cast": ["A", "B"], "released": "2001-04-25"},
        {"item_id": "b", "genres": ["Drama"]},
    ]  # fmt: skip
    report = made.tables[1]
    assert report.columns["text"] == "title, year, genres (split at |), cast, released"
    assert set(report.left_out) == {"url", "cover", "extra", "object", "void"}
    assert report.left_out["cover"].startswith("URLs, and nothing is downloaded")
    assert [str(skipped) for skipped in report.skipped] == [
        "1 row without an id (the first: row 4)",
        "1 row with the id of an earlier row (the first: row 3)",
    ]


def test_titles_beside_the_events_are_content_of_items(here):
    orders = {
        "user": [1, 1, 2, 2, 3],
        "item": ["a", "b", "a", "b", "c"],
        "title": ["Red mug", "Blue mug", "Red mug", "Blue mug", None],
        "price band": ["low", "low", "low", "low", "low"],
        "comment": ["fine", "so so", "good", "bad", "well"],
    }
    made = from_pandas(orders, name="mine")
    assert rows(made.files[1]) == [{"item_id": "a", "title": "Red mug"}, {"item_id": "b", "title": "Blue mug"}]
    assert (
        made.files[0]
        .read_text()
        .startswith("user_id:token\titem_id:token\ttimestamp:float\tprice_band:token\tcomment:token")
    )
    assert made.tables[0].left_out == {"title": "says the same in all events of an item: content of items"}
    assert made.tables[1].name == "events, by item"
    assert "1 of the 3 items of the events have no row here" in made.tables[1].remarks
    made = from_pandas(orders, [{"id": "a", "title": "A"}], name="mine", overwrite=True)
    assert rows(made.files[1]) == [{"item_id": "a", "title": "A"}]


def test_content_of_other_items_is_an_error(here):
    with pytest.raises(
        DataError, match=r"items has none of the events' items: .*such as '1' and 'a': give its column of ids"
    ):
        from_pandas(EVENTS, [{"id": 1, "title": "A"}], name="mine")
    with pytest.raises(DataError) as error:
        from_pandas(EVENTS, users=[{"id": "secret", "title": "A"}], name="mine")
    assert "secret" not in str(error.value)


def test_nothing_is_overwritten_unless_asked(here):
    from_pandas(EVENTS, [{"id": "a", "title": "A"}], name="mine")
    before = {path: path.read_bytes() for path in Path("data").rglob("*") if path.is_file()}
    with pytest.raises(SettingsError, match=r"data/mine/mine\.inter exists: give another name, or overwrite=True"):
        from_pandas({"user": [1], "item": [1]}, name="mine")
    assert {path: path.read_bytes() for path in Path("data").rglob("*") if path.is_file()} == before
    made = from_pandas({"user": [1], "item": [1]}, name="mine", overwrite=True)
    assert made.counts.events == 1
    (remark,) = made.tables[0].remarks
    assert remark.startswith("data/mine/content/items.jsonl was there before")


def test_failure_leaves_the_former_data_set(here, monkeypatch):
    from_pandas(EVENTS, [{"id": "a", "title": "A"}], name="mine")
    before = {path: path.read_bytes() for path in Path("data").rglob("*") if path.is_file()}

    def full(rows, file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "_write_rows", full)
    with pytest.raises(Exception, match="free some space"):
        from_pandas({"user": [1], "item": ["a"]}, [{"id": "a", "title": "B"}], name="mine", overwrite=True)
    assert {path: path.read_bytes() for path in Path("data").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\0b", "x" * 300])
def test_name_has_to_be_one_of_a_folder(name, here):
    with pytest.raises(SettingsError, match="give a name such as mine"):
        from_pandas(EVENTS, name=name)


def test_name_of_the_data_that_recbole_brings_is_refused(here):
    with pytest.raises(SettingsError, match="RecBole reads its own data of this name"):
        from_pandas(EVENTS, name="ml-100k")


def test_table_in_memory_needs_a_name():
    with pytest.raises(SettingsError, match="name is missing"):
        from_pandas(EVENTS)


def test_summary_says_what_happened_and_what_to_run(here):
    made = from_pandas(EVENTS, [{"id": "a", "title": "A"}], name="mine", min_length=2)
    assert repr(made) == "<mine: 2 events of 1 user and 2 items in data/mine>"
    assert str(made).splitlines() == [
        "events: 3 rows",
        "  user  'user', 2 users",
        "  item  'item', 2 items",
        "  time  'time', ISO dates without a time of day: 2014-01-01 00:00:00 to 2014-01-03 00:00:00",
        "items: 1 row",
        "  item  'id', 1 id",
        "  text  title",
        "  1 of the 2 items of the events have no row here",
        "min_length=2 removed 1 event, 1 user, 0 items",
        "3 rows read, 2 events kept: 1 user, 2 items, 2 events a user (median), 0% repeat an earlier item",
        "written: data/mine/mine.inter, data/mine/content/items.jsonl",
        "",
        "next: llm-interest compare --model=LLMInterest,GRU4Rec --dataset=mine --data_path=data",
    ]
    (here / "run_recbole.py").touch()
    assert made.command.startswith("python run_recbole.py --model=")
    json.dumps(made.as_dict())


def test_no_event_left_is_an_error(here):
    with pytest.raises(DataError, match=r"no event is left: k_core=3 removed 3 events, 2 users, 2 items: give smaller"):
        from_pandas(EVENTS, name="mine", k_core=3)


def test_converting_imports_neither_torch_nor_recbole(here):
    """The package's own import brings both; a stand-in for it shows that the conversion needs neither."""
    program = f"""
import sys, types
package = types.ModuleType("recbole_llm_interest")
package.__path__ = [{str(REPOSITORY / "recbole_llm_interest")!r}]
sys.modules["recbole_llm_interest"] = package
from recbole_llm_interest.cli.convert import main
assert main(["--usr=x", "events.csv"]) == 2
assert not {{"torch", "recbole", "pandas", "numpy"}} & set(sys.modules)
assert main(["events.csv"]) == 0
assert not {{"torch", "recbole"}} & set(sys.modules)
"""
    (here / "events.csv").write_text("user,item\n1,2\n")
    done = subprocess.run([sys.executable, "-c", program], cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
