"""Live interest: what moves by single events equals what a whole pass gives, and answers are what they claim to be."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import QUICK, SUBJECTS, cycle_events, full_disk, write_dataset
from recbole.data.interaction import Interaction

from recbole_llm_interest.cli.recommend import main
from recbole_llm_interest.content.event_times import time_feature
from recbole_llm_interest.content.features import Features
from recbole_llm_interest.content.neighbours import nearest_neighbours
from recbole_llm_interest.errors import CheckpointError, LLMInterestError, RequestError, StateError, StorageError
from recbole_llm_interest.io.checkpoints.writing import write_state
from recbole_llm_interest.model.fusion import FUSIONS, Fusion
from recbole_llm_interest.recommender import Calibration, Recommender, join
from recbole_llm_interest.recommender.event_log import EventLog, LoggedEvents
from recbole_llm_interest.recommender.neighbourhood import Neighbourhood
from recbole_llm_interest.recommender.search import ApproximateIndex, exact_best
from recbole_llm_interest.recommender.trained import Trained
from recbole_llm_interest.training.comparison import run

START = 1_700_000_000.0
LENGTH = QUICK["MAX_ITEM_LIST_LENGTH"]


@pytest.fixture
def serve(built, here):
    """A recommender of a model with random weights, on items and users of whom some are not known by content."""
    chance = random.Random(0)
    events = [
        (f"u{user}", f"i{chance.randrange(30)}", START + 9e4 * user + 5e3 * step)
        for user in range(20)
        for step in range(8)
    ]
    events += [("u0", f"i{item}", START + 9e6 + item) for item in range(30)]  # so that each item occurs
    items = {f"i{n}": f"{SUBJECTS[n % 8]}, volume {n}" for n in range(30) if n % 5}
    write_dataset(
        here / "data", "shelf", events, items, {f"u{n}": f"reader of {SUBJECTS[n % 8]}" for n in range(0, 20, 2)}
    )

    def make(**settings):
        config, model, dataset, *_ = built("LLMInterest", "shelf", **settings)
        torch.manual_seed(5)
        for bias in (model.history_bias.repeat, model.history_bias.neighbour):
            if bias is not None:
                torch.nn.init.normal_(bias.bias, std=0.3)
        for embedding in model.event_encoder.times.values():
            torch.nn.init.normal_(embedding.weight[1:], std=0.3)
        return Recommender(trained(config, model, dataset))

    return make


def trained(config, model, dataset):
    tokens = [str(token) for token in dataset.field2id_token["item_id"]]
    users = {str(token): row for row, token in enumerate(dataset.field2id_token["user_id"]) if row}
    texts = {token: f"{SUBJECTS[int(token[1:]) % 8]}, volume {token[1:]}" for token in tokens[1:]}
    return Trained(model, tokens, users, LENGTH, texts, {}, None, None, no_histories, no_histories)


def no_histories(users):
    return [([], []) for _ in users]


def scores_of_model(recommender, user, items, times):
    """RecBole's face of the model, asked about whole histories, ``[B, L]`` of tokens and of times."""
    model = recommender._trained.model
    fields = {
        model.ITEM_SEQ: torch.stack([recommender.items.find(line) for line in items]),
        model.ITEM_SEQ_LEN: torch.tensor([len(line) for line in items]),
        model.USER_ID: torch.tensor([recommender.users.get(name, 0) for name in user]),
    }
    for name in model.event_encoder.times:
        nobody = np.zeros(len(items[0]), dtype=int)
        unknown = nobody + (np.arange(len(nobody)) == 0) * (name == "gap")  # that an event is the first is known
        rows = [time_feature(name, np.array(line), nobody) for line in times] if times else [unknown] * len(items)
        fields[f"time_{name}{model.LIST_SUFFIX}"] = torch.from_numpy(np.stack(rows))
    with torch.no_grad():
        return model.full_sort_predict(Interaction(fields))


def scores_of_state(recommender, state):
    with torch.no_grad():
        scores, rows = exact_best(
            recommender._retrieval.query(state), recommender.items.blocks(), len(recommender.items)
        )
    return torch.full((len(state), len(recommender.items) + 1), 0.0).scatter_(1, rows, scores)


def follow(recommender, user, items, times):
    """The state after single events, one after the other."""
    state = recommender.start(user)
    for step in range(len(items[0])):
        at = [line[step] for line in times]
        state = recommender.update(state, [line[step] for line in items], at)
    return state


def histories(recommender, count, length, seed):
    """Users, some of them unknown, with items, the same ones at times, and times in order, some of them equal."""
    chance = random.Random(seed)
    tokens = list(recommender.items.rows)
    users = [chance.choice([None, *recommender.users]) for _ in range(count)]
    items = [[chance.choice(tokens) for _ in range(length)] for _ in range(count)]
    gaps = [[chance.choice([0, 0.25, 60, 4e4, 9e6]) for _ in range(length)] for _ in range(count)]
    return users, items, [list(START + np.cumsum(line)) for line in gaps]


TIMES = ["gap", "hour", "weekday"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "each", "longest"),
    [
        ({"time_features": TIMES}, 50, 20),
        ({"time_features": ["gap"], "tracker": "gru", "num_layers": 2, "score": "dot"}, 5, 20),
        ({"attention_readout": True, "last_item_skip": True, "fusion": "late"}, 5, LENGTH),
        ({"tracker": "transformer", "num_layers": 2, "time_features": ["gap"]}, 5, LENGTH),
        ({"tracker": "lru", "num_layers": 2}, 5, 20),
        ({"tracker": "hstu"}, 5, LENGTH),
        ({"tracker": "ligr"}, 5, LENGTH),
        ({"use_item_id": False, "repeat_bias": False, "content_neighbours": 0, "use_user_content": False}, 5, 20),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, dict) else None,
)
def test_updates_equal_a_full_pass(serve, changes, each, longest):
    """1,000 histories of the default tracker, with times and with missing content, and some of every other."""
    recommender = serve(**changes)
    for length in range(1, longest + 1):
        users, items, times = histories(recommender, each, length, seed=length)
        moved = follow(recommender, users, items, times)
        whole = scores_of_model(recommender, users, items, times)
        assert torch.allclose(scores_of_state(recommender, moved)[:, 1:], whole[:, 1:], atol=1e-5, rtol=1e-5)
        limited_cost = recommender.start(users, history=items, at=times)
        assert torch.allclose(moved.interest, limited_cost.interest, atol=1e-5)
        assert torch.equal(moved.items, limited_cost.items)
        assert torch.equal(moved.times, limited_cost.times)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"tracker": "transformer"}, {"tracker": "hstu"}, {"attention_readout": True}])
def test_attention_reaches_back_as_far_as_in_training(serve, changes):
    recommender = serve(**changes)
    users, items, times = histories(recommender, 3, 3 * LENGTH, seed=0)
    moved, limited_cost = follow(recommender, users, items, times), recommender.start(users, history=items, at=times)
    assert torch.allclose(moved.interest, limited_cost.interest, atol=1e-5)
    if "tracker" in changes:
        last = recommender.start(users, history=[line[-LENGTH:] for line in items])
        assert torch.allclose(moved.interest, last.interest, atol=1e-5)


def test_times_that_are_not_known_say_nothing(serve):
    recommender = serve(time_features=TIMES)
    state = recommender.start("u0", history=["i1", "i2"])
    nothing_known = scores_of_model(recommender, ["u0"], [["i1", "i2"]], None)
    assert torch.allclose(scores_of_state(recommender, state)[:, 1:], nothing_known[:, 1:], atol=1e-5)
    known = recommender.update(recommender.update(recommender.start("u0"), "i1", START), "i2", START + 5)
    assert not torch.allclose(known.interest, state.interest, atol=1e-3)
    # an event without a time hides the gap to it, not the order
    gap = recommender.update(recommender.update(recommender.start("u0", history=["i1"], at=[START]), "i2"), "i3", START)
    with pytest.raises(RequestError, match="older"):
        recommender.update(gap, "i4", START - 1)


@pytest.mark.slow
def test_states_never_change(serve):
    """Two futures of one past, told in turns, are as if each had been alone."""
    recommender = serve()
    past = recommender.start("u0", history=["i1", "i2"])
    kept, interest = past.items.clone(), past.interest.clone()
    one = recommender.update(past, "i3")
    other = recommender.update(past, "i4")
    one, other = recommender.update(one, "i5"), recommender.update(other, "i6")
    assert torch.equal(past.items, kept)
    assert torch.equal(past.interest, interest)
    for state, history in ((one, ["i1", "i2", "i3", "i5"]), (other, ["i1", "i2", "i4", "i6"])):
        alone = recommender.start("u0", history=history)
        assert torch.equal(state.items, alone.items)
        assert torch.allclose(state.interest, alone.interest, atol=1e-6)


def test_an_append_copies_no_history():
    length = torch.tensor([100])
    log = EventLog.of(
        LoggedEvents(torch.zeros(1, 100, dtype=torch.long), torch.zeros(1, 100), torch.zeros(1, 100, 4)), length
    )
    one, other = (LoggedEvents(torch.tensor([[item]]), torch.zeros(1, 1), torch.ones(1, 1, 4)) for item in (7, 8))
    assert log.append(length, one) is log
    assert log.append(length, other) is not log
    last = log.first(length + 1).part(100, 101)
    assert last.items == 7
    assert last.content.sum() == 4


BAD = {
    "unknown item": (lambda r, s: r.update(s, "nobody"), "unknown item 'nobody'"),
    "unknown user": (lambda r, s: r.start("nobody"), "unknown user 'nobody'"),
    "older event": (lambda r, s: r.update(s, "i1", START - 1), "'i1' at 1699999999 is older"),
    "older in a history": (lambda r, s: r.start(history=["i1", "i2"], at=[2.0, 1.0]), "'i2' at 1 is older"),
    "time is NaN": (lambda r, s: r.update(s, "i1", float("nan")), "the time of 'i1' is nan"),
    "time is infinite": (lambda r, s: r.start(history=["i1"], at=[float("inf")]), "the time of 'i1' is inf"),
    "too few times": (lambda r, s: r.start(history=["i1", "i2"], at=[1.0]), "2 events and 1 times"),
    "empty pool": (lambda r, s: r.recommend(s, candidates=[]), "candidates are empty"),
    "pool too small": (lambda r, s: r.recommend(s, 3, candidates=["i1", "i2"]), "k=3, and there are only 2 candidates"),
    "catalogue too small": (lambda r, s: r.recommend(s, 31), "k=31, and there are only 30 candidates"),
    "all excluded": (
        lambda r, s: r.recommend(s, 2, candidates=["i1", "i2"], exclude=["i1"]),
        "only 1 candidates are left",
    ),
    "too diverse": (lambda r, s: r.recommend(s, 9, min_diversity=1.9), "min_diversity=1.9: ask for fewer"),
    "unknown candidate": (lambda r, s: r.recommend(s, candidates=["nobody"]), "unknown item 'nobody'"),
    "unknown in the blocklist": (lambda r, s: r.recommend(s, exclude=["nobody"]), "unknown item 'nobody'"),
    "nothing asked for": (lambda r, s: r.recommend(s, 0), "k=0"),
    "no steps": (lambda r, s: r.forecast(s, 0), "steps=0"),
    "many at once": (lambda r, s: r.update(join([s, s]), "i1"), "of 2 users"),
    "one item for two": (lambda r, s: r.update(join([s, s]), ["i1"]), "2 users need one item each"),
    "profile without readers": (lambda r, s: r.start(profile={"text": "x"}), "does not know users by content"),
    "item without readers": (lambda r, s: r.add_item("new", {"text": "x"}), "by their IDs alone"),
    "item twice": (lambda r, s: r.add_item("i1", {"text": "x"}), "'i1' is already in the catalog"),
    "nothing to remove": (lambda r, s: r.remove_item("nobody"), "unknown item 'nobody'"),
    "state of another model": (lambda r, s: r.recommend(replace(s, model="0" * 64)), "another model"),
    "update of another model's": (lambda r, s: r.update(replace(s, model="0" * 64), "i1"), "another model"),
    "states of two models": (lambda r, s: join([s, replace(s, model="0" * 64)]), "2 models cannot be joined"),
    "no such file": (lambda r, s: r.restore("nowhere"), "nowhere does not exist"),
}


def test_mistakes_are_named_in_one_line_and_leave_the_state_valid(serve):
    recommender = serve()
    state = recommender.start("u0", history=["i1", "i2"], at=[START, START])
    before = recommender.recommend(state, 5)
    for name, (mistake, words) in BAD.items():
        with pytest.raises(LLMInterestError) as error:
            mistake(recommender, state)
        assert words in str(error.value), name
        assert "\n" not in str(error.value), name
        assert recommender.recommend(state, 5) == before, name
    assert len(recommender.items) == 30
    moved = recommender.update(state, "i3", START)
    alone = recommender.start("u0", history=["i1", "i2", "i3"], at=[START] * 3)
    assert torch.allclose(moved.interest, alone.interest, atol=1e-6)


# --- saved states


@pytest.mark.parametrize("changes", [{}, {"attention_readout": True}, {"use_user_content": False}])
def test_states_survive_a_restart(serve, here, changes):
    recommender = serve(**changes)
    users, items, times = histories(recommender, 4, 5, seed=1)
    state = recommender.start(users, history=items, at=times)
    recommender.save(state, here / "states.safetensors", users=list("abcd"))
    later = serve(**changes)
    restored = later.restore(here / "states.safetensors")
    assert restored.model == recommender.version
    assert later.recommend(restored, 5) == recommender.recommend(state, 5)
    moved = [r.update(s, ["i1", "i2", "i3", "i4"]) for r, s in ((recommender, state), (later, restored))]
    assert torch.equal(moved[0].interest, moved[1].interest)


def test_states_of_another_model_are_refused(serve, here):
    recommender = serve()
    recommender.save(recommender.start("u0"), here / "state")
    with pytest.raises(StateError, match="of another model"):
        serve(temperature=0.5).restore(here / "state")


def test_a_damaged_state_is_refused_wherever_the_damage_is(serve, here):
    recommender = serve()
    recommender.save(recommender.start("u0", history=["i1", "i2"]), here / "state")
    whole = (here / "state").read_bytes()
    for place in [0, 7, *range(9, len(whole), 101), len(whole) - 1]:
        (here / "state").write_bytes(whole[:place] + bytes([whole[place] ^ 5]) + whole[place + 1 :])
        with pytest.raises(StateError, match="damaged"):
            recommender.restore(here / "state")
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        (here / "state").write_bytes(whole[:length])
        with pytest.raises(StateError, match="damaged"):
            recommender.restore(here / "state")


def test_a_full_disk_leaves_the_state_that_was_there(serve, here):
    recommender = serve()
    recommender.save(recommender.start("u0", history=["i1"]), here / "state")
    before = (here / "state").read_bytes()
    with (
        full_disk(100),
        pytest.raises(StorageError, match=r"state cannot be written \(File too large\): free some space"),
    ):
        recommender.save(recommender.start("u0", history=["i1", "i2"]), here / "state")
    assert [(path.name, path.read_bytes()) for path in here.glob("*state*")] == [("state", before)]
    recommender.restore(here / "state")


def test_a_state_with_items_that_are_not_there_is_refused(serve, here, with_readers):
    recommender = with_readers(serve())
    recommender.add_item("new", {"text": "whales"})
    recommender.save(recommender.update(recommender.start(), "new"), here / "state")
    later = with_readers(serve())
    with pytest.raises(StateError, match="has item 'new', which the catalog lacks"):
        later.restore(here / "state")
    later.add_item("new", {"text": "whales"})
    assert later.items.tokens[int(later.restore(here / "state").items[0, 0])] == "new"


# --- recommendations


@pytest.mark.parametrize("block", [3, 1000])
@pytest.mark.parametrize("score", ["cosine", "dot"])
def test_recommendations_are_the_best_of_all(serve, monkeypatch, block, score):
    monkeypatch.setattr("recbole_llm_interest.recommender.catalog.BLOCK_ITEMS", block)
    recommender = serve(score=score)
    users, items, times = histories(recommender, 6, 5, seed=2)
    state = recommender.start(users, history=items, at=times)
    whole = scores_of_model(recommender, users, items, times)
    tokens = recommender.items.tokens
    pool = [f"i{n}" for n in range(0, 30, 2)]
    for options, allowed in (
        ({}, lambda token, line: True),
        ({"exclude_seen": True}, lambda token, line: token not in line),
        ({"exclude": ["i7", "i9"]}, lambda token, line: token not in ("i7", "i9")),
        ({"candidates": pool}, lambda token, line: token in pool),
        ({"candidates": pool, "exclude_seen": True}, lambda token, line: token in pool and token not in line),
    ):
        many = recommender.recommend(state, 6, **options)
        for user, line in enumerate(items):
            order = whole[user].argsort(descending=True).tolist()
            naive = [row for row in order if row and allowed(tokens[row], line)][:6]
            assert [item for item, _ in many[user]] == [tokens[row] for row in naive]
            assert [score for _, score in many[user]] == pytest.approx(whole[user, naive].tolist(), abs=1e-4)
            assert [item for item, _ in recommender.recommend(state[user], 6, **options)] == [i for i, _ in many[user]]


def test_diverse_recommendations_differ_and_are_the_best_that_do(serve):
    recommender = serve()
    state = recommender.start("u0", history=["i1"])
    chosen = [item for item, _ in recommender.recommend(state, 5, min_diversity=0.6)]
    unit = torch.nn.functional.normalize(recommender.items.representations, dim=-1)
    rows = recommender.items.find(chosen)
    differs = 1 - unit[rows] @ unit[rows].T
    assert (differs + 2 * torch.eye(5) >= 0.6).all()
    naive = []
    for item, _ in recommender.recommend(state, 30):
        row = recommender.items.rows[item]
        if all(1 - float(unit[row] @ unit[recommender.items.rows[other]]) >= 0.6 for other in naive):
            naive.append(item)
    assert chosen == naive[:5]


def test_states_of_several_users_are_taken_apart_and_joined(serve):
    recommender = serve()
    lines = [["i1"], [], ["i2", "i3", "i4"]]
    state = recommender.start(["u0", None, "u2"], history=lines)
    assert len(state) == 3
    again = join([state[2], state[0], state[1]])
    for row, user in enumerate((2, 0, 1)):
        alone = recommender.start(["u0", None, "u2"][user], history=lines[user])
        of_one, of_all = recommender.recommend(alone, 4), recommender.recommend(again[row], 4)
        assert [item for item, _ in of_all] == [item for item, _ in of_one]
        assert [score for _, score in of_all] == pytest.approx([score for _, score in of_one], abs=1e-4)
    moved = recommender.update(state, ["i5", "i6", "i7"])
    for user, line in enumerate(lines):
        alone = recommender.start(["u0", None, "u2"][user], history=[*line, f"i{5 + user}"])
        assert torch.allclose(moved.interest[user], alone.interest[0], atol=1e-6)


# --- large catalogues


def clustered(count, size, seed=0):
    torch.manual_seed(seed)
    centres = torch.randn(20, size)
    return torch.nn.functional.normalize(centres[torch.randint(20, (count,))] + 0.5 * torch.randn(count, size), dim=-1)


def test_index_finds_what_is_asked_for_and_says_what_it_finds(serve):
    pytest.importorskip("faiss")
    recommender = serve()
    states = recommender.start(list(recommender.users)[:20], history=[[f"i{n}"] for n in range(20)])
    exact = recommender.recommend(states, 5, exclude_seen=True)
    assert recommender.build_index(states, recall=1.0, k=5) == 1.0
    found = recommender.recommend(states, 5, exclude_seen=True)
    for ours, theirs in zip(found, exact, strict=True):
        assert [item for item, _ in ours] == [item for item, _ in theirs]
        assert [s for _, s in ours] == pytest.approx([s for _, s in theirs], abs=1e-4)


def test_index_misses_only_what_lies_in_lists_that_were_not_read(serve, monkeypatch):
    """Twenty lists of two thousand items: few lists find most, all lists find all; an excluded item never comes."""
    pytest.importorskip("faiss")
    recommender = serve()
    table = type(recommender.items)([str(n) for n in range(2001)], clustered(2001, 16))
    index = ApproximateIndex(table, lists=20)
    live = recommender._live
    monkeypatch.setattr(live, "items", table)
    monkeypatch.setattr(recommender._trained.model.history_bias, "neighbour", None)
    rows = torch.randint(1, 2001, (40, 6))
    interest = table.representations[rows[:, 0]] + 0.1 * torch.randn(40, 16)
    events = LoggedEvents(rows, torch.zeros(rows.shape), torch.zeros(*rows.shape, 0))
    query = live.query(interest, events, torch.full((40,), 6), excluded=rows[:, :2])
    index.read(2)
    few = index.recall(query, 10)
    index.read(20)
    assert 0.5 < few <= 1.0
    assert index.recall(query, 10) == 1.0
    assert not (index.best(query, 10)[1][:, :, None] == rows[:, None, :2]).any()


# --- what comes new


@pytest.fixture
def with_readers(built):
    """Gives a recommender readers of content that need no encoder: a text of a subject has that subject's features."""

    class Reader:
        def __init__(self, features):
            self.width = features.encoded_size

        def read(self, content):
            from recbole_llm_interest.recommender.encoding import Encoded

            seed = sum(map(ord, content["text"]))
            values = torch.randn(1, self.width, generator=torch.Generator().manual_seed(seed))
            return Encoded(
                {"text": Features(values, torch.ones(1, dtype=torch.bool))}, content["text"], content["text"]
            )

    def give(recommender):
        model = recommender._trained.model
        readers = {"item_reader": Reader(model.item_encoder.features["text"])}
        readers["user_reader"] = Reader(model.user_encoder.features["text"])
        return Recommender(replace(recommender._trained, **readers))

    return give


@pytest.mark.parametrize("step", [1, 4])
def test_neighbours_kept_up_are_those_of_the_whole_table(step):
    torch.manual_seed(step)
    values, present = torch.randn(40, 6), torch.rand(40) > 0.2
    first = 3 if step == 1 else 20
    kept = Neighbourhood(values[:first], present[:first], nearest_neighbours(values[:first], present[:first], 5))
    for row in range(first, 40):
        kept.add(values[row] if present[row] else None)
    assert torch.equal(kept.neighbours, nearest_neighbours(values, present, 5))


def test_a_new_item_is_what_training_would_have_made_of_it_without_an_id(serve):
    """An item is added again under another name, from its features: without IDs, nothing tells the two apart."""
    recommender = serve(use_item_id=False)
    fusion, row = recommender._trained.model.item_encoder, recommender.items.rows["i1"]
    values, neighbours = fusion.content["text"].values[row], fusion.get_buffer("neighbours").clone()
    from recbole_llm_interest.content.text_template import text_writer
    from recbole_llm_interest.recommender.encoding import ContentReader
    from recbole_llm_interest.recommender.known_columns import KnownColumns
    from recbole_llm_interest.settings import ContentSettings

    write_text, _ = text_writer("item", "item_id", None, None)
    reader = ContentReader("item", ContentSettings(), write_text, KnownColumns("item_id"), fusion.encoded_sizes)
    recommender = Recommender(replace(recommender._trained, item_reader=reader))
    recommender.add_item("twin", {"text": values.numpy()})
    assert torch.equal(fusion.get_buffer("neighbours"), neighbours)  # the model stays as it was trained
    table = recommender.items
    assert torch.allclose(table.representations[-1], table.representations[row], atol=1e-5)
    state = recommender.start("u0", history=["i2", "i3"])
    scores = dict(recommender.recommend(state, len(table)))
    with torch.no_grad():
        without = recommender._live.query(state.interest, state.events.part(0, 0), torch.zeros(1, dtype=torch.long))
        assert float(recommender._live.score(without, row)) == pytest.approx(
            float(recommender._live.score(without, len(table.tokens) - 1)), abs=1e-4
        )
    assert "twin" in scores
    assert table.neighbours(torch.tensor([row]))[0, 0, 0] == len(table.tokens) - 1  # its own nearest neighbour
    for content, words in (
        ({"text": values.numpy()[:3]}, "features must be"),
        ({"text": values.numpy() * np.nan}, "finite"),
        ({"image": "x.png"}, "has no image"),
        ({}, "the item's content is empty"),
    ):
        with pytest.raises(RequestError, match=words):
            recommender.add_item("more", content)


def test_items_come_and_go(serve, with_readers):
    recommender = with_readers(serve())
    state = recommender.start("u0", history=["i1"])
    recommender.add_item("new", {"text": "whales"})
    assert "new" in [item for item, _ in recommender.recommend(state, 31)]
    assert recommender.explain(state, "new").score == pytest.approx(
        dict(recommender.recommend(state, 31))["new"], abs=1e-4
    )
    after = recommender.update(state, "new")
    assert "new" not in [item for item, _ in recommender.recommend(after, 29, exclude_seen=True)]
    recommender.remove_item("new")
    with pytest.raises(RequestError, match="only 30"):
        recommender.recommend(state, 31)
    assert "new" not in [item for item, _ in recommender.recommend(state, 30)]
    with pytest.raises(RequestError, match="unknown item 'new'"):
        recommender.explain(after, "new")
    assert len(recommender.recommend(after, 30)) == 30  # the history holds it still
    recommender.add_item("new", {"text": "whales"})
    assert recommender.items.rows["new"] == 32


def test_pools_are_apart(serve, with_readers):
    """Ads are recommended where ads are asked for; what they are changes no other answer."""
    recommender = with_readers(serve())
    state = recommender.start(["u0", "u1"], history=[["i1"], ["i2", "i3"]])
    before = recommender.recommend(state, 30), recommender.interests(state)
    recommender.add_pool("ads", {f"ad{n}": {"text": subject} for n, subject in enumerate(SUBJECTS)})
    recommender.add_pool("films", ["i1", "i2", "i3"])
    ads = recommender.recommend(state, 8, candidates="ads")
    for user, found in enumerate(ads):
        assert {item for item, _ in found} == {f"ad{n}" for n in range(8)}
        assert found == sorted(found, key=lambda one: -one.score)
        for item, score in found:
            assert recommender.score(state[user], item) == pytest.approx(score, abs=1e-4)
    assert {item for item, _ in recommender.recommend(state[0], 3, candidates="films")} == {"i1", "i2", "i3"}
    after = recommender.recommend(state, 30)
    assert [[item for item, _ in user] for user in after] == [[item for item, _ in user] for user in before[0]]
    for ours, theirs in zip(recommender.interests(state), before[1], strict=True):
        assert [one.weight for one in ours] == pytest.approx([one.weight for one in theirs], abs=1e-5)
    recommender.remove_item("ad3")
    assert len(recommender.recommend(state[0], 7, candidates="ads")) == 7
    for mistake, words in (
        (lambda: recommender.recommend(state[0], 8, candidates="ads"), "only 7 candidates"),
        (lambda: recommender.recommend(state[0], 31), "only 30 candidates"),
        (lambda: recommender.recommend(state[0], candidates="replies"), "no pool 'replies' (there are ads, films)"),
        (lambda: recommender.add_pool("more", {"i1": {"text": "x"}}), "'i1' is already in the catalog"),
        (lambda: recommender.add_pool("more", ["nobody"]), "unknown item 'nobody'"),
        (lambda: recommender.score(state, ["i1"]), "2 users need one item each"),
    ):
        with pytest.raises(RequestError) as error:
            mistake()
        assert words in str(error.value)
    assert list(recommender.pools) == ["ads", "films"]


def test_calibrated_probabilities_are_the_shares_that_click():
    chance = np.random.default_rng(0)
    scores = chance.normal(size=8000) * 3
    clicked = chance.random(8000) < 1 / (1 + np.exp(2 - 0.7 * scores))
    calibration = Calibration.fit(scores[:4000], clicked[:4000])
    assert calibration.slope == pytest.approx(0.7, abs=0.08)
    assert calibration.offset == pytest.approx(-2, abs=0.2)
    assert calibration.error(scores[4000:], clicked[4000:]) < 0.02
    assert Calibration(0.1, 2.0).error(scores, clicked) > 0.3
    parted = Calibration.fit([1.0, 2.0, 3.0, 4.0], [False, False, True, True])
    assert np.isfinite(parted.probability([-100, 100])).all()
    for given in (([1.0], [True]), ([], []), ([1.0, 2.0], [True]), ([1.0, np.nan], [True, False])):
        with pytest.raises(RequestError):
            Calibration.fit(*given)


def test_what_is_shown_further_down_is_not_taken_for_disliked():
    """The best items were shown first, where twice as many people look: without positions, scores seem to say more."""
    chance = np.random.default_rng(0)
    scores = chance.normal(size=(4000, 3))
    scores = np.take_along_axis(scores, np.argsort(-scores - chance.normal(size=scores.shape), axis=1), axis=1).ravel()
    positions = np.tile([0, 1, 2], 4000)
    clicked = chance.random(12000) < 1 / (1 + np.exp(1.5 - 0.7 * scores + np.array([0.0, 0.8, 1.6])[positions]))
    known = Calibration.fit(scores, clicked, positions=positions)
    assert known.slope == pytest.approx(0.7, abs=0.1)
    assert known.of_positions == pytest.approx((0, -0.8, -1.6), abs=0.15)
    assert known.error(scores, clicked, positions=positions) < 0.015
    assert Calibration.fit(scores, clicked).slope > 0.85
    assert known.probability(0.0, 2) < known.probability(0.0, 0) == known.probability(0.0)
    for mistake in ({"positions": [0]}, {"positions": [-1] * 12000}, {"weights": [1.0]}, {"weights": [0.0] * 12000}):
        with pytest.raises(RequestError):
            Calibration.fit(scores, clicked, **mistake)
    for wrong in (positions[:9], positions + 0.5):
        with pytest.raises(RequestError, match="give a whole number from 0 on for each item"):
            known.error(scores, clicked, positions=wrong)
    with pytest.raises(RequestError, match="position 3 is not among those that were fitted"):
        known.probability(scores, np.full(12000, 3))
    with pytest.raises(RequestError, match="positions start at 1: give 0 for the first"):
        Calibration.fit(scores, clicked, positions=positions + 1)
    gap = Calibration.fit(scores, clicked, positions=np.array([0, 1, 70])[positions])
    assert gap.probability(0.0, 70) == pytest.approx(known.probability(0.0, 2))
    with pytest.raises(RequestError, match="position 5 is not"):
        gap.probability(0.0, 5)


def test_weights_give_the_probabilities_of_items_that_are_shown_at_random():
    """A log of mostly high scores, where the curve is flat, is no measure of the others."""
    chance = np.random.default_rng(0)
    scores = chance.uniform(-3, 3, size=40000)
    clicked = chance.random(40000) < 0.3 / (1 + np.exp(-2 * scores))
    propensity = np.where(scores > 0, 0.9, 0.1)
    shown = chance.random(40000) < propensity
    logged = scores[shown], clicked[shown]
    error = {
        name: Calibration.fit(*logged, weights=weights).error(scores[~shown], clicked[~shown])
        for name, weights in (("as logged", None), ("weighted", 1 / propensity[shown]))
    }
    assert error["weighted"] < 0.7 * error["as logged"]


def test_reliability_is_that_of_a_naive_reference():
    chance = np.random.default_rng(1)
    scores, clicked = chance.normal(size=103), chance.random(103) < 0.4
    calibration = Calibration(slope=-0.8, offset=0.3)  # a higher score is a lower probability
    found = calibration.reliability(scores, clicked, parts=4)
    pairs = sorted(zip(calibration.probability(scores), clicked, strict=True))
    start, gap = 0, 0.0
    for part in found:
        expected = pairs[start : start + part.count]
        assert part.probability == pytest.approx(np.mean([said for said, _ in expected]))
        assert part.clicked == pytest.approx(np.mean([click for _, click in expected]))
        start += part.count
        gap += part.count * abs(part.probability - part.clicked)
    assert [part.count for part in found] == [26, 26, 26, 25]
    assert calibration.error(scores, clicked, parts=4) == pytest.approx(gap / 103)
    assert len(calibration.reliability(scores[:3], clicked[:3])) == 3
    with pytest.raises(RequestError, match="parts=0"):
        calibration.reliability(scores, clicked, parts=0)


def test_users_are_served_by_profile_by_history_by_both_and_by_neither(serve, with_readers):
    recommender = with_readers(serve())
    kinds = {
        "profile": recommender.start(profile={"text": "a sailor"}),
        "history": recommender.start(history=["i1", "i2"]),
        "both": recommender.start(profile={"text": "a sailor"}, history=["i1", "i2"]),
        "neither": recommender.start(),
    }
    answers = {name: tuple(item for item, _ in recommender.recommend(state, 10)) for name, state in kinds.items()}
    assert len(set(answers.values())) == 4
    other = recommender.start(profile={"text": "a baker"})
    assert not torch.allclose(other.interest, kinds["profile"].interest, atol=1e-3)


# --- interests and forecasts


def test_interests_are_the_probability_of_their_items(serve):
    recommender = serve()
    users, items, times = histories(recommender, 3, 4, seed=3)
    state = recommender.start(users, history=items, at=times)
    probability = scores_of_model(recommender, users, items, times)[:, 1:].softmax(dim=1)
    group = recommender.interest_map.group(recommender.items.representations)[1:]
    for user, found in enumerate(recommender.interests(state)):
        weights = {interest.name: interest.weight for interest in found}
        assert len(weights) == len(found)
        assert sum(weights.values()) == pytest.approx(1, abs=1e-5)
        assert list(weights.values()) == sorted(weights.values(), reverse=True)
        for number, name in enumerate(recommender.interest_map.names):
            assert weights[name] == pytest.approx(float(probability[user, group == number].sum()), abs=1e-5)
    assert len(recommender.interests(state[0], 2)) == 2


# --- explanations


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("score", ["cosine", "dot"])
def test_parts_of_the_item_sum_to_its_score(serve, fusion, score):
    recommender = serve(fusion=fusion, score=score)
    state = recommender.start("u0", history=["i1", "i2", "i3", "i1"])
    for item in ("i1", "i2", "i5", "i11"):
        why = recommender.explain(state, item)
        assert why.is_exact == (FUSIONS[fusion].contributions is not Fusion.contributions)
        if why.is_exact:
            assert sum(part.points for part in why.of_item) == pytest.approx(why.score, abs=1e-4)
        for parts in (why.of_item, why.of_user):
            assert sum(part.share for part in parts) == pytest.approx(1)
            assert [part.share for part in parts] == sorted((part.share for part in parts), reverse=True)
    names = {part.name for part in recommender.explain(state, "i5").of_item}
    assert names == {"no text", "id", "repeat bias", "neighbour bias"}


@pytest.mark.parametrize("apart", [50, 3])
def test_parts_of_the_user_are_what_the_score_loses(serve, monkeypatch, apart):
    monkeypatch.setattr("recbole_llm_interest.recommender.explanation._EVENTS", apart)
    recommender = serve(time_features=TIMES)
    (_,), (items,), (times,) = histories(recommender, 1, 7, seed=4)
    state = recommender.start("u0", history=items, at=times)
    why = recommender.explain(state, "i9")

    def score(user, kept):
        other = recommender.start(user, history=[items[n] for n in kept], at=[times[n] for n in kept])
        return dict(recommender.recommend(other, 30))["i9"]

    assert why.score == pytest.approx(score("u0", range(7)), abs=1e-4)
    first = max(7 - apart, 0)
    naive = {("profile", None): why.score - score(None, range(7))}
    if first:
        naive["4 older events", None] = why.score - score("u0", range(first, 7))
    told = [(items[n], times[n], why.score - score("u0", [m for m in range(7) if m != n])) for n in range(first, 7)]
    found = {(part.name, part.time): part.points for part in why.of_user}
    for key, points in naive.items():
        assert found[key] == pytest.approx(points, abs=1e-4)
    ours = sorted((part.name, part.time, part.points) for part in why.of_user if part.time is not None)
    assert len(ours) == len(told)
    for (name, time, points), (their_name, their_time, their_points) in zip(ours, sorted(told), strict=True):
        assert (name, time) == (their_name, their_time)
        assert points == pytest.approx(their_points, abs=1e-4)


# --- from a checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, feature_cache):
    """A model that was trained on ``cycle``, where the next item follows from the last one."""
    folder = tmp_path_factory.mktemp("served")
    titles = {f"i{n}": f"A film about {subject}" for n, subject in enumerate(SUBJECTS)}
    write_dataset(folder / "data", "cycle", cycle_events(), titles, {f"u{n}": "librarian" for n in range(24)})
    settings = {**QUICK, "data_path": str(folder / "data"), "feature_cache": str(feature_cache), "epochs": 25,
                "learning_rate": 0.03, "checkpoint_dir": str(folder / "saved")}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["test"])
        (result,) = run(["LLMInterest"], "cycle", config_dict=settings)
    return folder / result.checkpoint


@pytest.mark.slow
def test_a_trained_model_is_served(checkpoint, here, monkeypatch):
    monkeypatch.setattr("sys.argv", ["serve", "--port=80"])  # the service's own words, none of RecBole's business
    recommender = Recommender.load(checkpoint)
    assert recommender.label("i3") == "A film about chess"
    state = recommender.start("u3", history="recorded")
    assert [recommender.items.tokens[row] for row in state.items[0].tolist()] == [f"i{(3 + n) % 8}" for n in range(9)]
    assert [step.item for step in recommender.forecast(state, 6)] == [f"i{(4 + n) % 8}" for n in range(6)]
    assert all(step.probability > 0.2 for step in recommender.forecast(state, 6))
    many = recommender.forecast(join([state, recommender.start("u6", history="recorded")]), 2)
    assert [[step.item for step in user] for user in many] == [["i4", "i5"], ["i7", "i0"]]
    # a new user with a profile, and a new item from its text, by the encoder
    new = recommender.start(profile={"occupation": "librarian"}, history=["i5"])
    assert torch.allclose(new.interest, recommender.start("u3", history=["i5"]).interest, atol=1e-5)
    recommender.add_item("i8", {"title": "A film about chess"})
    assert recommender.label("i8") == "A film about chess"
    nearest = recommender.items.neighbours(recommender.items.find(["i8", "i3"]))[:, 0, 0]
    assert torch.equal(nearest, recommender.items.find(["i3", "i8"]))


@pytest.mark.slow
def test_recorded_history_gives_the_scores_of_the_evaluation(checkpoint, here):
    from recbole.quick_start import load_data_and_model

    _, model, dataset, _, _, test = load_data_and_model(str(checkpoint))
    recommender = Recommender.load(checkpoint)
    rows = next(iter(test))[0]
    with torch.no_grad():
        scores = model.eval().full_sort_predict(rows)
    for row, user in enumerate(dataset.id2token("user_id", rows["user_id"])):
        items = dataset.id2token("item_id", rows["item_id_list"][row][: rows["item_length"][row]])
        state = recommender.start(str(user), history=[str(item) for item in items])
        assert torch.allclose(scores_of_state(recommender, state)[0, 1:], scores[row, 1:], atol=1e-4)


@pytest.mark.slow
def test_command_line(checkpoint, here, capsys):
    start = [f"--checkpoint={checkpoint}", "--k=3"]
    assert main([*start, "--user=u3", "--forecast=2", "--explain=i4"]) == 0
    text = capsys.readouterr().out
    assert "after 9 events" in text
    assert "| A film about volcanoes" in text
    assert "sum to the score" in text
    assert main([*start, "--history=i0,i1", "--save_state=state", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    recommender = Recommender.load(checkpoint)
    expected = recommender.recommend(recommender.start(history=["i0", "i1"]), k=3)
    assert [found["item"] for found in answer["recommendations"]] == [found.item for found in expected]
    assert main([*start, "--state=state", "--history=i2", "--exclude_seen", "--json", "--candidates=i2,i3,i4,i5"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["events"] == 3
    assert {found["item"] for found in answer["recommendations"]} == {"i3", "i4", "i5"}
    for words, complaint in (
        (["--history=nobody"], "unknown item 'nobody'"),
        (["--times=soon"], "--times=soon is not a list of numbers"),
        (["--state=state", "--user=u3"], "--state has the user already"),
        (["--history=i1", "--nonsense=3"], "unknown setting 'nonsense'"),
        (["--k=two"], "argument --k: invalid int value: 'two'"),
    ):
        assert main([*start, *words]) == 2
        error = capsys.readouterr().err
        assert complaint in error
        assert error.count("\n") == 1


def test_command_line_names_what_it_lacks_in_one_line(here, capsys):
    assert main([]) == 2
    assert capsys.readouterr().err == (
        "error: command line: the following arguments are required: --checkpoint; --help lists the options\n"
    )


@pytest.mark.slow
def test_command_line_chooses_from_a_pool_in_a_file(checkpoint, here, capsys):
    start = [f"--checkpoint={checkpoint}", "--history=i0", "--pool=ads.jsonl", "--json"]
    pool = [{"item_id": f"ad{n}", "title": f"Tickets: {subject}"} for n, subject in enumerate(SUBJECTS)]
    (here / "ads.jsonl").write_text("\n".join(map(json.dumps, pool)) + "\n")
    assert main([*start, "--k=8"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {one["item"] for one in answer["recommendations"]} == {f"ad{n}" for n in range(8)}
    assert {one["title"] for one in answer["recommendations"]} == {one["title"] for one in pool}
    for text, words, complaint in (
        ('{"item_id": "ad1", "title": "x"}\n{"title": "y"}', [], "ads.jsonl, line 2: it is not a JSON object with"),
        ('["ad1"]', [], "line 1: it is not a JSON object"),
        ('{"item_id": "ad1", "title": "x"}\n' * 2, [], "line 2: item_id 'ad1' is not text, or occurs twice"),
        ('{"item_id": "i1", "title": "x"}', [], "'i1' is already in the catalog"),
        ("", [], "the candidates are empty"),
        ("", ["--candidates=i1"], "--pool and --candidates exclude each other"),
        (None, [], "pool ads.jsonl does not exist"),
    ):
        (here / "ads.jsonl").unlink() if text is None else (here / "ads.jsonl").write_text(text)
        assert main([*start, *words]) == 2
        error = capsys.readouterr().err
        assert complaint in error
        assert error.count("\n") == 1


def test_what_is_no_checkpoint_of_ours_is_refused(here):
    with pytest.raises(CheckpointError, match="does not exist"):
        Recommender.load(here / "nothing.pth")
    (here / "broken.pth").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="damaged"):
        Recommender.load(here / "broken.pth")
    config = {"model": "SASRec", "dataset": "cycle", "item_digest": None, "settings": {}, "given": {}}
    write_state(here / "other.pth", {"config": config, "state_dict": {}})
    with pytest.raises(CheckpointError, match="of model 'SASRec'"):
        Recommender.load(here / "other.pth")
