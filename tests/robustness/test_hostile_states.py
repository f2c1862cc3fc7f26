"""Hostile user states: the checksum is valid, the content is not."""

from __future__ import annotations

import json
import random
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_hostile_files import INVALID_NAMES, NOT_REGULAR

from recbole_llm_interest.errors import StateError
from recbole_llm_interest.model.interest_tracker import InterestState, InterestTracker
from recbole_llm_interest.recommender.event_log import EventLog, LoggedEvents
from recbole_llm_interest.recommender.state_file import _digest, load_state, parse_state, save_state
from recbole_llm_interest.recommender.user_state import UserState

MODEL = "a" * 64
TOKENS = ["[PAD]", "i1", "i2", "i3"]
ROWS = {token: row for row, token in enumerate(TOKENS) if row}
SIZES = {"input_size": 4, "hidden_size": 6, "num_layers": 2, "dropout_prob": 0.0, "user_size": 3, "max_length": 5}


def tracker(**changes):
    torch.manual_seed(0)
    return InterestTracker(**{**SIZES, **changes})


def state_of(model: InterestTracker) -> UserState:
    """A state of two users, after two and three events."""
    with torch.no_grad():
        user = torch.randn(2, 3) if model.user_to_state is not None else None
        start = model.neutral_state(2) if user is None else model.initial_state(user)
        interest, read = model.read(torch.randn(2, 3, 4), start)
    length = torch.tensor([2, 3])
    items, times = torch.tensor([[1, 2, 0], [3, 1, 2]]), torch.tensor([[5.0, torch.nan, torch.nan], [1.0, 2.0, 3.0]])
    log = EventLog.of(LoggedEvents(items, times.double(), torch.zeros(*items.shape, 0)), length)
    latest = torch.tensor([5.0, 3.0], dtype=torch.float64)
    return UserState(InterestState(*read), interest[:, -1], log, length, latest, MODEL, ("u1", "u2"))


@pytest.fixture
def saved(tmp_path) -> Path:
    save_state(state_of(tracker()), tmp_path / "state", TOKENS, ["u1", "u2"])
    return tmp_path / "state"


def rewrite(path: Path, tensors=None, **described) -> None:
    """Change a state and update its checksum. A tensor of None is removed."""
    with safe_open(path, "pt") as file:
        before = json.loads(file.metadata()["state"])
    kept = {name: values for name, values in {**load_file(path), **(tensors or {})}.items() if values is not None}
    description = json.dumps({name: value for name, value in {**before, **described}.items() if value is not ...})
    save_file(kept, path, {"state": description, "sha256": _digest(description, kept)})


def refusal(path: Path, model: InterestTracker | None = None) -> str:
    start = time.process_time()
    with pytest.raises(StateError) as caught:
        load_state(path, MODEL, ROWS, model or tracker())
    assert time.process_time() - start < 2
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700
    return str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"encoder": "gru"},
        {"encoder": "transformer", "user_size": None},
        {"encoder": "transformer", "max_length": 2},
        {"attention_readout": True},
        {"attention_readout": True, "max_length": 2, "user_size": None},
    ],
)
def test_states_of_every_tracker_are_restored(tmp_path, changes):
    model = tracker(**changes)
    state = state_of(model)
    save_state(state, tmp_path / "state", TOKENS)
    restored = load_state(tmp_path / "state", MODEL, ROWS, model)
    assert torch.equal(restored.items, state.items)
    assert torch.equal(restored.times, state.times) or restored.times.isnan().any()
    assert all(torch.equal(a, b) for a, b in zip(restored.tracker, state.tracker, strict=True) if a is not None)
    assert restored.users == ("0", "1")


#: invalid tensors, and the message about each
TENSORS = {
    "missing": ({"carried": None}, "has the tensors"),
    "user missing": ({"user": None}, "has the tensors"),
    "length missing": ({"length": None}, "has the tensors"),
    "unknown": ({"more": torch.zeros(2)}, "has the tensors"),
    "half precision": ({"interest": torch.zeros(2, 4, dtype=torch.bfloat16)}, "interest is torch.bfloat16"),
    "double precision": ({"carried": torch.zeros(4, 2, 6, dtype=torch.float64)}, "carried is torch.float64"),
    "8 bits": ({"carried": torch.zeros(4, 2, 6, dtype=torch.float8_e4m3fn)}, "of type 'F8_E4M3'"),
    "wide": ({"interest": torch.zeros(2, 5)}, "interest is torch.float32 [2, 5]"),
    "narrow": ({"carried": torch.zeros(4, 2, 5)}, "carried is torch.float32 [4, 2, 5]"),
    "flat": ({"carried": torch.zeros(48)}, "carried is torch.float32 [48]"),
    "a number": ({"interest": torch.tensor(1.0)}, "interest is torch.float32 []"),
    "another user's": ({"user": torch.zeros(3, 3)}, "user is torch.float32 [3, 3]"),
    "wide profile": ({"user": torch.zeros(2, 4)}, "user is torch.float32 [2, 4]"),
    "more layers": ({"carried": torch.zeros(6, 2, 6)}, "another number of remembered events"),
    "no layer": ({"carried": torch.zeros(0, 2, 6)}, "another number of remembered events"),
    "attended": ({"past": torch.zeros(2, 3, 6)}, "another number of remembered events"),
    "NaN carried": ({"carried": torch.full((4, 2, 6), torch.nan)}, "carried has NaN or Inf"),
    "NaN interest": ({"interest": torch.full((2, 4), torch.nan)}, "interest has NaN or Inf"),
    "Inf profile": ({"user": torch.full((2, 3), -torch.inf)}, "user has NaN or Inf"),
    "item outside": ({"items": torch.full((2, 3), 99, dtype=torch.int32)}, "an item that is not listed"),
    "item below": ({"items": torch.full((2, 3), -1, dtype=torch.int32)}, "an item that is not listed"),
    "padding as event": ({"items": torch.zeros(2, 3, dtype=torch.int32)}, "the number of events is wrong"),
    "length of billions": ({"length": torch.tensor([2, 10**9])}, "the number of events is wrong"),
    "length below": ({"length": torch.tensor([-1, 3])}, "the number of events is wrong"),
    "length too short": ({"length": torch.tensor([2, 2])}, "the number of events is wrong"),
    "other lengths": ({"length": torch.tensor([3, 3])}, "the number of events is wrong"),
    "lengths of fractions": ({"length": torch.tensor([2.0, 3.0])}, "length is torch.float32"),
    "endless time": ({"times": torch.full((2, 3), torch.inf, dtype=torch.float64)}, "times that are not numbers"),
    "time unknown": ({"latest": torch.tensor([torch.nan, 0.0], dtype=torch.float64)}, "times that are not numbers"),
    "time to come": ({"latest": torch.tensor([torch.inf, 0.0], dtype=torch.float64)}, "times that are not numbers"),
    "no users": (
        {name: torch.zeros(0, 3, dtype=kind) for name, kind in (("items", torch.int32), ("times", torch.float64))},
        "items is torch.int32 [0, 3]",
    ),
}
#: invalid descriptions, and the message about each
DESCRIPTIONS = {
    "users of numbers": ({"users": [1, 2]}, "users.0"),
    "users are text": ({"users": "u1"}, "users"),
    "no users": ({"users": []}, "users"),
    "more users": ({"users": ["u1", "u2", "u3"]}, "carried is"),
    "users missing": ({"users": ...}, "users"),
    "items of numbers": ({"items": [None, 1, 2, 3]}, "items.1"),
    "items missing": ({"items": ...}, "items"),
    "items twice": ({"items": [None, "i1", "i1", "i3"]}, "lists an item twice"),
    "fewer items": ({"items": [None, "i1"]}, "an item that is not listed"),
    "unknown item": ({"items": [None, "i1", "i2", "x" * 999]}, "which the catalog lacks"),
    "padding's name": ({"items": ["[PAD]", "i1", "i2", "i3"]}, "which the catalog lacks"),
    "single is text": ({"is_single": "yes"}, "is_single"),
    "several are single": ({"is_single": True}, "is_single"),
    "another format": ({"format": 10**300}, "is damaged|not JSON"),
    "format is true": ({"format": True}, "format"),
    "no format": ({"format": ...}, "has format None"),
    "another model": ({"model": "b" * 64}, "of another model (bbbbbbbbbbbb, not aaaaaaaaaaaa)"),
    "model of controls": ({"model": "\x1b[31m\ud800\u202e"}, r"(\x1b[31m\ud800\u202e"),
    "model is a number": ({"model": 5}, "of another model (5, not"),
    "lone surrogate": ({"users": ["\ud800", "u"], "items": [5]}, "items"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_invalid_tensors_of_a_state_are_refused(saved, name):
    tensors, words = TENSORS[name]
    rewrite(saved, tensors)
    assert words in refusal(saved)


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_invalid_descriptions_are_refused(saved, name):
    described, words = DESCRIPTIONS[name]
    rewrite(saved, **described)
    message = refusal(saved)
    assert any(word in message for word in words.split("|"))


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "5", "[" * 10**5, '{"format": ' + "9" * 400 + "}", "\0", '"\\ud800"']
)
def test_invalid_metadata_is_refused(saved, text):
    tensors = load_file(saved)
    save_file(tensors, saved, {"state": text, "sha256": _digest(text, tensors)})
    refusal(saved)
    save_file(tensors, saved, {"state": text})
    refusal(saved)
    save_file(tensors, saved)
    assert "was not written by this package" in refusal(saved)


@pytest.mark.parametrize("hostile", NOT_REGULAR)
def test_state_that_is_not_a_regular_file_is_refused(tmp_path, hostile):
    NOT_REGULAR[hostile](tmp_path / "state")
    refusal(tmp_path / "state")


@pytest.mark.parametrize("name", INVALID_NAMES)
def test_invalid_names_are_refused(name):
    refusal(Path(INVALID_NAMES[name]))


def test_states_of_a_model_of_another_size_are_refused(saved):
    for changes in ({"hidden_size": 8}, {"user_size": None}, {"encoder": "gru"}, {"input_size": 5}, {"num_layers": 1}):
        refusal(saved, tracker(**changes))


def test_file_states_whether_a_state_is_of_a_single_user(tmp_path):
    save_state(replace(state_of(tracker())[1], users=("u2",)), tmp_path / "state", TOKENS)
    assert load_state(tmp_path / "state", MODEL, ROWS, tracker()).is_single
    rewrite(tmp_path / "state", is_single=...)
    assert load_state(tmp_path / "state", MODEL, ROWS, tracker()).is_single


def test_mutated_states_are_read_or_refused(saved):
    whole, chance, model = saved.read_bytes(), random.Random(0), tracker()
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 2, 8, 64])):
            place = chance.randrange(len(data))
            data[place : place + chance.choice([0, 1, 8])] = chance.randbytes(chance.choice([0, 1, 8]))
        saved.write_bytes(data)
        with suppress(StateError):
            load_state(saved, MODEL, ROWS, model)


@pytest.mark.parametrize(
    "changes",
    [
        {"tensors": {"items": None}},
        {"tensors": {"past": torch.zeros(1, 3, 6)}},
        {"tensors": {"carried": torch.zeros(())}},
        {"tensors": {"items": torch.full((2, 3), 99, dtype=torch.int32)}},
        {"items": [[], None]},
        {"format": 99},
    ],
)
def test_damaged_state_is_not_taken_apart_by_forget(saved, changes):
    assert parse_state(saved.read_bytes())[0]["users"] == ["u1", "u2"]
    rewrite(saved, **changes)
    with pytest.raises(ValueError, match=r"is damaged|has format"):
        parse_state(saved.read_bytes())
