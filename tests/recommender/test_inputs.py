"""What callers may write: a single user or a batch, pandas, numpy, ids of other types, dates; and what mistakes say."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_llm_interest.errors import LLMInterestError, RequestError, StateError
from recbole_llm_interest.recommender import Recommender, State, UserState, join
from recbole_llm_interest.recommender.inputs import read_time


@pytest.fixture
def recommender(tiny_model):
    return Recommender(tiny_model)


LISTS = {
    "list": list,
    "tuple": tuple,
    "array": np.array,
    "Series": pd.Series,
    "Series with another index": lambda values: pd.Series(values, index=range(7, 7 + len(values))),
    "column": lambda values: pd.DataFrame({"item_id": values})["item_id"],
    "Index": pd.Index,
    "iterator": iter,
}


@pytest.mark.parametrize("kind", LISTS)
def test_any_kind_of_list_is_a_list(recommender, kind):
    expected = recommender.start("u1", history=["i1", "i2"], at=[5.0, 6.0])
    state = recommender.start("u1", history=LISTS[kind](["i1", "i2"]), at=LISTS[kind]([5.0, 6.0]))
    assert state.is_single
    assert torch.equal(state.interest, expected.interest)
    batch = recommender.start(LISTS[kind](["u1", "u2"]))
    assert (len(batch), batch.is_single, batch.users) == (2, False, ("u1", "u2"))


def test_single_user_gives_one_result_and_batch_a_list(recommender):
    histories = [["i1", "i2"], ["i3"]]
    batch = recommender.start(["u1", "u2"], history=histories)
    singles = [recommender.start(user, history=line) for user, line in zip(batch.users, histories, strict=True)]
    assert [state.is_single for state in (batch, *batch, *singles)] == [False, True, True, True, True]
    moved = recommender.update(batch, ["i5", "i6"])
    for position, (single, item) in enumerate(zip(singles, ["i5", "i6"], strict=True)):
        assert torch.allclose(recommender.update(single, item).interest, moved[position].interest, atol=1e-6)
        best, of_batch = recommender.recommend(single, 3), recommender.recommend(batch, 3)[position]
        assert [one.item for one in best] == [one.item for one in of_batch]
        assert [one.name for one in recommender.interests(single)] == [
            one.name for one in recommender.interests(batch)[position]
        ]
        ahead, of_batch = recommender.forecast(single, 2), recommender.forecast(batch, 2)[position]
        assert [step.item for step in ahead] == [step.item for step in of_batch]
        assert all(step.state.is_single for step in (*ahead, *of_batch))
        score = recommender.score(single, item)
        assert recommender.score(batch, ["i5", "i6"])[position] == pytest.approx(score, abs=1e-5)
        assert recommender.explain(single, item).score == pytest.approx(score, abs=1e-4)
        assert recommender.explain(batch, ["i5", "i6"])[position].score == pytest.approx(score, abs=1e-4)


def test_batch_of_one_stays_a_batch(recommender):
    for batch in (recommender.start(["u1"]), join([recommender.start("u1")]), recommender.start(["u1", "u2"])[:1]):
        assert (len(batch), batch.is_single) == (1, False)
        assert len(recommender.recommend(batch, 3)) == 1
        assert recommender.update(batch, ["i1"]).is_single is False


def test_users_of_a_batch_may_be_known_or_new(recommender):
    batch = recommender.start(["u1", None], history=[["i1"], []])
    assert torch.allclose(batch[0].interest, recommender.start("u1", history=["i1"]).interest, atol=1e-6)
    assert torch.allclose(batch[1].interest, recommender.start().interest, atol=1e-6)
    assert len(recommender.start(history=[["i1"], ["i2"], []])) == 3


def test_recorded_histories_of_a_batch_are_those_of_its_users(recommender):
    batch = recommender.start(["u3", "u1"], history="recorded")
    for state in batch:
        alone = recommender.start(state.users[0], history="recorded")
        assert torch.equal(state.items, alone.items)
        assert torch.equal(state.times, alone.times)
        assert torch.equal(state.items[0], recommender.items.find([item for item, _ in events_of(state.users[0])]))
    for user in ("u3", ["u3", "u1"]):  # the recorded history is the default
        named, default = recommender.start(user, history="recorded"), recommender.start(user)
        assert (default.users, default.is_single) == (named.users, named.is_single)
        assert torch.equal(default.interest, named.interest)


def test_events_that_are_recorded_later_count(tiny_checkpoint, here):
    shutil.copytree(tiny_checkpoint.parent.parent / "data", here / "data")
    recommender = Recommender.load(tiny_checkpoint, data_path=str(here / "data"))
    assert recommender.start("u1").length.item() == 9
    with (here / "data" / "tiny" / "tiny.inter").open("a") as file:
        file.write("u1\ti5\t1.8e9\n")
    state = recommender.start("u1")
    assert state.length.item() == 10
    assert (recommender.items.tokens[state.items[0, -1]], state.latest.item()) == ("i5", 1.8e9)


def events_of(user):
    return [(f"i{1 + (int(user[1:]) + step) % 8}", 1.7e9 + 86400 * step) for step in range(9)]


def test_state_is_followed_through_its_last_events(recommender):
    state = recommender.start("u1", history=["i1", "i2"])
    assert [past.length.item() for past in recommender.replay(state, 1)] == [1, 2]
    assert [past.length.item() for past in recommender.replay(state, 5)] == [0, 1, 2]
    (end,) = recommender.replay(recommender.start(["u1"], history=[["i1", "i2"]]), 0)  # a batch of one
    assert torch.allclose(end.interest, state.interest, atol=1e-6)


def test_grouped_frame_is_a_batch(recommender):
    events = pd.DataFrame({"user": ["u1", "u1", "u2"], "item": ["i1", "i2", "i3"], "time": [1.0, 2.0, 1.5]})
    grouped = events.groupby("user").agg(list)
    batch = recommender.start(grouped.index, history=grouped["item"], at=grouped["time"])
    assert batch.users == ("u1", "u2")
    assert batch.length.tolist() == [2, 1]
    assert batch.latest.tolist() == [2.0, 1.5]


def test_frame_has_a_row_for_each_recommendation(recommender):
    recommender.items.labels["i3"] = "Bread"
    batch = recommender.start(["u1", None], history=[["i1", "i2"], ["i4"]])
    frame = recommender.recommend(batch, 2, as_frame=True)
    assert list(frame.columns) == ["user", "rank", "item", "title", "score"]
    assert frame["user"].tolist() == ["u1", "u1", 1, 1]
    assert frame["rank"].tolist() == [1, 2, 1, 2]
    expected = [one for user in recommender.recommend(batch, 2) for one in user]
    assert list(zip(frame["item"], frame["score"], strict=True)) == expected
    assert frame.loc[frame["item"] == "i3", "title"].tolist() == ["Bread"]
    assert len(recommender.recommend(batch[0], 3, as_frame=True)) == 3


def test_ids_may_be_numbers(tiny_model):
    from dataclasses import replace

    tokens = ["", *map(str, range(17862, 17870))]
    recommender = Recommender(replace(tiny_model, tokens=tokens, users={"7": 1}, labels={}))
    state = recommender.start(7, history=[17862, np.int64(17863)])
    assert state.users == ("7",)
    state = recommender.update(state, 17864)
    assert 17864 in recommender.items
    assert "17864" in recommender.items
    assert 1 not in recommender.items
    assert recommender.recommend(state, 1, candidates=[17865])[0].item == "17865"
    assert "17865" not in [item for item, _ in recommender.recommend(state, 7, exclude=pd.Series([17865]))]
    with_missing = pd.DataFrame({"user": [7, None], "item": [17862, None]}).dropna()  # floats
    assert torch.equal(
        recommender.start(with_missing["user"], history=[with_missing["item"]]).items,
        recommender.start(7, history=[17862]).items,
    )
    assert recommender.update(state, 17864.0).items[0, -1] == state.items[0, -1]
    assert 17864.0 in recommender.items
    recommender.remove_item(17865)
    assert 17865 not in recommender.items


DATES = [
    "2024-05-02",
    "2024-05-02T00:00:00",
    "2024-05-02T02:00+02:00",
    datetime(2024, 5, 2),  # UTC where there is no zone
    datetime(2024, 5, 2, tzinfo=UTC),
    pd.Timestamp("2024-05-02"),
    np.datetime64("2024-05-02"),
]


@pytest.mark.parametrize("date", DATES, ids=lambda date: f"{type(date).__name__} {date}")
def test_dates_are_times_in_the_unit_of_the_data_set(date):
    seconds = 1_714_608_000.0
    assert read_time(date, "i1", "s") == seconds
    assert read_time(date, "i1", "ms") == 1000 * seconds
    with pytest.raises(RequestError, match="give a number in its unit"):
        read_time(date, "i1", None)


def test_unit_of_times_is_known_from_the_data_set(recommender):
    state = recommender.start(history=["i1", "i2"], at=pd.to_datetime(["2024-05-01", "2024-05-02"]))
    assert state.latest.item() == 1_714_608_000.0
    assert recommender.update(state, "i3", at="2024-05-03").latest.item() == 1_714_608_000.0 + 86400
    with pytest.raises(RequestError, match="older"):
        recommender.update(state, "i3", at="2024-05-01")


def test_states_and_recommenders_show_in_one_line(recommender):
    assert repr(recommender) == "Recommender(items=8, users=24, dataset='tiny')"
    assert repr(recommender.start("u1", history=["i1"])) == "UserState(user='u1', events=1)"
    assert repr(recommender.start()) == "UserState(user=None, events=0)"
    assert repr(recommender.start(["u1", None], history=[["i1"], []])) == "UserState(users=2, events=1)"
    assert State is UserState


def test_recommendations_show_in_one_line_and_print_as_a_table(recommender):
    state = recommender.start("u1", history=["i1", "i2"])
    best = recommender.recommend(state, 4)
    assert best.titles == [recommender.label(item) for item, _ in best]
    assert best.titles[0] == "A film about bread"
    assert best.frame.columns.tolist() == ["rank", "item", "title", "score"]
    assert best.frame["rank"].tolist() == [1, 2, 3, 4]
    assert list(zip(best.frame["item"], best.frame["score"], strict=True)) == best
    assert best.frame["title"].tolist() == best.titles
    one_line = repr(recommender.recommend(join([state, state]), 4))
    assert "\n" not in one_line
    assert one_line.count(f"Recommendations({best[0].item} {best[0].score:.2f}, ") == 2
    assert one_line.endswith("…)]")
    assert "…" not in repr(recommender.recommend(state, 3))
    head, first, *_ = str(best).splitlines()
    assert (head.split(), len(str(best).splitlines())) == (["rank", "item", "title", "score"], 5)
    assert first.split() == ["1", "i3", "A", "film", "about", "bread", f"{best[0].score:.2f}"]
    page = best._repr_html_()
    assert [page.count(word) for word in ("<tr", "<td>i3</td>", "<td>A film about bread</td>")] == [5, 1, 1]


def test_restored_state_is_single_if_it_was(recommender, here):
    for state in (recommender.start("u1"), recommender.start(["u1"])):
        recommender.save(state, here / "state", users=state.users)
        restored = recommender.restore(here / "state")
        assert (restored.is_single, restored.users) == (state.is_single, ("u1",))
    recommender.save(recommender.start("u1", history=["i3"]), here / "state")
    assert b"u1" not in (here / "state").read_bytes()  # no id unless it is asked for
    with pytest.raises(RequestError, match="has 2 ids"):
        recommender.save(recommender.start("u1"), here / "state", users=["u1", "u2"])


MISTAKES = {
    "id for a state": (lambda r, s: r.recommend("17862"), "recommend takes a state, not '17862': start('17862')"),
    "list of states": (lambda r, s: r.recommend([s, s]), "start and join give one"),
    "one item as history": (lambda r, s: r.start(history="1375666"), "did you mean history=['1375666']?"),
    "one candidate to exclude": (lambda r, s: r.recommend(s, 3, exclude="i1"), "did you mean exclude=['i1']?"),
    "a frame": (lambda r, s: r.start(history=pd.DataFrame({"item": ["i1"]})), "history=frame['item']"),
    "one time for a history": (lambda r, s: r.start(history=["i1"], at=5.0), "did you mean at=[5.0]?"),
    "list for a single user": (lambda r, s: r.update(s, ["i1"]), "the state is of a single user"),
    "one item for a batch": (lambda r, s: r.update(join([s, s]), "i1"), "the state is of 2 users"),
    "one time for a batch": (lambda r, s: r.update(join([s, s]), ["i1", "i2"], at=[5.0]), "2 users need one time each"),
    "lists of different lengths": (lambda r, s: r.start(["u1", "u2"], history=[["i1"]]), "2 users and 1 histories"),
    "histories of no user": (lambda r, s: r.start(["u1", "u2"], history=[]), "2 users and no histories"),
    "one history for users": (lambda r, s: r.start(["u1", "u2"], history=["i1", "i2"]), "did you mean history=['i1']?"),
    "one history for profiles": (
        lambda r, s: r.start(profile=[{"text": "x"}, {"text": "y"}], history=["i1", "i2"]),
        "did you mean history=['i1']?",
    ),
    "no users": (lambda r, s: r.start([]), "no users"),
    "no users with histories": (lambda r, s: r.start([], history=[]), "no users"),
    "replay of a batch": (lambda r, s: r.replay(join([s, s]), 1), "give one of them, such as state[0]"),
    "replay of less than none": (lambda r, s: r.replay(s, -1), "events=-1: give 0 or more"),
    "one id for the users of a file": (lambda r, s: r.save(s, "state", users="u1"), "did you mean users=['u1']?"),
    "recorded of nobody": (lambda r, s: r.start(history="recorded"), "needs a user of the data set"),
    "profile of a known user": (lambda r, s: r.start("u1", profile={"text": "x"}), "is given with a profile"),
    "profile is text": (lambda r, s: r.start(profile="baker"), "is not a mapping"),
    "no date": (lambda r, s: r.update(s, "i1", at="yesterday morning"), "give a number, an ISO 8601 date, or None"),
    "missing date": (lambda r, s: r.update(s, "i1", at=pd.NaT), "None where it is unknown"),
    "content is text": (lambda r, s: r.add_item("x", "Interstellar 2"), "did you mean {'text': …}?"),
    "content of a pool is text": (lambda r, s: r.add_pool("p", {"x": "Interstellar 2"}), "did you mean {'text': …}?"),
    "misspelt column": (lambda r, s: r.add_item("x", {"titel": "a"}), "no column 'titel': did you mean 'title'?"),
    "misspelt modality": (lambda r, s: r.add_item("x", {"imge": "a.png"}), "no column 'imge': did you mean 'image'?"),
    "image as in items.jsonl": (
        lambda r, s: r.add_item("x", {"title": "a", "image_file_name": "images/x.jpg"}),
        "the model has no image of items",
    ),
    "unknown pool": (lambda r, s: r.recommend(s, candidates="i1"), "no pool 'i1'"),
}


def test_item_that_is_refused_is_not_added(recommender):
    before = len(recommender.items.tokens)
    with pytest.raises(RequestError):
        recommender.add_item("x", {"title": "a", "titel": "b"})
    assert "x" not in recommender.items
    assert len(recommender.items.tokens) == before
    recommender.add_item("x", {"item_id": "x", "title": "A film about whales"})
    assert recommender.label("x") == "A film about whales"
    recommender.add_item("y", pd.Series({"title": "A film about bread"}))  # a row of a DataFrame
    assert recommender.label("y") == "A film about bread"


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_say_what_was_meant(recommender, name):
    mistake, words = MISTAKES[name]
    with pytest.raises(LLMInterestError) as error:
        mistake(recommender, recommender.start("u1"))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_state_of_another_model_is_refused_by_each_method(recommender):
    from dataclasses import replace

    state = replace(recommender.start("u1"), model="0" * 64)
    for ask in (
        lambda: recommender.update(state, "i1"),
        lambda: recommender.recommend(state),
        lambda: recommender.interests(state),
        lambda: recommender.forecast(state, 1),
        lambda: recommender.explain(state, "i1"),
        lambda: recommender.score(state, "i1"),
        lambda: recommender.save(state, "state"),
    ):
        with pytest.raises(StateError, match="another model"):
            ask()
