"""A data set that was made of a CSV and a Parquet file trains and tests like any other."""

from __future__ import annotations

import pandas as pd
from conftest import SUBJECTS, cycle_events

from recbole_llm_interest.cli.convert import main


def test_csv_and_parquet_become_a_data_set_that_recbole_builds(here, built, capsys):
    events = cycle_events()
    table = pd.DataFrame(events, columns=["CustomerID", "StockCode", "seconds"]).sample(frac=1, random_state=1)
    table["InvoiceDate"] = pd.to_datetime(table.pop("seconds") + 1.4e9, unit="s").dt.strftime("%Y-%m-%d %H:%M:%S")
    table.to_csv("orders.csv", index=False)
    stock = pd.DataFrame({"StockCode": [f"i{n}" for n in range(len(SUBJECTS))], "Description": SUBJECTS, "year": 1995})
    stock.to_parquet("stock.parquet")
    assert main(["orders.csv", "--items=stock.parquet", "--name=orders"]) == 0
    assert "216 rows read, 216 events kept: 24 users, 8 items" in capsys.readouterr().out

    _, model, dataset, train, _, test = built(dataset="orders", data_path=str(here / "data"), text_encoder="hashing")
    assert set(dataset.field2token_id["item_id"]) == {"[PAD]", *stock.StockCode}
    histories = next(iter(test))[0]
    users = dataset.id2token("user_id", histories["user_id"].numpy())
    for user, items, length in zip(users, histories["item_id_list"], histories["item_length"], strict=True):
        seen = [item for owner, item, _ in events if owner == user][:-1]
        shown = dataset.id2token("item_id", items[: int(length)].numpy()).tolist()
        assert shown == seen[-len(shown) :]
    assert all(part.isfinite() for part in model.calculate_loss(next(iter(train))))
    texts = (here / "data/orders/content/items.jsonl").read_text()
    assert '{"item_id": "i0", "Description": "space", "year": 1995}' in texts
