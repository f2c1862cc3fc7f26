"""Histories and seen items of every model are those of a naive reading of the file."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
import torch
from conftest import write_dataset

from recbole_llm_interest.data.event_histories import repeats_seen_item, seen_items

LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
MODELS = ["LLMInterest", "GRU4Rec", "DIEN", "Pop", "FM", "MultiVAE"]


@pytest.fixture
def walks(here):
    """Events with ties in time and repeats, in a file of no order, by users with one to twelve events."""
    chance = random.Random(5)
    events = [
        (f"u{u}", f"i{chance.randint(0, 9)}", 1e9 + chance.randint(0, 40)) for u in range(25) for _ in range(1 + u % 12)
    ]
    chance.shuffle(events)
    write_dataset(here / "data", "walks", events)
    histories = defaultdict(list)
    for user, item, _ in sorted(events, key=lambda event: event[2]):  # stable, as a reader of the file would
        histories[user].append(item)
    return histories


def rows_of(dataset):
    """Return (user, item, seen items in their order) of each row, by tokens."""
    rows = dataset.inter_feat
    seen = defaultdict(list)
    for row, item in zip(*map(torch.Tensor.tolist, seen_items(dataset, rows)), strict=True):
        seen[row].append(str(dataset.id2token(dataset.iid_field, item)))
    users, items = (dataset.id2token(field, rows[field]) for field in (dataset.uid_field, dataset.iid_field))
    return [(user, item, seen[row]) for row, (user, item) in enumerate(zip(users, items, strict=True))]


@pytest.mark.parametrize("model", MODELS)
def test_leave_one_out_has_the_same_rows_and_whole_histories_for_every_model(built, walks, model):
    """Histories are longer than MAX_ITEM_LIST_LENGTH, 6; users of two events are for training only."""
    _, _, _, train, valid, test = built(model, "walks", eval_args=LEAVE_ONE_OUT, repeatable=True, modalities=[])
    expected = {user: items for user, items in walks.items() if len(items) > 2}
    assert sorted(rows_of(test._dataset)) == sorted((u, h[-1], h[:-1]) for u, h in expected.items())
    expected = {user: items for user, items in walks.items() if len(items) > 3}
    assert sorted(rows_of(valid._dataset)) == sorted((u, h[-2], h[:-2]) for u, h in expected.items())
    assert len(train._dataset) + len(valid._dataset) + len(test._dataset) == sum(
        len(items) - (model in MODELS[:3]) for items in walks.values()
    )
    repeats = repeats_seen_item(test._dataset)
    assert repeats.tolist() == [item in seen for _, item, seen in rows_of(test._dataset)]
    assert 0 < repeats.sum() < len(repeats)


@pytest.mark.parametrize("candidates", ["kept", "filtered", "both"])
@pytest.mark.parametrize("model", ["LLMInterest", "GRU4Rec", "Pop"])
def test_batches_carry_the_seen_items_of_their_rows(built, walks, model, candidates):
    settings = {"eval_args": LEAVE_ONE_OUT, "repeatable": True, "modalities": [], "seen_items": candidates}
    *_, test = built(model, "walks", **settings, eval_batch_size=5)
    rows = iter(rows_of(test._dataset))
    for batch, masked, row, items in test:
        seen = {"kept": None, "filtered": masked, "both": getattr(batch, "seen_items", None)}[candidates]
        assert (masked is not None) == (candidates == "filtered")
        assert hasattr(batch, "seen_items") == (candidates == "both")
        assert row.tolist() == list(range(len(batch)))
        for number, (user, item) in enumerate(zip(batch["user_id"].tolist(), items.tolist(), strict=True)):
            name, own, history = next(rows)
            data = test._dataset
            assert (data.id2token("user_id", user), data.id2token("item_id", item)) == (name, own)
            if seen is not None:
                assert [str(data.id2token("item_id", i)) for i in seen[1][seen[0] == number].tolist()] == history
    assert next(rows, None) is None
