"""The model card: names, values and results that may be anything leave its structure as it is."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from recbole_llm_interest.evaluation.results import RunResult, fingerprint
from recbole_llm_interest.recommender.card import model_card

HOSTILE = "a\n# heading\n\x1b[31m | `x` | \u202e <b>![x](http://tracker/) ```\n---\n"


@pytest.fixture
def result():
    return RunResult(
        variant="A", model="LLMInterest", dataset="tiny", seed=1, test={"ndcg@10": 0.5}, valid_metric="NDCG@10",
        best_valid=0.5, epochs=3, seconds_per_epoch=1.0, parameters=7, test_events=4, candidates="all 8 items",
        test_digest="x", checkpoint="saved/a.pth", log="log/a.log", data={"tiny.inter": "5f"},
    )  # fmt: skip


def blocks(card):
    """Types of the blocks of a card, without its front matter."""
    body = card.partition("\n---\n")[2]
    return [token.type for token in MarkdownIt("commonmark").enable("table").parse(body)]


@pytest.mark.slow
def test_hostile_values_keep_the_cards_structure(tiny_model, result):
    harmless = model_card(tiny_model, result, "mit")
    assert f"; data {fingerprint(result.data)}. License" in harmless
    odd = replace(
        result, test={HOSTILE: 0.5}, valid_metric=HOSTILE, candidates=HOSTILE, environment_info={"version": HOSTILE}
    )
    settings = {**tiny_model.origin.settings, "item_text_template": HOSTILE}
    origin = replace(tiny_model.origin, dataset=f"tiny{HOSTILE}", settings=settings)
    card = model_card(replace(tiny_model, origin=origin), odd, "mit")
    assert blocks(card) == blocks(harmless)
    body = card.partition("\n---\n")[2]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]", body)
    assert "\n# heading" not in body
