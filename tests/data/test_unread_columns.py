"""Columns that nothing reads are said once, in one line; usual ones and those that a setting leaves out are not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import REPOSITORY, cycle_events, write_dataset

from recbole_llm_interest.data.unread_columns import warn_of_unread_columns
from recbole_llm_interest.training.comparison import run
from recbole_llm_interest.training.config import configure


@pytest.fixture
def unread(settings, caplog):
    """What is said about a comparison on ``cycle``."""

    def warn(*models, **overrides):
        caplog.clear()
        warn_of_unread_columns([configure(model, "cycle", overrides=settings | overrides) for model in models])
        return [record.getMessage() for record in caplog.records]

    return warn


def add_column(path, column, value):
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([f"{header}\t{column}", *(f"{row}\t{value}" for row in rows)]) + "\n")


@pytest.fixture
def folder(here, settings):
    return here / "data" / "cycle"


def test_text_column_of_events_is_said_with_what_to_do(folder, unread):
    add_column(folder / "cycle.inter", "review:token_seq", "a fine film")
    add_column(folder / "cycle.inter", "rating:float", "4.0")
    (line,) = unread("LLMInterest", "GRU4Rec")
    assert line.startswith(
        "no model reads the columns review of cycle.inter (event_text_fields reads texts of events; "
    )
    assert unread("Pop") == [line]
    columns = ["user_id", "item_id", "timestamp", "review"]
    assert unread("Pop", load_col={"inter": columns}) == []
    assert unread("Pop", load_col={"inter": columns[:3]}) == []  # left out by name


def test_usual_columns_are_silent(folder, unread):
    add_column(folder / "cycle.inter", "rating:float", "4.0")
    add_column(folder / "cycle.inter", "label:float", "1")
    assert unread("LLMInterest", "GRU4Rec", "Pop") == []
    assert unread("LLMInterest", item_text_fields=["title"]) == []


def test_data_set_of_recbole_is_silent(here, caplog):
    warn_of_unread_columns([configure("LLMInterest", "ml-100k"), configure("Pop", "ml-100k")])
    assert caplog.text == ""


@pytest.mark.slow
def test_own_data_set_is_silent(here, caplog):
    subprocess.run([sys.executable, str(REPOSITORY / "data" / "make_daily.py"), str(here)], check=True)
    warn_of_unread_columns([configure("LLMInterest", "daily", overrides={"data_path": str(here)})])
    assert caplog.text == ""


def test_columns_behind_content_are_said_unless_a_model_loads_them(folder, unread):
    (folder / "content").mkdir()
    (folder / "content" / "items.jsonl").write_text("".join(f'{{"item_id": "i{n}", "name": "x"}}\n' for n in range(8)))
    (line,) = unread("LLMInterest", "GRU4Rec")
    assert "title of cycle.item (items.jsonl takes precedence: move them there, or name them in load_col" in line
    assert unread("GRU4Rec") == []
    loaded = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title"]}
    assert unread("LLMInterest", load_col=loaded) == []


def test_files_of_a_modality_that_is_not_in_use_are_said_unless_modalities_are_chosen(folder, unread):
    (folder / "content").mkdir()
    row = {"item_id": "i0", "title": "x", "image_file_name": "a.png", "video_file_name": "a.mp4"}
    (folder / "content" / "items.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "cycle.item").unlink()
    (line,) = unread("LLMInterest")
    assert "image_file_name, video_file_name of items.jsonl (modalities names those that are read)" in line
    assert unread("LLMInterest", modalities=["text"]) == []


def test_comparison_says_it_once(folder, settings, caplog):
    add_column(folder / "cycle.inter", "review:token_seq", "a fine film")
    run(["Pop", "ItemKNN"], "cycle", config_dict=settings, seeds=2)
    assert caplog.text.count("no model reads the columns") == 1


def test_parts_of_split_data_are_looked_at(here, settings, caplog):
    write_dataset(here / "data", "parts", cycle_events())
    path = here / "data" / "parts" / "parts.inter"
    for part in ("train", "valid", "test"):
        path.with_name(f"parts.{part}.inter").write_text(path.read_text())
    for part in ("train", "test"):
        add_column(path.with_name(f"parts.{part}.inter"), "device:token", "phone")
    split = settings | {"benchmark_filename": ["train", "valid", "test"]}
    warn_of_unread_columns([configure("LLMInterest", "parts", overrides=split)])
    assert "device of parts.train.inter, parts.test.inter (" in caplog.text
