"""Full ranking: metrics equal RecBole's to the last digit, and a setting bounds the memory."""

from __future__ import annotations

import importlib.util
import random

import pytest
import torch
from conftest import write_dataset
from recbole.data.interaction import Interaction
from recbole.evaluator import Collector
from recbole.utils import get_trainer

METRICS = ["Recall", "MRR", "NDCG", "Hit", "MAP", "Precision", "GAUC"]


def stock_collector():
    """Return RecBole's unpatched class, from a second import of its module."""
    spec = importlib.util.find_spec("recbole.evaluator.collector")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Collector


# --- RecBole's figures


@pytest.mark.parametrize("positives", [1, 4])
def test_collected_values_equal_recboles_bit_for_bit(built, positives):
    """Rows have several positives, some twice; scores have ties; some items are not candidates."""
    config, *_ = built(metrics=["Recall", "ItemCoverage", "NDCG", "GAUC"], topk=[3, 5], valid_metric="NDCG@3")
    generator = torch.Generator().manual_seed(positives)
    collected = []
    batches = []
    for _ in range(3):
        scores = torch.randint(9, (17, 30), generator=generator).float()
        scores[:, 0] = -torch.inf
        scores[3, 7:12] = -torch.inf
        rows = torch.arange(17).repeat_interleave(positives)
        batches.append((scores, rows, torch.randint(12, 30, rows.shape, generator=generator)))
    for kind in (Collector, stock_collector()):
        collector = kind(config)
        for scores, rows, items in batches:
            users = Interaction({"user_id": torch.arange(17)})
            collector.eval_batch_collect(scores.clone(), users, rows, items)
        collected.append(collector.get_data_struct())
    for key in ("rec.items", "rec.topk", "rec.meanrank"):
        ours, stock = (struct[key] for struct in collected)
        assert torch.equal(ours, stock), key
        assert ours.dtype == stock.dtype


LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
BY_RATIO = {"split": {"RS": [0.4, 0.2, 0.4]}, "order": "TO", "group_by": "user", "mode": "full"}


@pytest.mark.parametrize("topk", [[1], [3, 7]])
@pytest.mark.parametrize(
    ("model", "split"),
    [("LLMInterest", LEAVE_ONE_OUT), ("GRU4Rec", LEAVE_ONE_OUT), ("FPMC", LEAVE_ONE_OUT), ("Pop", LEAVE_ONE_OUT),
     ("BPR", BY_RATIO), ("ItemKNN", BY_RATIO), ("Pop", BY_RATIO)],
)  # fmt: skip
def test_metrics_equal_recboles_to_the_last_digit(built, here, model, split, topk):
    """Pop and ItemKNN have ties at every rank; a split by ratio has several positives per user.

    The figures without seen items are those that RecBole's collector has where its trainer removes the same items.
    """
    chance = random.Random(2)
    events = [(f"u{u}", f"i{chance.randint(0, 30)}", 100.0 * u + s) for u in range(40) for s in range(9)]
    write_dataset(here / "data", "walks", events)
    settings = {
        **{"eval_args": split, "topk": topk, "metrics": METRICS, "valid_metric": f"NDCG@{topk[0]}", "epochs": 1},
        **{"metric_decimal_place": 15, "eval_batch_size": 100, "repeatable": True, "modalities": []},
    }
    config, net, _, train, valid, test = built(model, "walks", **settings)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, net)
    trainer.fit(train, valid, saved=False)
    ours = trainer.evaluate(test, load_best_model=False)
    trainer.eval_collector = stock_collector()(config)
    stock = trainer.evaluate(test, load_best_model=False)
    assert {name: value for name, value in ours.items() if not name.startswith("filtered_")} == stock
    assert len(stock) == len(topk) * (len(METRICS) - 1) + 1
    assert any(0 < value < 1 for value in stock.values())
    *_, filtered_test = built(model, "walks", **settings, seen_items="filtered")
    stock = trainer.evaluate(filtered_test, load_best_model=False)
    filtered = {f"filtered_{name}": value for name, value in stock.items() if name != "gauc"}  # below 0 for seen items
    expected = filtered if split is LEAVE_ONE_OUT else {}
    assert {name: value for name, value in ours.items() if name in filtered} == expected


@pytest.mark.parametrize("metric", ["NDCG@3", "filtered_NDCG@3"])
def test_best_epoch_is_chosen_by_either_kind_of_candidates(built, here, metric):
    chance = random.Random(4)
    write_dataset(
        here / "data", "walks", [(f"u{u}", f"i{chance.randint(0, 20)}", s) for u in range(30) for s in range(9)]
    )
    settings = {"eval_args": LEAVE_ONE_OUT, "valid_metric": metric, "epochs": 3, "modalities": []}
    config, net, _, train, valid, _ = built("LLMInterest", "walks", **settings, metric_decimal_place=12)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, net)
    scores = []
    validate = trainer._valid_epoch
    trainer._valid_epoch = lambda *given, **named: scores.append(validate(*given, **named)) or scores[-1]
    best, _ = trainer.fit(train, valid, saved=False)
    assert best == max(result[metric.lower()] for _, result in scores)
    assert all(score == result[metric.lower()] for score, result in scores)
    assert any(result["ndcg@3"] != result["filtered_ndcg@3"] for _, result in scores)


def test_metrics_without_ranking_are_computed(built, here):
    """Without ranking, RecBole passes no positives to the collector."""
    config, model, _, train, _, test = built(
        "FM", metrics=["RMSE", "MAE"], valid_metric="RMSE", LABEL_FIELD="label", threshold={"timestamp": 12_000},
        eval_args={"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": None, "mode": "labeled"},
    )  # fmt: skip
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train, saved=False)
    assert set(trainer.evaluate(test, load_best_model=False)) == {"rmse", "mae"}


# --- bounded memory


def rows_of_scores(trainer, data):
    """Return the number of rows of scores of each batch of an evaluation, and the result."""
    rows = []
    collect = trainer.eval_collector.eval_batch_collect

    def watched(scores, *rest):
        rows.append(len(scores))
        return collect(scores, *rest)

    trainer.eval_collector.eval_batch_collect = watched
    result = trainer.evaluate(data, load_best_model=False)
    return rows, result


@pytest.mark.parametrize("mode", ["full", "uni5"])
@pytest.mark.parametrize("model", ["LLMInterest", "SASRec", "BPR", "DIN"])
def test_batches_respect_eval_scores_mb(built, here, model, mode):
    events = [(f"u{u}", f"i{(7 * u + s) % 50}", 100.0 * u + s) for u in range(40) for s in range(6)]
    write_dataset(here / "data", "wide", events)
    split = {**LEAVE_ONE_OUT, "mode": mode}
    # RecBole repeats the history for each item that DIN scores, which takes most of the memory
    # (8 bytes for each id, length and end of a history, 4 for each time, 6 of each in a history)
    cost = 51 * (4 + (8 * (5 + 6) + 4 * (1 + 6) if model == "DIN" and mode == "full" else 0))
    results = {}
    for rows in (40, 7, 1):
        config, net, _, _, _, test = built(
            model, "wide", eval_args=split, eval_scores_mb=(rows + 0.5) * cost / 2**20, repeatable=True
        )  # fmt: skip
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, net)
        sizes, results[rows] = rows_of_scores(trainer, test)
        assert sum(sizes) == 40
        assert max(sizes) <= rows
        if rows == 7:
            assert max(sizes) >= 5
    if mode == "full":  # sampled candidates differ between batches
        assert results[40] == results[7] == results[1]
