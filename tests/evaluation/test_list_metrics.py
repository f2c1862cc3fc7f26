"""Metrics of the lists beyond accuracy, against naive references, and for every type of model."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from conftest import SUBJECTS, cycle_events, write_dataset
from sklearn.feature_extraction.text import TfidfVectorizer

from recbole_llm_interest.data.item_texts import item_text_vectors
from recbole_llm_interest.evaluation.list_metrics import ContentDiversity, Novelty, is_list_metric
from recbole_llm_interest.evaluation.table import as_table
from recbole_llm_interest.training.comparison import run

BEYOND = ["Recall", "NDCG", "ItemCoverage", "GiniIndex", "Novelty", "ContentDiversity"]
CONFIG = {"topk": [3], "metric_decimal_place": 10}


def test_novelty_is_the_mean_self_information():
    lists = np.array([[1, 2, 3], [3, 4, 0]])  # the second list has two items
    counts = np.array([0, 8, 4, 2, 0])
    by_hand = [-math.log2(max(counts[item], 1) / 14) for item in (1, 2, 3, 3, 4)]
    assert Novelty(CONFIG).value(lists, counts) == pytest.approx(np.mean(by_hand))


def test_content_diversity_is_one_minus_the_mean_cosine_of_pairs():
    texts = ["", "a red door", "a blue door", "whales sing", "", "red whales", "door"]
    vectors = TfidfVectorizer(token_pattern=r"\w+").fit_transform(texts)
    lists = np.array([[1, 2, 3, 5], [4, 6, 1, 0], [4, 0, 0, 0], [4, 1, 0, 0]])
    dense = vectors.toarray()
    of_lists = []
    for chosen in lists:
        told = [item for item in chosen if item and dense[item].any()]
        if pairs := list(combinations(told, 2)):
            of_lists.append(1 - np.mean([dense[one] @ dense[other] for one, other in pairs]))
    assert len(of_lists) == 2
    assert ContentDiversity(CONFIG).value(lists, vectors) == pytest.approx(np.mean(of_lists))
    assert math.isnan(ContentDiversity(CONFIG).value(lists[2:], vectors))


def gini(counts):
    """Half the mean absolute difference of two items' counts, relative to their mean."""
    counts = np.asarray(counts, dtype=float)
    return np.abs(counts[:, None] - counts).mean() / (2 * counts.mean())


def test_pop_has_the_values_of_its_one_list(settings, here):
    """``Pop`` recommends the same three of eight items to all."""
    chance = np.random.default_rng(0)
    events = [
        (f"u{user}", f"i{item}", float(100 * user + step))
        for user in range(30)
        for step, item in enumerate(chance.choice(8, 6, p=[0.3, 0.25, 0.15, 0.1, 0.08, 0.06, 0.04, 0.02]))
    ]
    events += [(f"x{n}", f"i{item}", float(n)) for item in range(8) for n in (2 * item, 2 * item + 1)]
    titles = {f"i{n}": f"A film about {subject}" for n, subject in enumerate(SUBJECTS)}
    write_dataset(here / "data", "skewed", events, titles)
    (done,) = run(["Pop"], "skewed", config_dict={**settings, "metrics": BEYOND})
    by_user: dict[str, list[str]] = {}
    for user, item, _ in sorted(events, key=lambda event: event[2]):
        by_user.setdefault(user, []).append(item)
    counts = Counter(item for items in by_user.values() for item in (items[:-2] if len(items) > 2 else items[:1]))
    best = [item for item, _ in counts.most_common(3)]
    assert done.test["itemcoverage@3"] == pytest.approx(3 / 8, abs=1e-4)
    assert done.test["giniindex@3"] == pytest.approx(gini([30, 30, 30, 0, 0, 0, 0, 0]), abs=1e-4)
    information = [-math.log2(counts[item] / counts.total()) for item in best]
    assert done.test["novelty@3"] == pytest.approx(np.mean(information), abs=1e-4)
    vectors = TfidfVectorizer().fit_transform(f"{titles[item]}" for item in titles).toarray()
    chosen = [vectors[int(item[1:])] for item in best]
    cosines = [one @ other for one, other in combinations(chosen, 2)]
    assert done.test["contentdiversity@3"] == pytest.approx(1 - np.mean(cosines), abs=1e-4)


@pytest.mark.slow
def test_every_type_of_model_has_them(settings):
    results = run(["LLMInterest", "GRU4Rec", "BPR"], "cycle", config_dict={**settings, "metrics": BEYOND})
    for done in results:
        for name in ("itemcoverage", "giniindex", "novelty", "contentdiversity"):
            assert 0 <= done.test[f"{name}@3"] <= (1 if name != "novelty" else 10)
    assert "coverage@3" in as_table(results)


def test_texts_are_the_same_whatever_the_model_reads(built):
    """Neither the model nor its settings of content change the measure."""
    plain, other, stock = (
        item_text_vectors(built(model, **given)[2])
        for model, given in (
            ("LLMInterest", {"text_encoder": "hashing"}),
            ("LLMInterest", {"modalities": []}),
            ("GRU4Rec", {}),
        )
    )
    assert (plain != other).nnz == 0
    assert (plain != stock).nnz == 0
    assert plain[0].nnz == 0  # the padding


def test_without_texts_diversity_is_absent_and_a_line_says_so(settings, here):
    write_dataset(here / "data", "bare", cycle_events())
    (done,) = run(["Pop"], "bare", config_dict={**settings, "metrics": BEYOND})
    assert not any("contentdiversity" in metric for metric in done.test)
    assert "novelty@3" in done.test
    assert "Diversity by content is not shown: the items have no text." in as_table([done])


def test_metrics_of_lists_are_no_accuracy():
    assert all(map(is_list_metric, ("novelty@10", "filtered_giniindex@10", "itemcoverage@5", "ContentDiversity@1")))
    assert not any(map(is_list_metric, ("ndcg@10", "filtered_recallfew@10", "mrr")))
