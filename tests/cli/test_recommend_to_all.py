"""``llm-interest recommend --all``: a table of every user, one line of JSON, and where a killed one goes on."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from recbole_llm_interest.cli.recommend import main
from recbole_llm_interest.errors import Terminated
from recbole_llm_interest.recommender import recommend_all as module


@pytest.fixture
def call(tiny_checkpoint, here, capsys):
    """Runs the command; returns its exit code, output and error."""

    def run(*words):
        code = main([f"--checkpoint={tiny_checkpoint}", "--all", *words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_all_users_get_a_table(call, here):
    code, out, _ = call("--output=new/best.csv", "--k=3")
    assert (code, out) == (0, "new/best.csv: the best items of 24 users\n")
    frame = pd.read_csv(here / "new" / "best.csv")
    assert frame.columns.tolist() == ["user", "rank", "item", "title", "score"]
    assert (frame["user"].nunique(), len(frame)) == (24, 72)


def test_json_is_one_line(call):
    code, out, _ = call("--output=best.jsonl", "--k=3", "--json")
    made = json.loads(out)
    assert (code, out.count("\n"), made.pop("seconds") > 0) == (0, 1, True)
    assert made == {"path": "best.jsonl", "users": 24, "users_done_before": 0}


def test_users_are_those_of_a_file(call, here):
    (here / "users.txt").write_text("u9\r\n\nu2")
    code, *_ = call("--output=best.csv", "--k=3", "--users=users.txt", "--exclude_seen")
    assert code == 0
    assert set(pd.read_csv(here / "best.csv")["user"]) <= {"u9", "u2"}


def test_interrupt_says_that_the_same_command_goes_on(call, here, monkeypatch):
    def terminate(*_):
        raise Terminated

    join = module.write_atomically
    monkeypatch.setattr(module, "write_atomically", terminate)  # when the parts are joined
    code, _, error = call("--output=best.csv", "--k=3")
    assert code == 143
    assert error.endswith("terminated: the same command goes on behind the last finished part; nothing was changed\n")
    monkeypatch.setattr(module, "write_atomically", join)
    assert call("--output=best.csv", "--k=3")[1] == ("best.csv: the best items of 24 users, 24 of them before\n")
    assert {path.name for path in here.iterdir()} == {"best.csv"}


def test_progress_is_shown(call):
    _, _, error = call("--output=best.csv", "--k=3")
    assert "Recommending to best.csv: 100%" in error
