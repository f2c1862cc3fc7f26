"""Neighbours of events by content: as a naive search finds them, of training events alone, without the own user."""

from __future__ import annotations

import json
import math
from collections import defaultdict

import pytest
import torch
import torch.nn.functional as F
from conftest import write_dataset
from safetensors.torch import save

from recbole_llm_interest.content import neighbour_files
from recbole_llm_interest.content.event_neighbours import MAX_ITEMS, find_event_neighbours
from recbole_llm_interest.content.features import Features
from recbole_llm_interest.content.transitions import FOLDS, STRENGTHS
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.model.event_neighbours import EventNeighbourLookup
from recbole_llm_interest.model.history_bias import HistoryBias
from recbole_llm_interest.model.losses import next_item_loss
from recbole_llm_interest.model.scoring import ScoringRule

ROWS = 12


def contents(count, size=6, missing=(), seed=0):
    """Features of distinct contents; row 0 is none."""
    present = torch.ones(count, dtype=torch.bool)
    present[[0, *missing]] = False
    values = torch.randn(count, size, generator=torch.Generator().manual_seed(seed))
    return Features(values.where(present[:, None], 0.0), present)


def events(count=90, rows=20, users=10, seed=1):
    """Contents, items and users of random events, ``[E]`` each."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randint(low, high, (count,), generator=generator) for low, high in ((0, rows), (1, ROWS), (1, users))
    )


def naive(features, rows, items, users, fold, count):
    """Neighbours of each content as (item, strength), event by event."""
    known = [(r, i) for r, i, u in zip(rows, items, users, strict=True) if features.present[r] and u % FOLDS != fold]
    mean = torch.stack([features.values[row] for row in rows if features.present[row]]).mean(dim=0)
    sums = defaultdict(lambda: torch.zeros(features.values.shape[1]))
    for row, item in known:
        sums[int(item)] = sums[int(item)] + F.normalize(features.values[row] - mean, dim=0)
    found = {}
    for row in features.present.nonzero().flatten().tolist():
        own = F.normalize(features.values[row] - mean, dim=0)
        cosines = sorted(((float(own @ F.normalize(total, dim=0)), item) for item, total in sums.items()), reverse=True)
        near = [(item, min(int((1 - value) * 10), STRENGTHS - 1)) for value, item in cosines if value > 1e-5]
        found[row] = near[:count]
    return found


@pytest.mark.parametrize("count", [3, 50])
def test_neighbours_equal_a_naive_search(count):
    texts, images = contents(20, missing=(4,)), contents(20, size=3, missing=(2, 3), seed=5)
    rows, items, users = events()
    found = find_event_neighbours({"text": texts, "image": images}, rows, items, users, num_items=ROWS, count=count)
    assert found.codes.shape == (FOLDS + 1, 20, 2, min(count, ROWS - 1))
    for column, features in enumerate((texts, images)):
        for fold in range(FOLDS + 1):
            expected = naive(features, rows, items, users, fold, count)
            own = {int(row) for row, user in zip(rows, users, strict=True) if user % FOLDS == fold}
            for row in range(20):
                codes = found.codes[fold, row, column]
                near = [divmod(code, STRENGTHS) for code in codes[codes > 0].tolist()]
                is_read = fold == FOLDS or row in own
                assert near == (expected.get(row, []) if is_read else [])


@pytest.mark.parametrize("change", [None, "content", "rows", "items", "users", "count", "damage"])
def test_search_is_read_from_its_file_unless_its_inputs_differ(tmp_path, monkeypatch, change):
    """A change of the file that has the form of one is taken as its result, which shows that it is read."""
    monkeypatch.setattr(neighbour_files, "_CACHED_ROWS", 10)
    inputs = dict(zip(("rows", "items", "users"), events(), strict=True)) | {"content": contents(20), "count": 4}

    def find(content, **others):
        return find_event_neighbours({"text": content}, **others, num_items=ROWS, cache=tmp_path)

    first = find(**inputs)
    (file,) = tmp_path.iterdir()
    marked = first.codes.clone().fill_(STRENGTHS)
    file.write_bytes(save({"neighbours": marked}) if change != "damage" else b"")
    if change in ("rows", "items", "users"):
        inputs[change] = inputs[change].roll(1)
    elif change is not None:
        inputs |= {"content": contents(20, seed=9)} if change == "content" else {"count": 3 + (change == "damage")}
    found = find(**inputs)
    assert torch.equal(found.codes, marked) == (change is None)
    content, others = inputs.pop("content"), inputs
    again = find_event_neighbours({"text": content}, **others, num_items=ROWS)
    assert change is None or torch.equal(found.codes, again.codes)
    assert torch.equal(found.profiles["text"].items, again.profiles["text"].items)
    assert torch.equal(found.profiles["text"].mean, again.profiles["text"].mean)


def test_contents_that_come_later_have_the_neighbours_of_equal_ones():
    texts, images = contents(20), contents(20, size=3, missing=(2, 3), seed=5)
    found = find_event_neighbours({"text": texts, "image": images}, *events(), num_items=ROWS, count=4)
    lookup = EventNeighbourLookup(found)
    rows = torch.tensor([7, 2, 9])
    given = {name: features.values[rows] for name, features in (("text", texts), ("image", images))}
    present = {name: features.present[rows] for name, features in (("text", texts), ("image", images))}
    assert torch.equal(lookup.encode(given, present), lookup(rows[None])[0])
    assert torch.equal(lookup.encode({"text": given["text"]}, present)[:, 0], lookup(rows[None])[0, :, 0])
    assert not lookup.encode({"text": given["text"]}, present)[:, 1].any()


def test_of_equally_near_items_the_first_ones_count():
    """All events have one of two contents, so that half of the profiles are equal."""
    rows, items, users = torch.tensor([1, 2]).repeat(5), torch.arange(1, 11), torch.arange(10)
    texts = Features(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([False, True, True]))
    found = find_event_neighbours({"text": texts}, rows, items, users, num_items=11, count=3)
    assert EventNeighbourLookup.decode(found.codes[-1, 1:, 0]).items.tolist() == [[1, 3, 5], [2, 4, 6]]


def test_one_content_of_all_events_says_nothing():
    values = torch.randn(1, 300).expand(3, -1) * torch.tensor([[0.0], [1.0], [1.0]])
    texts = Features(values, torch.tensor([False, True, True]))
    found = find_event_neighbours({"text": texts}, *events(60, 3), num_items=ROWS, count=4)
    assert not found.codes.any()


def test_codes_of_a_state_are_those_that_were_written_or_none():
    lookup = EventNeighbourLookup(find_event_neighbours({"text": contents(20)}, *events(), num_items=ROWS, count=4))
    codes = lookup(torch.tensor([[3, 8]]))
    assert torch.equal(lookup.restored(codes.flatten(2).float()), codes.long())
    hostile = torch.tensor([[-1.0, 1e9, ROWS * STRENGTHS, 8.0]])
    assert lookup.restored(hostile).tolist() == [[[0, 0, 0, 8]]]


def test_too_many_items_are_refused():
    with pytest.raises(SettingsError, match="event_neighbours=31: 2097153 items are too many"):
        find_event_neighbours({"text": contents(2)}, *events(1, 2), num_items=MAX_ITEMS + 1, count=31)


def trained_bias(rows, items, features, *, cross_fitted):
    """The weight that training gives the nearest item, and the loss on last events of histories ``[U, L]``."""
    users, length = items.shape
    user = torch.arange(users)[:, None].expand(-1, length - 1)
    at = (rows[:, :-1].flatten(), items[:, :-1].flatten(), user.flatten())
    num_items = int(items.max()) + 1
    found = find_event_neighbours({"text": features}, *at, num_items=num_items, count=7)
    if not cross_fitted:  # every fold is given the table of all users
        found = found._replace(codes=found.codes[-1:].expand_as(found.codes))
    bias = HistoryBias(None, None, None, EventNeighbourLookup(found))
    optimizer = torch.optim.Adam(bias.parameters(), lr=0.1)

    def read(part):
        features = {"event_content": rows[:, :part]}
        return bias.histories(items[:, :part], lambda: torch.zeros(users, part, 2), lambda seq: seq, features)

    def loss_of(bias_of_items, targets):
        interest, table = torch.zeros(len(targets), 2), torch.zeros(num_items, 2)
        return next_item_loss(interest, table, targets, ScoringRule(None), bias_of_items)

    row, position = torch.cartesian_prod(torch.arange(users), torch.arange(length - 2)).unbind(dim=1)
    everyone, everything, no_interest = torch.arange(users), torch.arange(num_items), torch.zeros(0, 2)
    for _ in range(60):
        optimizer.zero_grad()
        of_items = bias(read(length - 1), row, position, no_interest, everyone, everything)
        loss_of(of_items, items[row, position + 1]).backward()
        optimizer.step()
    with torch.no_grad():
        weight = bias.event.bias[0, 0, 0] + bias.event.strength_bias[0, 0].max()
        at_the_end = bias.after(read(length - 1), torch.full((users,), length - 2), no_interest)
        return float(weight), float(loss_of(at_the_end, items[:, -1]))


@pytest.mark.slow
def test_like_words_lead_to_the_items_that_others_described_by_them():
    """Users stay with a topic and write of it: the topic of an item is in others' words alone."""
    generator = torch.Generator().manual_seed(2)
    topic = torch.randint(0, 6, (200, 1), generator=generator)
    items = 1 + 5 * topic + torch.randint(0, 5, (200, 6), generator=generator)
    words = Features(torch.cat([torch.zeros(1, 6), torch.eye(6)]), torch.tensor([False, *[True] * 6]))
    weight, loss = trained_bias(1 + topic.expand(-1, 6), items, words, cross_fitted=True)
    assert weight > 2
    assert loss < math.log(5) + 0.2 < math.log(30)


@pytest.mark.slow
def test_words_of_one_user_teach_nothing_only_if_the_own_user_is_not_counted():
    """Everyone has words of their own: counted with the user, they seem to foretell the user's items."""
    users = 80
    items = torch.randint(1, 400, (users, 6), generator=torch.Generator().manual_seed(3))
    rows = 1 + torch.arange(users)[:, None].expand(-1, 6)
    features = contents(users + 1, size=40)
    weight, loss = trained_bias(rows, items, features, cross_fitted=True)
    leaked_weight, leaked_loss = trained_bias(rows, items, features, cross_fitted=False)
    assert leaked_weight > max(weight, 0) + 2
    assert leaked_loss > loss + 0.3


def test_held_out_events_describe_no_item(built, here):
    """The last two events of each user have words that no other one has."""
    found = []
    for word in ("tides", "bread"):
        history = [(f"u{user}", f"i{(user + place) % 7}", float(place)) for user in range(9) for place in range(6)]
        write_dataset(here / "data", word, history)
        rows = [
            {"user_id": user, "item_id": item, "timestamp": time, "note": f"volcanoes {item}" if time < 4 else word}
            for user, item, time in history
        ]
        folder = here / "data" / word / "content"
        folder.mkdir(exist_ok=True)
        (folder / "events.jsonl").write_text("\n".join(map(json.dumps, rows)))
        _, _, _, train, *_ = built("LLMInterest", word, text_encoder="hashing")
        found.append(train._dataset.event_neighbours.profiles["text"].items)
    assert torch.equal(*found)
    assert found[0][1:].any()
