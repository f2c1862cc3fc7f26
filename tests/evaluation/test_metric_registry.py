"""Metrics and groups of events that code outside the package registers."""

from __future__ import annotations

import pytest
import torch
from recbole.evaluator import register

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.evaluation.collector import ITEM_COUNTS
from recbole_llm_interest.evaluation.comparison import estimate, summarize
from recbole_llm_interest.evaluation.metrics import EVENT_GROUPS, EVENT_METRICS, EventGroup
from recbole_llm_interest.training.comparison import run

RECBOLE_TABLES = (register.metrics_dict, register.metric_information, register.metric_types)


@pytest.fixture(autouse=True)
def _restored_registries(monkeypatch):
    for registry in (EVENT_METRICS, EVENT_GROUPS):
        monkeypatch.setattr(registry, "_members", dict(registry._members))
    before = [dict(table) for table in RECBOLE_TABLES]
    yield
    for table, entries in zip(RECBOLE_TABLES, before, strict=True):
        table.clear()
        table.update(entries)


@pytest.fixture
def hit_first():
    """The metric ``HitFirst``: the share of events whose item is ranked first."""

    @EVENT_METRICS.register("hitfirst")
    def gain(rank):
        return (rank == 1).double()


@pytest.mark.usefixtures("hit_first")
def test_registered_metric_is_reported_for_every_model(settings):
    metrics = {"metrics": ["Recall", "HitFirst", "HitFirstMany"], "valid_metric": "HitFirst@3"}
    results = run(["LLMInterest", "Pop"], "cycle", config_dict=settings | metrics)
    for result in results:
        share = sum(rank == 1 for rank in result.ranks) / result.test_events
        assert result.test["hitfirst@3"] == pytest.approx(share, abs=1e-4)
        assert result.test["hitfirst@3"] <= result.test["recall@3"]
        assert result.test["hitfirstmany@3"] == result.test["hitfirst@3"]  # all items have many training events
        assert result.best_valid is not None
        assert estimate([result], "HitFirst@3").mean == pytest.approx(share)
    assert any(result.test["hitfirst@3"] > 0 for result in results)
    assert summarize(results)[1].p_values is not None


@pytest.mark.usefixtures("hit_first")
def test_registered_group_is_reported_for_each_metric(settings):
    """Every item of this data set has more than ten training events, so that the group has all tested events."""
    EVENT_GROUPS.register("Ten")(EventGroup(ITEM_COUNTS, lambda count: count > 10))
    metrics = ["RecallTen", "HitFirstTen", "Recall", "HitFirst"]
    (result,) = run(["Pop"], "cycle", config_dict=settings | {"metrics": metrics, "valid_metric": "Recall@3"})
    for metric in ("recall", "hitfirst"):
        assert result.test[f"{metric}ten@3"] == result.test[f"{metric}@3"]
        assert estimate([result], f"{metric}@3", "Ten").events == result.test_events


def test_recboles_own_metrics_are_kept():
    for name in ("recall", "ndcg", "mrr"):
        assert register.metrics_dict[name].__module__ == "recbole.evaluator.metrics"


def test_unknown_metric_lists_the_known_ones():
    with pytest.raises(SettingsError, match="unknown metric of ranked events 'recal': did you mean 'recall'"):
        EVENT_METRICS["recal"]


def test_gains_are_zero_beyond_the_list():
    from recbole_llm_interest.evaluation.metrics import event_gains

    assert event_gains("recall", torch.tensor([0, 1, 4]), 3).tolist() == [0, 1, 0]
