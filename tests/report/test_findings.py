"""The result in sentences: it names the best model, its lead and the chance of it, and does not say more than that."""

from __future__ import annotations

from dataclasses import replace

import torch

from recbole_llm_interest.evaluation.comparison import summarize
from recbole_llm_interest.evaluation.metrics import event_gains
from recbole_llm_interest.evaluation.results import RunResult
from recbole_llm_interest.report.findings import finding_notes, findings, p_text

GOOD = [1, 2, 1, 0, 1] * 20
FAIR = [3, 0, 5, 0, 2] * 20
POOR = [0, 0, 9, 0, 0] * 20


def run(variant, ranks, model=None, filtered=None, **changes):
    test = {"ndcg@10": float(event_gains("ndcg", torch.tensor(ranks), 10).mean())}
    if filtered:
        test["filtered_ndcg@10"] = float(event_gains("ndcg", torch.tensor(filtered), 10).mean())
    plain = RunResult(
        variant=variant, model=model or variant, dataset="d", seed=1, test=test, valid_metric="NDCG@10", best_valid=0.5,
        epochs=3, seconds_per_epoch=1.0, parameters=7, test_events=len(ranks), candidates="all 9 items",
        test_digest="x", checkpoint="saved/a.safetensors", log="log/a.log", ranks=ranks, filtered_ranks=filtered or [],
    )  # fmt: skip
    return replace(plain, **changes)


def text(results):
    (finding,) = findings(results)
    return " ".join(finding.sentences)


def test_the_best_its_lead_and_its_chance_are_named():
    results = [run("LLMInterest", GOOD), run("GRU4Rec", FAIR), run("Pop", POOR)]
    best, following = (run.test["ndcg@10"] for run in results[:2])
    p = summarize(results)[1].p_values
    assert text(results) == (
        f"LLMInterest did best: NDCG@10 {best:.4f} over 100 test events. The next, and the best of RecBole's own "
        f"models, is GRU4Rec with {following:.4f}: the lead is {best - following:.4f} ({best / following - 1:+.0%}), "
        f"which is unlikely to be chance ({p_text(max(p.t, p.wilcoxon))}). In 80.0% of the tests, the item that came "
        "next was among the first 10 that LLMInterest recommended, and in 60.0% among those of GRU4Rec."
    )


def test_the_order_of_the_rows_does_not_matter():
    results = [run("LLMInterest", GOOD), run("GRU4Rec", FAIR), run("Pop", POOR)]
    assert text(results[::-1]) == text(results)


def test_a_lead_that_may_be_chance_is_called_so():
    lucky = [*FAIR[:-1], 1]
    said = text([run("LLMInterest", lucky), run("GRU4Rec", FAIR)])
    assert said.startswith("LLMInterest is first, but not for certain: ")
    assert "which may be chance (p = .3" in said
    assert "did best" not in said


def test_a_model_of_this_package_that_is_behind_is_named():
    said = text([run("LLMInterest", POOR), run("GRU4Rec", GOOD), run("SASRec", FAIR)])
    assert said.startswith("GRU4Rec did best: ")
    assert "The next is SASRec with" in said
    assert "This package's model is LLMInterest with" in said


def test_the_best_stock_model_is_named_behind_models_of_this_package():
    rows = [("LLMInterest", GOOD, None), ("IDs only", FAIR, "LLMInterest"), ("VSKNN", FAIR, None), ("Pop", POOR, None)]
    said = text([run(variant, ranks, model) for variant, ranks, model in rows])
    assert "The next is IDs only with" in said
    assert "The best of RecBole's own models is Pop with" in said


def test_each_protocol_has_its_own_result():
    results = [run("LLMInterest", GOOD, filtered=FAIR), run("GRU4Rec", FAIR, filtered=GOOD)]
    kept, filtered = findings(results)
    assert (kept.protocol, filtered.protocol) == ("Seen items kept", "Seen items filtered")
    assert kept.sentences[0].startswith("LLMInterest did best")
    assert filtered.sentences[0].startswith("GRU4Rec did best")


def test_nothing_is_called_better_that_is_not_tested_alike():
    other = run("Pop", POOR, test_digest="y")
    assert text([run("LLMInterest", GOOD), other]).endswith("none of them can be called better.")
    assert text([run("LLMInterest", GOOD)]).endswith("The table has no other model to compare it with.")
    untested = text([replace(run("LLMInterest", GOOD), ranks=[]), replace(run("Pop", POOR), ranks=[])])
    assert untested.startswith("LLMInterest is first: ")
    assert "not tested for chance" in untested
    assert "p =" not in untested


def test_notes_say_whether_trainings_were_repeated():
    once = [run("LLMInterest", GOOD), run("Pop", POOR)]
    assert "p does not cover how much a new training varies" in finding_notes(once)[-1]
    twice = [*once, *(replace(result, seed=2) for result in once)]
    assert "means of 2 trainings" in finding_notes(twice)[-1]
