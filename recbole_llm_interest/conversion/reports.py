"""Says what became of each table, once the events are filtered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_llm_interest.conversion.content import Content
from recbole_llm_interest.conversion.events import EventRows
from recbole_llm_interest.conversion.summary import Counts, TableReport
from recbole_llm_interest.conversion.tables import Table
from recbole_llm_interest.conversion.wording import counted

if TYPE_CHECKING:
    import pandas as pd


def report_of_events(table: Table, events: EventRows, former: Sequence[Path]) -> TableReport:
    """Return what the columns of the events became.

    Args:
        table: of the events.
        events: before filters.
        former: files of the data set that stay as they were.
    """
    columns = {
        role: f"{events.columns[role]!r}, {counted(events.frame[f'{role}_id'].nunique(), role)}"
        for role in ("user", "item")
    }
    if "time" in events.columns:
        columns["time"] = f"{events.columns['time']!r}, {events.time_meaning}: {events.span}"
    else:
        columns["time"] = events.time_meaning
    if events.others:
        columns["others"] = ", ".join(f"{name} ({kind})" for name, kind in events.others.items())
    remarks = table.remarks + [
        f"{path} was there before, and is read with the new events: remove it if it is of other data" for path in former
    ]
    texts = ",".join(name for name, kind in events.others.items() if kind == "token_seq")
    if texts:
        remarks.append(f'LLMInterest reads what users wrote at events by "--event_text_fields=[{texts}]"')
    return TableReport(table.name, table.row_count, columns, events.left_out, events.skipped, remarks)


def report_of_content(table: Table, content: Content, events: EventRows) -> TableReport:
    """Return what the columns of items or users became, and which have no content or no events."""
    columns = {content.kind: f"{content.id_column!r}, {counted(len(content.tokens), 'id')}"}
    if content.columns:
        columns["text"] = ", ".join(
            f"{name} (split at |)" if name in content.lists else name for name in content.columns
        )
    columns |= {modality: f"{found.column!r}, {found}" for modality, found in content.media.items()}
    missing = [skipped for found in content.media.values() for skipped in found.missing]
    in_events = set(events.frame[f"{content.kind}_id"].unique())
    lacking, idle = len(in_events.difference(content.tokens)), len(set(content.tokens) - in_events)
    remarks = [*table.remarks]
    if lacking:
        remarks.append(f"{lacking:,} of the {len(in_events):,} {content.kind}s of the events have no row here")
    if idle:
        remarks.append(f"{idle:,} of the {len(content.tokens):,} {content.kind}s here are in no event that is kept")
    remarks += [str(skipped) for skipped in missing]
    return TableReport(table.name, table.row_count, columns, content.left_out, content.skipped, remarks)


def count(rows: int, frame: pd.DataFrame) -> Counts:
    """Return how much is in the events that are kept.

    Args:
        rows: of the table of events.
        frame: the events, with the columns user_id and item_id.
    """
    lengths = frame["user_id"].value_counts()
    lengths = lengths[lengths > 0]
    repeats = float(frame.duplicated(["user_id", "item_id"]).mean())
    return Counts(rows, len(frame), len(lengths), frame["item_id"].nunique(), float(lengths.median()), repeats)
