"""``llm-interest convert``: its flags, what it prints, and mistakes in one line."""

from __future__ import annotations

import json

import pytest

from recbole_llm_interest.cli.convert import main


@pytest.fixture
def table(here):
    rows = [f"u{user},i{item},2014-01-{1 + item:02}" for user in range(4) for item in range(5 - user)]
    (here / "events.csv").write_text("\n".join(["user,item,date", *rows]) + "\n")
    return here / "events.csv"


@pytest.mark.parametrize(
    "words",
    [
        ["events.csv", "--k_core=3", "--deduplicate"],
        ["--deduplicate", "events.csv", "--k_core", "3"],
        ["--deduplicate", "exact", "events.csv", "--k_core", "3", "--name", "events", "--output", "data"],
    ],
)
def test_values_stand_after_a_space_or_an_equals_sign(words, table, capsys):
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "deduplicate=exact removed 0 events, 0 users, 0 items\n" in printed
    assert "k_core=3 removed 5 events, 1 user, 2 items\n" in printed
    assert printed.splitlines()[-2:] == [
        "",
        "next: llm-interest compare --model=LLMInterest,GRU4Rec --dataset=events --data_path=data",
    ]


def test_json_has_the_counts(table, capsys):
    assert main(["events.csv", "--min_length=3", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["rows"], made["events"], made["users"], made["items"]) == (14, 12, 3, 5)
    assert made["removed"] == [{"option": "min_length=3", "events": 2, "users": 1, "items": 0}]
    assert made["tables"][0]["columns"]["time"].startswith("'date', ISO dates")
    assert made["files"] == ["data/events/events.inter"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["events.csv", "--kcore=3"],
            "command line: unrecognized arguments: --kcore=3; did you mean --k_core?; --help lists",
        ),
        (["events.csv", "--k-core", "3"], "command line: unrecognized arguments: --k-core 3; did you mean --k_core?; "),
        (["events.csv", "--k_core=many"], "command line: argument --k_core: invalid int value: 'many'"),
        (["events.csv", "--deduplicate=all"], "command line: argument --deduplicate: invalid choice: 'all'"),
        ([], "command line: the following arguments are required: events"),
        (["event.csv"], "table event.csv does not exist: give a CSV, TSV, JSON lines or Parquet file"),
        (
            ["events.csv", "--user", "usr"],
            "--user='usr': events.csv has no such column: did you mean 'user'? known are user, item, date",
        ),
        (
            ["events.csv", "--time=user", "--user=date"],
            "events.csv: 'user' has times in 0% of its rows, and none in row 1",
        ),
        (["events.csv", "--items", "events.csv", "--items_id=user"], "events.csv has none of the events' items"),
        (["events.csv", "--drop=usr"], "--drop='usr': no table has such a column: did you mean 'user'?"),
        (
            ["events.csv", "--item=date", "--user=item", "--time=date", "--encoding=utf-99"],
            "--encoding='utf-99' is not",
        ),
        (["events.csv", "--name=a/b"], "--name='a/b' is no name of a folder"),
        (["events.csv", "--quoting=all"], "command line: argument --quoting: invalid choice: 'all'"),
        (["events.csv", "--k_core=9"], "no event is left: --k_core=9 removed 14 events"),
    ],
)
def test_mistakes_are_one_line(words, message, table, capsys):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {message}")
    assert printed.err.count("\n") == 1
    assert not (table.parent / "data").exists()


def test_messages_name_options_as_the_command_line_has_them(table, capsys):
    assert main(["events.csv"]) == 0
    assert main(["events.csv"]) == 2
    assert "exists: give another name, or --overwrite to replace the data set\n" in capsys.readouterr().err
    assert main(["events.csv", "--time=item", "--name=other"]) == 2
    assert "no column is the items': name it by --item='column'; it has" in capsys.readouterr().err


def test_names_of_files_and_columns_cannot_begin_a_line(here, capsys):
    (here / "e.csv").write_text('user,item,"x\x1b[31m"\n1,2,3\n')
    assert main(["e.csv"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_help_is_grouped_and_short(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    printed = capsys.readouterr().out
    assert end.value.code == 0
    assert [line for line in printed.splitlines() if line.endswith(":")] == [
        "positional arguments:",
        "options:",
        "data set:",
        "columns, recognised if not given:",
        "filters, in this order:",
    ]
    assert len(printed.splitlines()) <= 45
