"""The lines below a table say the protocol, the data and the tests in plain words, and nothing that is not known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from recbole_llm_interest.evaluation.comparison import estimate, summarize
from recbole_llm_interest.evaluation.metrics import event_gains
from recbole_llm_interest.evaluation.notes import data_lines, notes_on, protocol_lines
from recbole_llm_interest.evaluation.results import RunResult, read_results
from recbole_llm_interest.evaluation.table import as_table, write_comparison

RANKS, FILTERED_RANKS = [1, 0, 2, 0, 0, 3], [1, 0, 1, 0, 0, 0]
CARD = {
    "users": 6040, "items": 3416, "events": 999611, "density": 0.04845, "median_length": 96.0, "repeats": 0.25,
    "clock": "minutes", "ties": 0.125, "hash": "f853afb32343",
}  # fmt: skip
LEAVE_ONE_OUT = {
    "split": "leave-one-out", "repeated_events": 2, "tied_events": 3, "later_training_events": 0.412, "warm_users": 6,
    "cold_users": 0, "warm_items": 4, "cold_items": 1,
}  # fmt: skip


def result(variant="A", ranks=RANKS, filtered=FILTERED_RANKS, **changes):
    test = {"ndcg@10": float(event_gains("ndcg", torch.tensor(ranks), 10).mean())}
    if filtered:
        test["filtered_ndcg@10"] = float(event_gains("ndcg", torch.tensor(filtered), 10).mean())
    plain = RunResult(
        variant=variant, model=variant, dataset="d", seed=1, test=test, valid_metric="NDCG@10", best_valid=0.5,
        epochs=3, seconds_per_epoch=1.0, parameters=7, test_events=6, candidates="all 9 items", test_digest="x",
        checkpoint="saved/a.pth", log="log/a.log", ranks=list(ranks), filtered_ranks=list(filtered),
    )  # fmt: skip
    return replace(plain, **changes)


def test_lines_of_leave_one_out():
    assert protocol_lines([result(), result("B", protocol=LEAVE_ONE_OUT)]) == [
        "Split: leave-one-out, the last event of each user is for testing, the one before it for validation.",
        "Seen items are candidates, except in columns called filtered: there, 2 of 6 test events repeat a seen item "
        "and count as missed.",
        "3 of 6 test events have the same time as another event of the user's.",
        "On average, 41.2% of the training events lie after the test event that they help to predict.",
        "Tested users: 6 with training events, 0 without. Tested items: 4 with, 1 without.",
    ]


@pytest.mark.parametrize("targets", ["first", "last", "random", "successive", "all"])
def test_lines_of_a_split_by_time(targets):
    protocol = {"split": "time", "test_targets": targets, "valid_begins": "2011-10-01", "test_begins": "2011-11-15"}
    line, _ = protocol_lines([result(protocol=protocol)])
    assert line.startswith("Split: by time, validation from 2011-10-01, test from 2011-11-15; ")
    assert "target" in line
    others = {"first", "last", "successive", "random", "all"} - {targets}
    assert line != protocol_lines([result(protocol={**protocol, "test_targets": min(others)})])[0]


def test_leave_one_out_without_a_clock_says_what_is_unknown():
    lines = protocol_lines([result(protocol={"split": "leave-one-out", "later_training_events": None})])
    assert lines[-1].startswith("Unknown without a clock: how many training events lie after")


def test_line_of_the_data():
    assert data_lines([result(data_card=CARD)]) == [
        "Data: 6,040 users, 3,416 items, 999,611 events, density 4.8450%, median length 96, 25.0% of events repeat an "
        "item of the user's, times in minutes, 12.5% of events at the time of the user's previous one; fingerprint "
        "f853afb32343."
    ]
    assert "no clock; fingerprint" in data_lines([result(data_card={**CARD, "clock": "positions"})])[0]


def test_former_tables_print_without_what_they_lack(tmp_path):
    former = result(filtered=())
    assert len(notes_on([former], summarize([former]))) == 1
    table = as_table([former, result("B", filtered=(), ranks=[0] * 6)])
    assert "filtered" not in table
    assert "CPU" not in table
    assert "| model   |   epochs |   s/epoch |   parameters |" in table
    *_, data = write_comparison([former], tmp_path / "table")
    assert read_results(data) == [former]


@pytest.mark.parametrize("value", ["many", None, 10**30, -1, 0.5])
def test_facts_of_any_value_are_printed(value):
    odd = dict.fromkeys([*LEAVE_ONE_OUT, *CARD, "test_targets"], value)
    for split in ("leave-one-out", "time", value):
        assert as_table([result(protocol={**odd, "split": split}, data_card=odd)])


def test_table_has_kept_and_filtered_side_by_side_and_each_its_tests():
    rows = [result(), result("B", ranks=[0] * 6), result("C", filtered=[0] * 6)]
    head, _, first, second, third, *_ = as_table(rows).splitlines()
    assert [cell.strip() for cell in head.split("|")[1:-1]] == [
        *("model", "ndcg@10", "p (t / W)", "filtered ndcg@10", "p (t / W)"),
    ]  # fmt: skip
    _, b, c = summarize(rows)
    assert b.p_values.t < c.p_values.t == 1.0
    assert b.filtered_p_values.t == 1.0 > c.filtered_p_values.t
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (first, second, third)]
    assert cells[0][2] == cells[0][4] == "-"
    assert cells[1][2] == f"{b.p_values.t:.3f} / {b.p_values.wilcoxon:.3f}"
    assert cells[2][2] == "1.000 / 1.000"


def test_narrow_terminal_gets_one_table_for_each_part():
    rows = [result(cpu_seconds_per_epoch=2.5, seconds_to_best=30.0, peak_memory_mb=1234.5), result("B")]
    wide, narrow = as_table(rows), as_table(rows, width=60)
    assert wide.count("| model") == 2
    assert narrow.count("| model") == 3
    assert max(len(line) for line in narrow.splitlines() if line.startswith("|")) <= max(
        len(line) for line in wide.splitlines() if line.startswith("|")
    )
    for cell in ("2.50", "30", "1,234", "CPU s/epoch", "s to best", "peak MiB"):
        assert cell in wide


def test_lists_have_kept_and_filtered_in_one_cell():
    test = {"ndcg@10": 0.5, "novelty@10": 9.25, "filtered_novelty@10": 9.5, "itemcoverage@10": 0.25}
    table = as_table([result(test=test, filtered=()), result("B", filtered=())])
    assert "9.250 / 9.500" in table
    assert "coverage@10" in table
    assert "Metrics of the lists: with seen items kept / filtered." in table


def test_estimate_of_filtered_metrics_is_from_filtered_ranks():
    run = result(item_counts=[0, 0, 3, 3, 20, 20])
    expected = event_gains("ndcg", torch.tensor(FILTERED_RANKS), 10)
    assert estimate([run], "filtered_NDCG@10").mean == pytest.approx(float(expected.mean()))
    assert estimate([run], "filtered_NDCG@10", "Unseen").mean == pytest.approx(float(expected[:2].mean()))
    assert estimate([result(filtered=())], "filtered_ndcg@10") is None


def test_events_of_one_user_are_tested_by_their_mean_and_resampled_together():
    """Three users with 40 events each: what looks certain over events is not over users."""
    users = [user for user in range(3) for _ in range(40)]
    many = {"test_events": 120, "event_users": users, "filtered": ()}
    rows = [result(ranks=[1] * 80 + [0] * 40, **many), result("B", ranks=[0] * 80 + [1] * 40, **many)]
    over_users = summarize(rows)[1].p_values
    over_events = summarize([replace(row, event_users=[]) for row in rows])[1].p_values
    assert over_events.t < 0.001 < 0.5 < over_users.t
    low, high = estimate(rows[:1], "ndcg@10").interval
    assert (low, high) == (0.0, 1.0)
    naive_low, naive_high = estimate([replace(rows[0], event_users=[])], "ndcg@10").interval
    assert naive_low > 0.5
    assert naive_high < 0.8
    assert "over users, each with the mean of its test events" in as_table(rows)


@pytest.mark.parametrize("users", [[0, 0, 1, 1, 2, 9], [2**62, 0, 0, 0, 0, 0], [0, 1]])
def test_users_of_events_have_to_be_numbered(tmp_path, users):
    from recbole_llm_interest.errors import DataError

    *_, data = write_comparison([result(event_users=users)], tmp_path / "table")
    with pytest.raises(DataError, match="does not hold results"):
        read_results(data)
