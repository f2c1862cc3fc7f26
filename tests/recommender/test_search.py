"""The best items of many users, who are scored on some items at a time, are those of a full sort."""

from __future__ import annotations

import pytest
import torch

from recbole_llm_interest.model.item_bias import ItemBias
from recbole_llm_interest.model.scoring import logits
from recbole_llm_interest.recommender.catalog import Catalog
from recbole_llm_interest.recommender.search import Query, exact_best


@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize(("users", "items"), [(1, 70_000), (65, 20_000), (600, 9_000)])
def test_best_of_many_users_are_those_of_a_full_sort(users, items, k):
    draw = torch.Generator().manual_seed(users)
    table = torch.randn(items, 8, generator=draw, dtype=torch.float64)
    catalog = Catalog([f"i{row}" for row in range(items)], table)
    biased = torch.randint(1, items, (users, 5), generator=draw)
    bias = ItemBias(biased, torch.randn(users, 5, generator=draw, dtype=torch.float64) * 3)
    excluded = torch.cat([torch.zeros(users, 1, dtype=torch.long), biased[:, :2]], dim=1)
    interest = torch.randn(users, 8, generator=draw, dtype=torch.float64)
    scores, rows = exact_best(Query(interest, bias, excluded), catalog.blocks(), k)
    expected = logits(interest, catalog.factors(torch.arange(items)), bias)
    expected.scatter_(1, excluded, -torch.inf)
    best = expected.topk(k, dim=1)
    assert torch.allclose(scores, best.values)
    assert torch.equal(rows, best.indices)
