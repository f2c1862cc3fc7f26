"""What the time of an event says: right for any clock, the same after a file's order or unit changes, and learnt."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import recbole
import torch
from conftest import write_dataset
from recbole.utils import get_trainer

from recbole_llm_interest.content.event_times import TIME_FEATURES, time_feature
from recbole_llm_interest.errors import DataError

UTC = datetime.UTC


def test_gaps_go_by_powers_of_two_and_by_user():
    gaps = [0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 1e3, 1e30]
    times = np.concatenate([[5.0], 5.0 + np.cumsum(gaps), [7.0, 7.0]])
    users = np.array([4] * 9 + [9] * 2)
    expected = [1, 2, 2, 3, 4, 4, 5, 12, 49, 1, 2]
    assert time_feature("gap", times, users).tolist() == expected
    shuffled = np.random.default_rng(0).permutation(9)  # the last two are of the same time: the first one is the file's
    assert time_feature("gap", times[shuffled], users[shuffled]).tolist() == np.array(expected)[shuffled].tolist()


@pytest.mark.parametrize("unit", [1, 1000])
def test_hours_and_weekdays_are_those_of_the_calendar(unit):
    moments = [
        datetime.datetime(2026, 1, 1, tzinfo=UTC) + datetime.timedelta(hours=7 * n, minutes=59) for n in range(99)
    ]
    times = np.array([moment.timestamp() * unit for moment in moments])
    users = np.zeros(99, dtype=np.int64)
    assert time_feature("hour", times, users).tolist() == [1 + moment.hour for moment in moments]
    assert time_feature("weekday", times, users).tolist() == [moment.isoweekday() for moment in moments]


def test_a_calendar_needs_a_clock(built):
    """The cycle's times count events from 0."""
    with pytest.raises(DataError, match="'weekday' needs times in seconds or milliseconds since 1970"):
        built(time_features=["weekday"])


@pytest.mark.slow
@pytest.mark.parametrize("name", TIME_FEATURES)
def test_histories_carry_the_times_of_their_own_events(built, name):
    """On ml-100k, whose times RecBole scales to [0, 1], which would leave no clock and no seconds."""
    _, _, data, train, _, test = built("LLMInterest", "ml-100k", time_features=[name], modalities=[], topk=[3])
    path = Path(recbole.__file__).parent / "dataset_example" / "ml-100k" / "ml-100k.inter"
    events = pd.read_csv(path, sep="\t", dtype=str)
    times = events["timestamp:float"].astype(float).to_numpy()
    users = pd.factorize(events["user_id:token"])[0]
    of_event = dict(zip(zip(events["user_id:token"], events["item_id:token"], strict=True),
                        time_feature(name, times, users).tolist(), strict=True))  # fmt: skip
    rows = next(iter(test))[0]
    checked = 0
    for user, items, values in zip(rows["user_id"], rows["item_id_list"], rows[f"time_{name}_list"], strict=True):
        token = data.id2token("user_id", int(user))
        ones = events["user_id:token"] == token
        # events of one second have no order but the file's
        tied = set(events["item_id:token"][ones][pd.Series(times[ones], ones.index[ones]).duplicated(keep=False)])
        for item, value in zip(items.tolist(), values.tolist(), strict=True):
            if item == 0:
                assert value == 0
            elif name != "gap" or data.id2token("item_id", item) not in tied:
                assert of_event[token, data.id2token("item_id", item)] == value
                checked += 1
    assert checked > 1000
    assert f"time_{name}" not in rows.columns
    assert {f"time_{name}_list"} <= set(next(iter(train)).columns)


@pytest.mark.slow
def test_what_only_the_gap_tells_is_learnt(built, here):
    """After a short break users go on to the next item, after a long one they start again."""
    generator = np.random.default_rng(0)
    events = []
    for user in range(150):
        item, time = 0, 0.0
        for _ in range(12):
            is_long = generator.random() < 0.5
            following, later = (item + 1) % 8, time + (5000.0 if is_long else 3.0)
            events += [(f"u{user}", f"i{item}", time), (f"u{user}", f"i{following}", later)]
            item, time = 0 if is_long else (following + 1) % 8, later + 60.0
        events.append((f"u{user}", f"i{item}", time))
    write_dataset(here / "data", "breaks", events)
    recall = {}
    for features in ([], ["gap"]):
        config, model, _, train, valid, test = built("LLMInterest", "breaks", time_features=features, modalities=[],
                                                     epochs=12, learning_rate=0.01, topk=[1], valid_metric="NDCG@1",
                                                     MAX_ITEM_LIST_LENGTH=30, dropout_prob=0.0)  # fmt: skip
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        trainer.fit(train, valid, saved=False, verbose=False)
        recall[bool(features)] = trainer._valid_epoch(test)[0]
    assert recall[True] > recall[False] + 0.2


def test_unknown_times_change_nothing(built):
    """A model with time features serves histories whose times nobody knows."""
    _, model, _, _, _, test = built(time_features=["gap"])
    torch.nn.init.normal_(model.event_encoder.times["gap"].weight)
    with torch.no_grad():
        model.event_encoder.times["gap"].weight[0] = 0
    model.eval()
    rows = next(iter(test))[0]
    items, state = model.item_encoder.table(), model.initial_state(rows["user_id"])
    unknown = {"time_gap": torch.zeros_like(rows["item_id_list"])}
    assert torch.equal(model(rows["item_id_list"], state, items), model(rows["item_id_list"], state, items, unknown))
    assert not torch.allclose(
        model(rows["item_id_list"], state, items),
        model(rows["item_id_list"], state, items, {"time_gap": rows["time_gap_list"]}),
    )
