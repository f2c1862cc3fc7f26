"""ML-1M with the true second of each user's last event."""

from __future__ import annotations

import sys

import pandas as pd
import pytest
from conftest import REPOSITORY


@pytest.fixture
def last_clock(monkeypatch):
    """The benchmark's module."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    import last_clock

    return last_clock


def test_last_events_have_their_second_and_earlier_ones_keep_their_order(last_clock):
    events = pd.DataFrame(
        [("ann", "a", "0"), ("ann", "b", "1"), ("ann", "c", "2"), ("bob", "a", "0"), ("eve", "a", "0")],
        columns=["user", "item", "time"],
    )
    timed = last_clock.with_clock(events, "user", "time", pd.Series({"ann": 1000, "bob": 999}))
    assert timed.to_numpy().tolist() == [
        ["ann", "a", "998"],
        ["ann", "b", "999"],
        ["bob", "a", "999"],
        ["ann", "c", "1000"],
    ]


def test_data_set_is_written_with_its_content(last_clock, tmp_path, monkeypatch, capsys):
    source = tmp_path / "ml-1m-mm"
    (source / "content").mkdir(parents=True)
    (source / "content" / "items.jsonl").write_text('{"item_id": "7", "title": "Heat"}\n')
    lines = ["user_id:token\titem_id:token\ttimestamp:float", "1\t7\t0", "1\t8\t1", "2\t7\t0"]
    (source / "ml-1m-mm.inter").write_text("\n".join(lines) + "\n")
    (tmp_path / "ml-1m-last-clock").mkdir()
    (tmp_path / "ml-1m-last-clock" / "last_event.tsv").write_text("user_id\titem_id\ttimestamp\n1\t8\t978139333\n")
    monkeypatch.setattr(sys, "argv", ["last_clock.py", f"--data_path={tmp_path}", f"--output={tmp_path}"])
    last_clock.main()
    written = (tmp_path / "ml-1m-clock" / "ml-1m-clock.inter").read_text().splitlines()
    assert written == [lines[0], "1\t7\t978139332", "1\t8\t978139333"]
    assert (tmp_path / "ml-1m-clock" / "content" / "items.jsonl").is_file()
    assert '"users_left_out": 1' in capsys.readouterr().out
