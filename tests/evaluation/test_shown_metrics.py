"""Metrics of chosen items among those that were shown: equal to plain counts, and a choice of the best epoch."""

from __future__ import annotations

import json
import random

import pytest
import torch
from conftest import write_dataset
from sklearn.metrics import roc_auc_score

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.evaluation.collector import SHOWN_SCORES
from recbole_llm_interest.evaluation.shown_metrics import ShownAUC, ShownGAUC
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.training.comparison import run

SHOWN = {
    "text_encoder": "hashing",
    "shown_field": "shown",
    "metrics": ["NDCG", "ShownAUC", "ShownGAUC"],
    "valid_metric": "ShownGAUC",
}


def write_shelf(here):
    """Users choose one of up to four items that are shown; of some events, nothing is known."""
    chance = random.Random(1)
    events, rows = [], []
    for user in range(30):
        for step in range(6):
            shown = [f"i{n}" for n in chance.sample(range(12), chance.randint(2, 4))]
            events.append((f"u{user}", shown[0], float(100 * user + step)))
            if chance.random() < 0.8:
                row = {"user_id": f"u{user}", "item_id": shown[0], "timestamp": events[-1][2], "shown": shown[1:]}
                rows.append(row)
    write_dataset(here / "data", "shelf", events, {f"i{n}": f"thing {n}" for n in range(12)})
    (here / "data" / "shelf" / "content").mkdir()
    (here / "data" / "shelf" / "content" / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def test_values_of_a_run_are_those_of_plain_counts_over_live_scores(here, settings):
    rows = write_shelf(here)
    (result,) = run(["LLMInterest"], "shelf", config_dict={**settings, **SHOWN, "epochs": 2})
    recommender = Recommender.load(result.checkpoint)
    labels, scores, within = [], [], []
    for row in rows:
        if row["timestamp"] % 100 == 5:
            history = [item for item, _ in sorted_history(here, row["user_id"])[:5]]
            state = recommender.start(row["user_id"], history=history)
            among = [row["item_id"], *row["shown"]]
            found = dict(recommender.recommend(state, len(among), candidates=among))
            of_event = [found.pop(row["item_id"]), *found.values()]
            labels += [1, *[0] * len(found)]
            scores += of_event
            within += [sum(of_event[0] > other for other in of_event[1:]) / len(of_event[1:])]
    assert len(within) > 15
    assert result.test["shownauc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-3)
    assert result.test["showngauc"] == pytest.approx(sum(within) / len(within), abs=1e-3)
    assert result.best_valid == pytest.approx(max(score for _, score in result.valid_scores))


def sorted_history(here, user):
    lines = (here / "data" / "shelf" / "shelf.inter").read_text().splitlines()[1:]
    events = [line.split("\t") for line in lines]
    return sorted(((item, float(time)) for who, item, time in events if who == user), key=lambda event: event[1])


def test_ties_count_half_and_events_without_shown_items_not_at_all():
    nan = torch.nan
    scores = torch.tensor([[1.0, 1.0, 0.0], [0.5, 2.0, nan], [3.0, nan, nan], [-torch.inf, 0.25, nan]])
    struct, config = {SHOWN_SCORES: scores}, {"metric_decimal_place": 4}
    assert ShownGAUC(config).calculate_metric(Struct(struct)) == {"showngauc": 0.25}
    # chosen 1, .5, minus infinity against 1, 0, 2, .25: 2.5 + 2 + 0 wins of 12
    assert ShownAUC(config).calculate_metric(Struct(struct)) == {"shownauc": 0.375}


class Struct(dict):
    """What RecBole's metrics read."""


@pytest.mark.parametrize("model", ["LLMInterest", "GRU4Rec"])
def test_shown_items_have_to_be_there(settings, model):
    chosen = {**settings, **SHOWN, "epochs": 1, "shown_field": None, "train_neg_sample_args": None}
    with pytest.raises(SettingsError, match=r"ShownG?AUC compares .* name them by shown_field"):
        run([model], "cycle", config_dict=chosen)


def test_items_that_only_metrics_read_change_nothing_that_is_learned(here, settings):
    write_shelf(here)
    chosen = {**settings, "text_encoder": "hashing", "event_text_fields": [], "epochs": 2}
    plain, read = (
        run(["LLMInterest"], "shelf", config_dict={**chosen, **more})[0]
        for more in ({}, {"shown_field": "shown", "metrics": [*settings.get("metrics", ["NDCG"]), "ShownAUC"]})
    )
    assert plain.losses == read.losses
    assert plain.ranks == read.ranks
