"""``--json`` of every command: the last line is one JSON object that says what was done and where it is."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, write_dataset

from llm_interest import SUBCOMMANDS

#: of each command: its words, and keys of the object. NAME in braces is a path of ``places``
COMMANDS = {
    "convert": (["events.csv", "--name=mine", "--output=made"], {"command", "items"}),
    "join": (["cycle", "round", "--name=both", "--ids=prefixed"], {"events", "shared", "files"}),
    "compare": (["--model=Pop", "--table=films", "{quick}"], {"runs", "files"}),
    "tune": (["--model=GRU4Rec", "--space=s.hyper", "--trials=1", "{quick}"], {"model", "settings", "row", "trials"}),
    "encode": (["--text_encoder=hashing", "{quick}"], {"dataset", "features", "summaries"}),
    "adapt": (["--adapt_epochs=1", "--adapt_evaluations=1", "{quick}"], {"adapter", "report", "frozen", "best"}),
    "doctor": ([], {"broken", "checks"}),
    "recommend": (["--checkpoint={checkpoint}", "--user=u1", "--k=3"], {"events", "recommendations", "interests"}),
    "report": (["--checkpoint={checkpoint}", "--map=pca", "--output=page"], {"report", "pictures", "notes"}),
    "export": (["--checkpoint={checkpoint}", "--output=model", "--k=3"], {"model", "files", "programs"}),
    "embed": (["--checkpoint={checkpoint}", "--output=made", "--steps=2"], {"files"}),
    "follow": (
        ["--checkpoint={checkpoint}", "--events=e.jsonl", "--output=made", "--until_end"],
        {"events", "files"},
    ),
    "forget": (["--user=u1", "{quick}"], {"rewritten", "deleted", "left", "unknown"}),
    "migrate": (["{former}"], {"converted"}),
    "settings": ([], {"settings"}),
}


@pytest.fixture
def words(here, settings, tiny_checkpoint):
    """Makes the words of a command, and the files that they name."""
    rows = [f"u{user},i{user % 3},2024-05-0{day}" for user in range(4) for day in range(1, 5)]
    (here / "events.csv").write_text("\n".join(["user,item,time", *rows]) + "\n")
    event = {"user_id": "u1", "item_id": "i1", "timestamp": 1e6}
    (here / "e.jsonl").write_text(json.dumps(event) + "\n")
    write_dataset(here / "data", "round", [("v1", "i1", 1.0)])
    (here / "s.hyper").write_text("learning_rate choice [0.01]\n")
    former = REPOSITORY / "tests" / "fixtures" / "former_version" / "checkpoint.pth"
    quick = [f"--{key}={value}" for key, value in {**settings, "epochs": 1}.items()]
    places = {"checkpoint": str(tiny_checkpoint), "former": str(shutil.copy(former, here))}

    def make(name):
        given = COMMANDS[name][0]
        filled = [word.format(**places, quick="") for word in given if word != "{quick}"]
        return [*filled, *(["--dataset=cycle", *quick] if "{quick}" in given else [])]

    return make


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SUBCOMMANDS.keys() - {"serve", "mcp"}))  # which go on until a signal
def test_last_line_is_one_object(name, words, capsys):
    command = importlib.import_module(SUBCOMMANDS[name].module)
    assert command.main([*words(name), "--json"]) in ((0, 3) if name == "forget" else (0,))
    out = capsys.readouterr().out
    found = json.loads(out.splitlines()[-1])
    assert COMMANDS[name][1] <= set(found)
    if name != "encode":  # which prints its table, too
        assert out.count("\n") == 1
    for path in _paths(found):
        assert Path(path).exists(), path


def _paths(found):
    """The files that an object names as written."""
    names = [found.get(key) for key in ("report", "row", "trials", "model", "features", "adapter") if key in found]
    names += found.get("files", []) + found.get("pictures", []) + [one["new"] for one in found.get("converted", [])]
    names += [run["checkpoint"] for run in found.get("runs", [])]
    return [name for name in names if name and ("/" in name or "." in name)]


def test_mistake_is_on_standard_error_alone(here, capsys):
    command = importlib.import_module(SUBCOMMANDS["compare"].module)
    assert command.main(["--dataset=missing", "--data_path=.", "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")


def test_files_converted_before_a_mistake_are_named(words, here, capsys):
    from recbole_llm_interest.cli.migrate import main

    assert main([*words("migrate"), "missing.pth", "--json"]) == 2
    (one,) = json.loads(capsys.readouterr().out)["converted"]
    assert Path(one["new"]).is_file()
    assert sys.argv == ["test"]
