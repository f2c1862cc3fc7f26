"""Tables of every kind become the same data set."""

from __future__ import annotations

import gzip
import json
import sys

import datasets
import pandas as pd
import polars
import pyarrow
import pytest

from recbole_llm_interest.cli.convert import main
from recbole_llm_interest.conversion import from_pandas, table_files
from recbole_llm_interest.conversion.options import complete
from recbole_llm_interest.conversion.tables import take_table
from recbole_llm_interest.errors import DataError, SettingsError

ROWS = [
    {"user": "u 1", "item": "007", "time": "2014-01-01 10:00", "rating": 4.5},
    {"user": "u 1", "item": "é, b", "time": "2014-01-02 10:00", "rating": 3.0},
    {"user": "NA", "item": "007", "time": "2014-01-03 10:00", "rating": 5.0},
]
FRAME = pd.DataFrame(ROWS)
EXPECTED = (
    "user_id:token\titem_id:token\ttimestamp:float\trating:float\n"
    "u 1\t007\t1388570400\t4.5\nu 1\té, b\t1388656800\t3\nNA\t007\t1388743200\t5\n"
)


class ArrowStream:
    """A table of a library that only has Arrow's PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema=None):
        return pyarrow.Table.from_pandas(FRAME).__arrow_c_stream__(requested_schema)


SOURCES = {
    "pandas": FRAME,
    "pandas with an index": FRAME.set_index(["user", "item"]),
    "categories": FRAME.astype({"user": "category", "item": "category"}),
    "dates": FRAME.assign(time=pd.to_datetime(FRAME.time)),
    "dates with a zone": FRAME.assign(
        time=pd.to_datetime(FRAME.time).dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
    ),
    "arrow": pyarrow.Table.from_pandas(FRAME),
    "any library": ArrowStream(),
    "polars": polars.DataFrame(ROWS),
    "datasets": datasets.Dataset.from_list(ROWS),
    "stream of datasets": datasets.Dataset.from_list(ROWS).to_iterable_dataset(),
    "some rows of datasets": datasets.Dataset.from_list([*ROWS, ROWS[0]]).select([0, 1, 2]),
    "rows": ROWS,
    "columns": FRAME.to_dict("list"),
}


def inter(folder):
    (file,) = folder.glob("data/*/*.inter")
    return file.read_text()


@pytest.mark.parametrize("source", SOURCES)
def test_tables_in_memory_give_the_same_file(source, here):
    from_pandas(SOURCES[source], name="mine")
    assert inter(here) == EXPECTED


def write(path):
    """Write the rows in the format of the file's name."""
    text, _, packed = (
        path.name.partition(".")[2].partition(".gz") if path.suffix == ".gz" else (path.suffix[1:], "", "")
    )
    del packed
    if text == "parquet":
        FRAME.to_parquet(path)
        return
    if text == "json":
        written = json.dumps(ROWS)
    elif text in ("jsonl", "ndjson"):
        written = "\n".join(map(json.dumps, ROWS)) + "\n\n"
    else:
        written = FRAME.to_csv(index=False, sep="\t" if text in ("tsv", "tab") else ",")
    data = written.encode("utf-8-sig")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize(
    "name",
    [
        "e.csv",
        "e.CSV",
        "e.tsv",
        "e.txt",
        "e.csv.gz",
        "e.tsv.gz",
        "e.jsonl",
        "e.ndjson.gz",
        "e.json",
        "e.json.gz",
        "e.parquet",
    ],
)
def test_files_give_the_same_file(name, here):
    write(here / name)
    made = from_pandas(name)
    assert inter(here) == EXPECTED
    assert made.dataset == "e"


@pytest.mark.parametrize("separator", [";", "|", "\t"])
def test_separator_of_csv_is_recognised(separator, here):
    FRAME.to_csv("e.csv", index=False, sep=separator)
    from_pandas("e.csv")
    assert inter(here) == EXPECTED


def test_index_that_pandas_saved_is_left_out(here):
    FRAME.to_csv("e.csv")
    from_pandas("e.csv")
    assert inter(here) == EXPECTED


def test_other_encoding(here):
    FRAME.to_csv("e.csv", index=False, encoding="latin-1")
    with pytest.raises(DataError, match=r"e\.csv is not utf-8: name its encoding, as in encoding='latin-1'"):
        from_pandas("e.csv")
    from_pandas("e.csv", encoding="latin-1")
    assert inter(here) == EXPECTED


@pytest.mark.parametrize(("name", "encoding"), [("e.tsv", "utf-16"), ("e.jsonl", "utf-16"), ("e.jsonl", "latin-1")])
def test_encodings_of_more_than_one_byte(name, encoding, here):
    """Excel's "Unicode text" is a TSV file in UTF-16."""
    lines = FRAME.to_json(orient="records", lines=True, force_ascii=False)
    text = FRAME.to_csv(index=False, sep="\t") if name == "e.tsv" else lines
    (here / name).write_bytes(text.encode(encoding))
    with pytest.raises(
        DataError, match="is not utf-8: name its encoding, as in encoding='latin-1' or encoding='utf-16'"
    ):
        from_pandas(name)
    from_pandas(name, encoding=encoding)
    assert inter(here) == EXPECTED


@pytest.mark.parametrize("encoding", ["utf-99", "rot13", "a\0b", 8])
def test_encoding_that_is_none(encoding, here):
    FRAME.to_csv("e.csv", index=False)
    with pytest.raises(SettingsError, match=r"encoding=.* is not an encoding of text that Python knows"):
        from_pandas("e.csv", encoding=encoding)


def test_rows_that_a_single_quote_swallows_are_said_and_can_be_read(here):
    rows = ["user\titem\treview", 'u\ta\t"A film', "u\tb\tfine", 'v\ta\t"The" end"', "v\tb\tfine"]
    (here / "e.tsv").write_text("\n".join(rows) + "\n")
    made = from_pandas("e.tsv")
    assert made.counts.rows < 4
    of_reviews = 'LLMInterest reads what users wrote at events by "--event_text_fields=[review]"'
    assert made.tables[0].remarks == [
        "2 line ends inside of quotes (the first: row 1): if quotes in this file are characters, give quoting='none'",
        of_reviews,
    ]
    made = from_pandas("e.tsv", quoting="none", overwrite=True)
    assert (made.counts.rows, made.tables[0].remarks) == (4, [of_reviews])
    assert '\t"A film\n' in inter(here)
    (here / "e.tsv").write_text("\n".join(rows[:3]) + "\n")
    with pytest.raises(DataError, match=r"EOF inside string .*give quoting='none'"):
        from_pandas("e.tsv", overwrite=True)


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "e.jsonl", "e.jsonl.gz", "e.parquet"])
def test_progress_of_reading_ends_with_the_files_bytes(name, here, monkeypatch):
    bars = []

    class Bar(table_files.tqdm):
        def close(self):
            bars.append((self.n, self.total))
            super().close()

    monkeypatch.setattr(table_files, "tqdm", Bar)
    write(here / name)
    from_pandas(name)
    assert bars[-1] == ((here / name).stat().st_size,) * 2


def test_large_integers_with_missing_ones_stay_exact(here):
    large = 2**53 + 1
    table = pyarrow.table({"user": [large, None], "item": [1, 2]})
    pyarrow.parquet.write_table(table, "e.parquet")
    from_pandas("e.parquet")
    assert inter(here).splitlines()[1:] == [f"{large}\t1\t0"]


def test_nested_types_of_polars(here):
    """Lists of Arrow's type ``string_view``, which Polars uses, and pyarrow does not convert."""
    titles = pyarrow.array([["x", "y"], None], type=pyarrow.list_(pyarrow.string_view()))
    items = pyarrow.table({"item": ["007", "8"], "titles": titles})
    made = from_pandas(FRAME, items, name="mine")
    assert json.loads(made.files[1].read_text().splitlines()[0]) == {"item_id": "007", "titles": ["x", "y"]}


def test_lines_with_too_many_fields_are_counted(here):
    (here / "e.csv").write_text("user,item\n1,2\n1,2,3\n4,5,6,7\n1,3\n")
    made = from_pandas("e.csv")
    (skipped,) = made.tables[0].skipped
    assert skipped.count == 2
    assert skipped.example == "line 3 has 3"
    assert (made.counts.rows, made.counts.events) == (4, 2)


def test_lines_that_are_no_objects_are_counted(here):
    (here / "e.jsonl").write_text('{"user": 1, "item": 2}\n{"user": 1, "item": 3}\n{"user": 1, "it')
    made = from_pandas("e.jsonl")
    assert made.tables[0].skipped[0].count == 1
    assert made.tables[0].skipped[0].example.startswith("line 3, ")
    assert made.counts.events == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.xlsx", b"PK", "ends in '.xlsx': known are .csv, .tsv"),
        ("e.csv", b"", "is empty"),
        ("e.csv", b"user,item\n", "has no rows"),
        ("e.csv", b"196,242,3,881250949\n186,302,3,891717742\n", "has values in its first line"),
        ("e.csv", b"user,item\n1,2,3\n4,5,6\n", "more fields in its rows than names"),
        ("e.csv", b"user,item,user\n1,2,3\n", "several columns 'user'"),
        ("e.parquet.gz", b"", "is Parquet inside of gzip: unpack it by gunzip"),
        ("e.gz", b"", "ends in '.gz': known are .csv"),
        ("e.jsonl", b"user\n", "no JSON objects, such as line 1"),
        ("e.parquet", b"PAR1", "cannot be read"),
        ("e.csv.gz", b"user,item\n", "is damaged"),
        ("none.csv", None, "does not exist"),
    ],
)
def test_unusable_files_are_one_line(name, content, message, here):
    if content is not None:
        (here / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        from_pandas(name)
    assert message in str(error.value)
    assert name in str(error.value)
    assert "\n" not in str(error.value)
    assert not (here / "data").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (5, "events is a int"),
        (
            datasets.DatasetDict(dict.fromkeys(["train", "test"], datasets.Dataset.from_list(ROWS))),
            "has the parts train, test: give one of them",
        ),
        ({"user": [1], "item": [1, 2]}, "no table"),
        ([], "has no rows"),
    ],
)
def test_unusable_tables_are_one_line(source, message):
    with pytest.raises(DataError, match=message):
        take_table(source, "events", complete({}))


@pytest.mark.parametrize("source", ["e.parquet", ArrowStream()])
def test_missing_pyarrow_names_the_extra(source, here, monkeypatch):
    FRAME.to_parquet("e.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"needs pyarrow: pip install 'recbole_llm_interest\[parquet\]'"):
        take_table(source, "events", complete({}))


@pytest.mark.parametrize("source", [polars.DataFrame, datasets.Dataset.from_dict, pyarrow.table])
def test_long_integers_stay_integers_beside_missing_ones(source, here):
    large = 2**60 + 1
    from_pandas(source({"user": [large, None], "item": [1, 2]}), name="mine")
    assert inter(here).splitlines()[1:] == [f"{large}\t1\t0"]


@pytest.fixture
def saved(here, monkeypatch):
    """Folders of Hugging Face: a data set in two files, and a dictionary of one."""
    datasets.disable_progress_bars()
    data = datasets.Dataset.from_list(ROWS)
    data.select([2, 0, 1]).select([1, 2, 0]).save_to_disk(here / "mine", num_shards=2)
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(here / "split")
    return here


def test_saved_datasets_give_the_same_file(saved):
    made = from_pandas("mine")
    assert (made.dataset, inter(saved)) == ("mine", EXPECTED)
    from_pandas(saved / "split" / "train", name="mine", overwrite=True)
    assert inter(saved) == EXPECTED


def test_command_reads_a_saved_dataset(saved, capsys):
    assert main(["mine/"]) == 0
    assert capsys.readouterr().out.startswith("mine: 3 rows\n  user    'user', 2 users\n")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("split/dataset_dict.json", None, "split has the parts train, test: give one, such as split/train"),
        ("mine/state.json", b"{}", "saved dataset mine is damaged"),
        ("mine/state.json", b"no", "is not JSON"),
        ("mine/state.json", b'{"_data_files": []}', "saved dataset mine is damaged"),
        ("mine/state.json", b'{"_data_files": [{"filename": "../../e.arrow"}]}', "e.arrow"),
        ("mine/data-00000-of-00002.arrow", b"no", "table mine cannot be read"),
        ("other/readme", b"", "state.json does not exist: give a file, or a folder that save_to_disk"),
    ],
)
def test_other_folders_are_an_error(saved, name, content, message):
    if content is not None:
        (saved / name).parent.mkdir(exist_ok=True)
        (saved / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        from_pandas(name.partition("/")[0])
    assert message in str(error.value)
    assert not (saved / "data").exists()
