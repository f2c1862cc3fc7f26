"""Finds what a table of events says about items, for those who have no table of items: titles beside each order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recbole_llm_interest.conversion.columns import is_id_name
from recbole_llm_interest.conversion.events import EventRows, column_name
from recbole_llm_interest.conversion.tables import Table
from recbole_llm_interest.conversion.values import clean_text, distinct, is_blank

if TYPE_CHECKING:
    import pandas as pd

#: at least this share of an item's events has the item's most frequent text, over items with several events
_SAME = 0.9


def items_of_events(table: Table, events: EventRows) -> Table | None:
    """Return a table of items with the texts that nearly all events of an item have in common; None if there is none.

    These columns are removed from the events.

    Args:
        table: of the events.
        events: made of it.
    """
    import pandas as pd

    items = events.frame["item_id"]
    rows = table.frame.loc[items.index]
    described = {}
    for column in table.frame.columns:
        name = column_name(column)
        if events.others.get(name) not in ("token", "token_seq") or is_id_name(column):
            continue
        texts = _texts_of_items(items, rows[column])
        if texts is not None:
            described[column] = texts
            events.leave_out(name, column, "says the same in all events of an item: content of items")
    if not described:
        return None
    frame = pd.DataFrame(described).rename_axis("item_id").reset_index().astype(object)
    return Table(f"{table.name}, by item", frame, table.folder)


def _texts_of_items(items: pd.Series, values: pd.Series) -> pd.Series | None:
    """Return each item's most frequent text.

    None if the texts of an item's events differ, those of all items are the same, or most have no letter.
    """
    import pandas as pd

    codes, cells = distinct(values)
    texts = pd.Series([None if is_blank(cell) else clean_text(str(cell)) for cell in cells] + [None], dtype=object)
    if 2 * texts.str.contains(r"[^\W\d_]", regex=True, na=False).sum() < texts.count():
        return None
    pairs = pd.DataFrame({"item": items, "text": texts.to_numpy()[codes]}).dropna()
    counts = pairs.groupby(["item", "text"], observed=True, sort=False).size().rename("count").reset_index()
    most = counts.sort_values("count", ascending=False, kind="stable").drop_duplicates("item").set_index("item")
    totals = counts.groupby("item", observed=True)["count"].sum().reindex(most.index)
    several = totals > 1
    is_same = most["count"][several].sum() >= _SAME * totals[several].sum()
    return most["text"] if several.any() and is_same and most["text"].nunique() > 1 else None
