"""Training further on new events: the data set grows in a copy, and the new model starts from the old one."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest
from conftest import SUBJECTS, cycle_events, write_dataset

from recbole_llm_interest.errors import DataError, LLMInterestError, RequestError
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.training.comparison import compare

#: users walk the items one by one; later, they skip every second one
LATER = [
    {"user_id": f"u{user}", "item_id": f"i{(user + 2 * step) % 8}", "timestamp": 100_000.0 + 100 * step + user}
    for step in range(8)
    for user in range(30)
]


def trained(settings, **chosen):
    quick = {"text_encoder": "hashing", "time_split": [0.8, 0.9], "epochs": 6, "dropout_prob": 0.0}
    made = compare("cycle", "LLMInterest", **{**settings, **quick, **chosen})
    return made.checkpoint("LLMInterest")


def test_it_learns_new_events_and_knows_new_users(settings, here):
    written = (here / "data" / "cycle" / "cycle.inter").read_bytes()
    former = Recommender.load(trained(settings))
    state = former.start(history=["i0", "i2", "i4"])
    before = former.score(state, "i6") - former.score(state, "i5")

    found = former.fit_more(pd.DataFrame(LATER), here / "more", epochs=8, learning_rate=0.01)

    assert (here / "data" / "cycle" / "cycle.inter").read_bytes() == written
    assert len(found.start("u29").items[0]) == 8  # who was not there before
    assert len(found.start("u0").items[0]) == 9 + 8
    state = found.start(history=["i0", "i2", "i4"])
    assert found.score(state, "i6") - found.score(state, "i5") > before
    nexts = [found.recommend(found.start(f"u{user}"), k=1)[0][0] for user in range(30)]
    assert nexts == [f"i{user % 8}" for user in range(30)]


def test_it_can_be_repeated_on_what_it_gave(settings, here):
    recommender = Recommender.load(trained(settings))
    half = len(LATER) // 2
    recommender = recommender.fit_more(LATER[:half], here / "one", epochs=1)
    recommender = recommender.fit_more(LATER[half:], here / "two", epochs=1)
    assert len(recommender.start("u0").items[0]) == 9 + 8


def test_other_files_of_the_data_set_are_links(settings, here):
    Recommender.load(trained(settings)).fit_more(LATER, here / "more", epochs=1)
    grown = here / "more" / "data" / "cycle"
    assert {path.name for path in grown.iterdir()} == {path.name for path in (here / "data" / "cycle").iterdir()}
    assert all(path.is_symlink() for path in grown.iterdir() if path.suffix != ".inter")


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([{"user_id": "u1", "timestamp": 5.0}], "no 'item_id' that"),
        ([{"user_id": "u1", "item_id": "i1"}], "no 'timestamp' that"),
    ],
)
def test_an_event_without_an_id_or_time_is_named(settings, here, events, message):
    recommender = Recommender.load(trained(settings, epochs=1))
    with pytest.raises(RequestError, match=message):
        recommender.fit_more(events, here / "more")
    assert not (here / "more" / "saved").exists()


def test_what_cannot_grow_is_refused(settings, here, tmp_path):
    recommender = Recommender.load(trained(settings, epochs=1))
    recommender.save_pretrained(tmp_path / "folder")
    with pytest.raises(RequestError, match="not loaded from a checkpoint"):
        Recommender.from_pretrained(tmp_path / "folder").fit_more(LATER, here / "more")


def test_a_setting_that_gives_weights_their_meaning_is_refused(settings, here):
    recommender = Recommender.load(trained(settings, epochs=1))
    with pytest.raises(LLMInterestError, match="hidden_size"):
        recommender.fit_more(LATER, here / "more", hidden_size=24)


def test_data_that_is_split_already_is_refused(settings, here):
    titles = {f"i{n}": f"A film about {subject}" for n, subject in enumerate(SUBJECTS)}
    events = cycle_events()
    write_dataset(here / "data", "parts", events, titles)
    folder = here / "data" / "parts"
    for part in ("train", "valid", "test"):
        shutil.copy(folder / "parts.inter", folder / f"parts.{part}.inter")
    made = compare(
        "parts", "LLMInterest", **{**settings, "text_encoder": "hashing", "epochs": 1},
        benchmark_filename=["train", "valid", "test"],
    )  # fmt: skip
    with pytest.raises(DataError, match="split already"):
        Recommender.load(made.checkpoint("LLMInterest")).fit_more(LATER, here / "more")


def test_values_that_no_column_can_hold_do_not_break_a_training(settings, here):
    inter = here / "data" / "cycle" / "cycle.inter"
    lines = inter.read_text().splitlines()
    rated = [lines[0] + "\trating:float\twords:token", *(f"{line}\t3\tgood" for line in lines[1:])]
    inter.write_text("\n".join(rated))  # the last line has no end
    events = [{**event, "rating": "abc", "words": "a\tb\n\ud800" + "x" * 300} for event in LATER]
    load = {"load_col": {"inter": ["user_id", "item_id", "timestamp", "rating", "words"]}}
    recommender = Recommender.load(trained(settings, epochs=1, **load))
    found = recommender.fit_more(events, here / "more", epochs=1, strict_data=True)
    assert len(found.start("u0").items[0]) == 9 + 8


def test_events_of_one_day_are_said(settings, here):
    recommender = Recommender.load(trained(settings, epochs=1))
    with pytest.raises(DataError, match="1 different times"):
        recommender.fit_more([{**event, "timestamp": 1e6} for event in LATER], here / "more")
