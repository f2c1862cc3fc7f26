"""Columns are recognised by name and values; where they are not, one line says which option to give."""

from __future__ import annotations

import pandas as pd
import pytest

from recbole_llm_interest.conversion import from_pandas
from recbole_llm_interest.errors import DataError, SettingsError

ISO = ["2014-01-01", "2014-01-02"]


@pytest.mark.parametrize(
    ("columns", "user", "item", "time"),
    [
        ("user_id item_id timestamp", "user_id", "item_id", "timestamp"),
        ("userId movieId rating timestamp", "userId", "movieId", "timestamp"),
        ("InvoiceNo StockCode Quantity InvoiceDate CustomerID", "CustomerID", "StockCode", "InvoiceDate"),
        ("timestamp visitorid event itemid transactionid", "visitorid", "itemid", "timestamp"),
        ("t_dat customer_id article_id price sales_channel_id", "customer_id", "article_id", "t_dat"),
        (
            "event_time event_type product_id category_id price user_id user_session",
            "user_id",
            "product_id",
            "event_time",
        ),
        ("User-ID ISBN Book-Rating date", "User-ID", "ISBN", "date"),
        ("reviewerID asin reviewText unixReviewTime", "reviewerID", "asin", "unixReviewTime"),
        ("session_id track_id artist_id ts", "session_id", "track_id", "ts"),
        ("user session_id item created_at updated_at", "user", "item", "created_at"),
        ("uid iid time", "uid", "iid", "time"),
        ("用户ID 商品ID 行为类型 时间戳", "用户ID", "商品ID", "时间戳"),
        ("会员编号 图书编号 借阅日期 注册日期", "会员编号", "图书编号", "借阅日期"),
        ("anonymous_user_id parent_asin watch_time time_ms", "anonymous_user_id", "parent_asin", "time_ms"),
    ],
)
def test_columns_of_published_tables(columns, user, item, time, here):
    names = columns.split()
    values = {name: [f"{name}-1", f"{name}-2"] for name in names}
    dates = ISO if time not in ("timestamp", "ts", "unixReviewTime", "time_ms") else [1388534400, 1388620800]
    for name in {"updated_at", "watch_time"} & {*names}:
        values[name] = [30.5, 12.5] if name == "watch_time" else ["2015-01-01", "2015-01-02"]
    made = from_pandas(pd.DataFrame({**values, time: dates}), name="mine")
    meant = made.tables[0].columns
    assert meant["user"].startswith(f"'{user}',")
    assert meant["item"].startswith(f"'{item}',")
    assert meant["time"].startswith(f"'{time}',")


def test_time_is_recognised_by_its_values(here):
    made = from_pandas({"user": [1, 1], "item": [1, 2], "bought": ISO}, name="mine")
    assert made.tables[0].columns["time"].startswith("'bought', ISO dates")


def test_item_is_recognised_by_the_ids_of_the_table_of_items(here):
    events = {"user": [1, 1], "what": ["a", "b"], "colour": ["red", "blue"]}
    made = from_pandas(events, [{"id": "a", "title": "A"}, {"id": "b"}], name="mine")
    assert made.tables[0].columns["item"].startswith("'what',")


def test_table_of_items_uses_the_column_with_the_events_name(here):
    events = {"customer_id": [1, 1], "article_id": ["a", "b"]}
    made = from_pandas(events, [{"product_code": 7, "article_id": "a", "title": "A"}], name="mine")
    assert made.tables[1].columns["item"].startswith("'article_id',")


def test_without_times_the_order_counts_and_is_said(here):
    made = from_pandas({"user": [1, 2, 1], "item": ["b", "c", "a"]}, name="mine")
    assert made.files[0].read_text().splitlines()[1:] == ["1\tb\t0", "2\tc\t0", "1\ta\t1"]
    assert made.tables[0].columns["time"] == (
        "no column of times: the order of the rows counts, and times are positions in a user's history"
    )


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ("who item", {}, "events: no column is the users': name it by user='column'; it has who, item"),
        ("user thing", {}, "events: no column is the items': name it by item='column'; it has user, thing"),
        (
            "user_a buyer product_id movie_id",
            {"user": "buyer"},
            "several columns may be the items', 'product_id', 'movie_id'",
        ),
        (
            "customer_id client_id item",
            {},
            "several columns may be the users', 'customer_id', 'client_id': name it by user='column'",
        ),
        (
            "user item bought_at",
            {"time": "bought"},
            "time='bought': events has no such column: did you mean 'bought_at'?",
        ),
        ("user item", {"user": "item", "item": "item"}, "'item' is given as the users' and as the items' column"),
        ("user item", {"drop": ["itm"]}, "drop='itm': no table has such a column: did you mean 'item'?"),
        ("user item", {"k_cor": 5}, "unknown option 'k_cor': did you mean 'k_core'?"),
        ("user item", {"k_core": -1}, "k_core=-1 has to be a number of events"),
        ("user item", {"deduplicate": "all"}, "deduplicate='all' is unknown: known are exact, consecutive"),
        ("user item soon", {"time": "soon"}, "'soon' has times in 0% of its rows, and none in row 1, 'soon'"),
    ],
)
def test_mistakes_are_one_line(columns, options, message, here):
    events = {name: [name, name] for name in columns.split()}
    with pytest.raises((DataError, SettingsError)) as error:
        from_pandas(events, name="mine", **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (here / "data").exists()


@pytest.mark.parametrize("cells", [["10:30", "11:00", "11:30"], ["2014-01-01", "", ""]])
def test_column_named_time_without_times_is_an_error(cells, here):
    events = {"user": [1, 1, 1], "item": [1, 2, 3], "time": cells}
    with pytest.raises(
        DataError, match=r"events: 'time' has times in .* time_format='%d.%m.%Y', or leave it out by drop='time'"
    ):
        from_pandas(events, name="mine")
    made = from_pandas(events, name="mine", drop="time")
    assert made.tables[0].columns["time"].startswith("no column of times")


def test_two_columns_of_times_are_an_error(here):
    events = {"user": [1, 1], "item": [1, 2], "viewed_at": ISO, "bought_at": ISO}
    with pytest.raises(
        DataError, match="several columns may be the times', 'viewed_at', 'bought_at': name it by time='column'"
    ):
        from_pandas(events, name="mine")
    assert from_pandas(events, name="mine", time="viewed_at").counts.events == 2
