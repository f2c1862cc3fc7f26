"""Neighbours by transitions: those of training events alone, as a naive count finds them, and without the own user."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch
import torch.nn.functional as F
from conftest import SUBJECTS, cycle_events, write_dataset

from recbole_llm_interest.content.transitions import FOLDS, STRENGTHS, Transitions, count_transitions
from recbole_llm_interest.model.history_bias import Histories, HistoryBias
from recbole_llm_interest.model.item_bias import ItemBias
from recbole_llm_interest.model.losses import next_item_loss
from recbole_llm_interest.model.scoring import ScoringRule

ROWS = 12


def histories(users=30, length=9, rows=ROWS, seed=0):
    """Random items of users, ``[users, length]``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, rows, (users, length), generator=generator)


def counted(items, rows=ROWS, count=ROWS, held_out=0):
    """The transitions of histories ``[U, L]``, without each user's last ``held_out`` events."""
    users, length = items.shape
    targets = torch.arange(users * length).view(users, length)[:, 1 : length - held_out]
    user = torch.arange(users)[:, None].expand_as(targets)
    return count_transitions(items.flatten(), user.flatten(), targets.flatten(), rows=rows, count=count)


def naive(sequences, count, rows=ROWS):
    """Each item's (neighbour, strength), the strongest first, pair by pair."""
    weight = defaultdict(float)
    for items in sequences:
        for first in range(len(items)):
            for apart, forward in ((1, 1.0), (2, 0.25)):
                if first + apart < len(items) and items[first] != items[first + apart]:
                    weight[items[first], items[first + apart]] += forward
                    weight[items[first + apart], items[first]] += forward / 2
    chance = torch.zeros(rows, rows, dtype=torch.double)
    for (one, other), value in weight.items():
        chance[one, other] = value
    chance /= chance.sum(dim=1, keepdim=True).clamp(min=1e-9)
    strength = (chance + chance @ chance / 2).fill_diagonal_(0.0)
    return [
        sorted(((j, float(p)) for j, p in enumerate(row) if p > 0), key=lambda one: (-round(one[1], 9), one[0]))[:count]
        for row in strength
    ]


@pytest.mark.parametrize("count", [3, ROWS])
def test_transitions_equal_a_naive_count(count):
    items = histories()
    found = counted(items, count=count, held_out=2)
    groups = [[seq[:-2].tolist() for user, seq in enumerate(items) if user % FOLDS != fold] for fold in range(FOLDS)]
    for table, sequences in enumerate([*groups, items[:, :-2].tolist()]):
        for row, expected in enumerate(naive(sequences, count)):
            padded = [*(item for item, _ in expected), *[0] * count][:count]
            assert found.items[table, row].tolist() == padded
            for column, (_, strength) in enumerate(expected):
                bucket = min(math.floor(-math.log2(round(strength, 9))) if strength < 1 else 0, STRENGTHS - 1)
                assert found.strengths[table, row, column] == bucket


def test_shuffled_control_gives_each_item_the_neighbours_of_another():
    found = counted(histories())
    shuffled = found.shuffled(seed=3)
    assert not torch.equal(shuffled.items, found.items)
    assert torch.equal(shuffled.items[:, 0], found.items[:, 0])
    rows = [
        (items.tolist(), strengths.tolist())
        for items, strengths in zip(found.items[-1], found.strengths[-1], strict=True)
    ]
    assert sorted(rows) == sorted(
        (items.tolist(), strengths.tolist())
        for items, strengths in zip(shuffled.items[-1], shuffled.strengths[-1], strict=True)
    )
    source = [rows.index(row) for row in rows]
    assert len(set(source)) == ROWS  # all rows differ, so that the folds can be compared
    permuted = [rows.index((items.tolist(), strengths.tolist()))
                for items, strengths in zip(shuffled.items[-1], shuffled.strengths[-1], strict=True)]  # fmt: skip
    assert torch.equal(shuffled.items, found.items[:, permuted])


@pytest.mark.parametrize("split", ["leave-one-out", "time"])
def test_only_training_events_are_counted(built, split):
    """Users' first events are, too."""
    settings = {"text_encoder": "hashing", "transition_neighbours": 5}
    if split == "time":  # of the 24 users, the first one and four events of the second one are training
        settings["time_split"] = [0.06, 0.5]
    dataset = built("LLMInterest", **settings)[3]._dataset
    sequences = defaultdict(list)
    for user, item, time in cycle_events():
        if split != "time" or time < 1004:
            sequences[user].append(dataset.token2id("item_id", item))
    kept = None if split == "time" else -2
    expected = naive([items[:kept] for items in sequences.values()], 5, rows=len(SUBJECTS) + 1)
    found = dataset.item_transitions.items[-1]
    assert found.tolist() == [[*(item for item, _ in row), *[0] * 5][:5] for row in expected]


def test_transitions_of_data_that_is_split_already(built, here):
    folder = here / "data" / "parts"
    write_dataset(here / "data", "parts", [])
    (folder / "parts.inter").unlink()
    for part, row in {"train": "a b\tc", "valid": "a b c\td", "test": "a b c d\te"}.items():
        lines = ["user_id:token\titem_id_list:token_seq\titem_id:token", f"u\t{row}"]
        (folder / f"parts.{part}.inter").write_text("\n".join(lines) + "\n")
    settings = {"benchmark_filename": ["train", "valid", "test"], "transition_neighbours": 2, "use_item_id": True,
                "alias_of_item_id": ["item_id_list"], "modalities": []}  # fmt: skip
    dataset = built("LLMInterest", "parts", **settings)[3]._dataset
    a, b, c, d, e = (dataset.token2id("item_id", item) for item in "abcde")
    found = dataset.item_transitions.items[-1]
    assert found[a].tolist() == [b, c]
    assert set(found[b].tolist()) == {a, c}
    assert found[[d, e]].tolist() == [[0, 0], [0, 0]]


def test_without_transitions_nothing_is_counted(built):
    _, model, _, train, *_ = built("LLMInterest", text_encoder="hashing", transition_neighbours=0)
    assert train._dataset.item_transitions is None
    assert model.history_bias.transition is None


#: transitions count whatever the interest is
NO_INTEREST = torch.zeros(0, 2)


def read(items):
    """Histories of items without representations."""
    return Histories(items, lambda: torch.zeros(*items.shape, 2), lambda seq: seq)


def trained_bias(items, transitions, *, cross_fitted):
    """The bias trained on all but the last event of histories ``[U, L]``, and its loss on the last one."""
    if not cross_fitted:  # every fold is given the table of all users
        transitions = Transitions(*(table[-1:].expand_as(table) for table in transitions))
    bias = HistoryBias(None, None, transitions)
    (users, length), rows = items.shape, transitions.items.shape[1]
    optimizer = torch.optim.Adam(bias.parameters(), lr=0.1)

    def loss_of(found, targets):
        interest, table = torch.zeros(len(targets), 2), torch.zeros(rows, 2)
        return next_item_loss(interest, table, targets, ScoringRule(None), found)

    row, position = torch.cartesian_prod(torch.arange(users), torch.arange(length - 2)).unbind(dim=1)
    for _ in range(60):
        optimizer.zero_grad()
        found = bias(read(items), row, position, NO_INTEREST, torch.arange(users), torch.arange(rows))
        loss_of(found, items[row, position + 1]).backward()
        optimizer.step()
    with torch.no_grad():
        weight = bias.transition.bias[0, 0, 0] + bias.transition.strength_bias[0, 0].max()
        at_the_end = bias.after(read(items), torch.full((users,), length - 2), NO_INTEREST)
        return float(weight), float(loss_of(at_the_end, items[:, -1]))


@pytest.mark.slow
def test_unique_transitions_teach_nothing_only_if_the_own_user_is_not_counted():
    """Every transition is its user's alone. Counted with the users, it seems to foretell itself."""
    items = histories(users=80, length=6, rows=400)
    transitions = counted(items, rows=400, count=15, held_out=1)
    weight, loss = trained_bias(items, transitions, cross_fitted=True)
    leaked_weight, leaked_loss = trained_bias(items, transitions, cross_fitted=False)
    assert leaked_weight > max(weight, 0) + 2
    assert leaked_loss > loss + 0.3


@pytest.mark.slow
def test_random_transitions_teach_about_nothing():
    items = histories(users=300, length=8, rows=21)
    transitions = counted(items, rows=21, count=7, held_out=1)
    weight, loss = trained_bias(items, transitions, cross_fitted=True)
    leaked_weight, _ = trained_bias(items, transitions, cross_fitted=False)
    assert abs(weight) < 0.2 < leaked_weight
    assert abs(loss - math.log(21)) < 0.05


def test_histories_in_another_order_have_no_bias_by_transitions():
    bias = HistoryBias(None, None, counted(histories()))
    row, position = torch.tensor([0, 1]), torch.tensor([3, 4])
    assert bias(read(histories()), row, position, NO_INTEREST, None, torch.arange(20)) is None
    assert bias(read(histories()), row, position, NO_INTEREST, torch.arange(30), torch.arange(20)) is not None


def test_bias_of_each_history_has_the_gradient_of_a_plain_cross_entropy(monkeypatch):
    """Biases that differ between histories, in chunks of three targets."""
    monkeypatch.setattr("recbole_llm_interest.model.losses._CHUNK_LOGITS", {"cpu": 1})
    monkeypatch.setattr("recbole_llm_interest.model.losses._MIN_CHUNK_TARGETS", 3)
    generator = torch.Generator().manual_seed(0)
    interest, table = (torch.randn(size, 4, generator=generator) for size in (8, 10))
    biased, target = (torch.randint(1, 10, size, generator=generator) for size in ((8, 5), (8,)))
    bias = torch.randn(8, 5, generator=generator, requires_grad=True)
    loss = next_item_loss(interest, table, target, ScoringRule(None), ItemBias(biased, bias))
    (found,) = torch.autograd.grad(loss, bias)
    scores = (interest @ table.T).scatter_add(1, biased, bias)
    expected = F.cross_entropy(scores, target)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(found, torch.autograd.grad(expected, bias)[0], atol=1e-6)
