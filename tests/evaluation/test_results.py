"""The JSON file of results: what another program wrote, or changed, is a table that works, or one line."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import asdict

import pytest

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.evaluation.results import RunResult, changed_file, fingerprint, read_results
from recbole_llm_interest.evaluation.table import as_table, table_path, write_comparison
from recbole_llm_interest.report.assembly import ModelOptions, assemble

#: what stands in for a value
VALUES = [
    *(None, True, 0, -1, 2**62, 1e308, "", "x", "\ud800", "$x_$", "a\nb", "@", "ndcg@x", "NDCG@0", "NDCG@99999999"),
    *([], {}, [1], [[1]], [[1, 2, 3]], {"a": 1}, {"": []}, {"a": []}, {"@": 1}, [0] * 3, [-5, 1, 1, 1]),
]


def result(**changes):
    plain = RunResult(
        variant="A", model="m", dataset="d", seed=1, test={"ndcg@10": 0.5, "recall@10": 0.3}, valid_metric="NDCG@10",
        best_valid=0.5, epochs=2, seconds_per_epoch=1.0, parameters=7, test_events=4, candidates="all 9 items",
        test_digest="x", checkpoint="saved/a-b.pth", log="log/a.log", ranks=[1, 0, 2, 0], item_counts=[0, 3, 20, 1],
        losses={"next": [1.0, 2.0]}, valid_scores=[[1, 0.5], [2, 0.6]], environment_info={"commit": "abc"},
        data={"d.inter": "00", "item text": "11"},
    )  # fmt: skip
    return {**asdict(plain), **changes}


def paths(value, path=()):
    """The place of each value inside of a value."""
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from paths(inner, (*path, key))


def mutated(seed):
    """A table in which some values are another or missing."""
    chance = random.Random(seed)
    table = [result(), result(variant="B"), result(seed=2)]
    for _ in range(chance.choice([1, 1, 2, 4])):
        *way, last = chance.choice([path for path in paths(table) if path])
        place = table
        for key in way:
            place = place[key]
        if chance.random() < 0.15:
            del place[last]
        else:
            place[last] = copy.deepcopy(chance.choice(VALUES))
    return table


@pytest.mark.slow
def test_changed_table_works_or_is_one_line(here, monkeypatch):
    monkeypatch.setattr("gc.collect", lambda *_: 0)  # statsmodels does at each call, half a second each
    path = here / "table.json"
    outcomes = set()
    for seed in range(150):
        path.write_text(json.dumps(mutated(seed)))
        try:
            runs = read_results(path)
            write_comparison(runs, here / "again")
            assert read_results(here / "again.json") == runs
            assemble(None, path, ModelOptions())
        except DataError:
            outcomes.add("refused")
        else:
            outcomes.add("works")
    assert outcomes == {"refused", "works"}


@pytest.mark.parametrize(
    "changes",
    [
        *({"ranks": [1]}, {"item_counts": [1, 2]}, {"ranks": [-1, 0, 0, 0]}, {"valid_scores": [[1]]}),
        *({"losses": {"next": []}}, {"valid_metric": "NDCG@ten"}, {"unknown": 1}, {"environment_info": {"commit": {}}}),
    ],
)
def test_results_that_contradict_themselves_are_refused(here, changes):
    (here / "table.json").write_text(json.dumps([result(**changes)]))
    with pytest.raises(DataError, match="does not hold results of this version"):
        read_results(here / "table.json")


def test_results_are_read_as_written(here):
    runs = [RunResult(**result()), RunResult(**result(variant="B", note="Amélie \u202e"))]
    *_, path = write_comparison(runs, here / "lr0.1")
    assert path.name == "lr0.1.json"
    assert read_results(path) == runs
    assert write_comparison(read_results(path), table_path(path, ".md"))[2] == path
    assert json.loads(path.read_text())[0] == result()


def test_rows_on_other_files_are_said_to_be_and_not_tested():
    rows = [RunResult(**result(variant=name, data=data)) for name, data in (
        ("A", {"d.inter": "1", "item text": "x"}), ("B", {"d.inter": "1", "item text": "y"}), ("C", {}),
        ("D", {"d.inter": "2"}),
    )]  # fmt: skip
    assert "NOT" not in as_table(rows[:3])
    table = as_table(rows)
    assert "d: the rows are NOT on the same data (d.inter differs): do not compare them." in table
    assert [line.split("|")[4].strip() for line in table.splitlines()[2:6]] == [
        "-", "1.000 / 1.000", "1.000 / 1.000", "-",
    ]  # fmt: skip


def test_fingerprint_is_of_the_files_alone():
    assert (
        fingerprint({"d.inter": "1", "item text": "x"})
        == fingerprint({"d.inter": "1"})
        != fingerprint({"d.inter": "2"})
    )
    assert fingerprint({}) == fingerprint({"item text": "x"}) == "unknown"
    assert changed_file({"d.inter": "1"}, {"d.inter": "1", "content/items.jsonl": "2"}) == "content/items.jsonl"
    assert changed_file({}, {"d.inter": "1"}) is None
