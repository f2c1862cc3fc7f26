"""One scoring rule: every caller gives the same score for the same history and item."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import SUBJECTS
from recbole.data.interaction import Interaction

from recbole_llm_interest.export.programs import programs_of
from recbole_llm_interest.model.history_bias import Histories
from recbole_llm_interest.model.losses import next_item_loss
from recbole_llm_interest.model.scoring import ItemTable, ScoringRule
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.recommender.search import ApproximateIndex, exact_best
from recbole_llm_interest.recommender.trained import Trained

HISTORY = ["i3", "i0", "i3", "i6"]


BARE = {"repeat_bias": False, "repeat_context": False, "content_neighbours": 0}


@pytest.fixture(params=[
    {}, {"score": "dot"}, {"fusion": "late"}, BARE, {"transition_neighbours": 0}, {**BARE, "transition_neighbours": 0},
])  # fmt: skip
def scored(request, built):
    """A model whose biases are not zero, its data set, and a recommender that serves it."""
    _, model, dataset, *_ = built(
        "LLMInterest",
        **{"text_encoder": "hashing", "transition_neighbours": 5, "repeat_context": True, **request.param},
    )
    torch.manual_seed(3)
    for parameter in model.history_bias.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.eval()
    tokens = [str(token) for token in dataset.field2id_token["item_id"]]
    users = {str(token): row for row, token in enumerate(dataset.field2id_token["user_id"]) if row}
    trained = Trained(model, tokens, users, 6, {}, {}, None, None, no_histories, no_histories)
    return model, dataset, Recommender(trained)


def no_histories(users):
    return [([], []) for _ in users]


def histories(model, dataset):
    item_seq = torch.tensor([[dataset.token2id("item_id", item) for item in HISTORY] + [0, 0]])
    user = torch.tensor([dataset.token2id("user_id", "u1")])
    return {model.ITEM_SEQ: item_seq, model.ITEM_SEQ_LEN: torch.tensor([len(HISTORY)]), model.USER_ID: user}


def naive_scores(model, fields):
    """The formula, item by item: cosine or dot product, plus the history's biases, over the temperature."""
    item_seq, last = fields[model.ITEM_SEQ], fields[model.ITEM_SEQ_LEN] - 1
    items = model.item_encoder.table()
    interest = model(item_seq, model.initial_state(fields[model.USER_ID]), items)[0, int(last)]
    histories = Histories(item_seq, lambda: F.embedding(item_seq, items), model.item_encoder.neighbours_of)
    bias = model.history_bias.after(histories, last, interest[None])
    temperature = model.scoring_rule.temperature
    scores = []
    for row, item in enumerate(items):
        score = interest @ item if temperature is None else F.cosine_similarity(interest, item, dim=0)
        if bias is not None:
            score = score + bias.bias.expand_as(bias.items)[bias.items == row].sum()
        scores.append(score / (temperature or 1.0))
    return torch.stack(scores)[1:], interest, bias


@torch.no_grad()
def test_all_callers_give_the_same_scores(scored):
    model, dataset, recommender = scored
    fields = histories(model, dataset)
    expected, interest, bias = naive_scores(model, fields)
    rows = torch.arange(1, len(expected) + 1)
    found = {"evaluation": model.full_sort_predict(Interaction(fields))[0, 1:]}
    each = Interaction({name: values.expand(len(rows), *values.shape[1:]) for name, values in fields.items()})
    each.update(Interaction({model.ITEM_ID: rows}))
    found["one item at a time"] = model.predict(each)

    state = recommender.start("u1", history=HISTORY)
    tokens = [str(token) for token in dataset.id2token("item_id", rows)]
    found["live"] = torch.tensor([recommender._live.score(query_of(recommender, state), int(row)) for row in rows])
    best = dict(recommender.recommend(state, len(tokens)))
    found["recommendation"] = torch.tensor([best[token] for token in tokens])
    query = query_of(recommender, state)
    for name, (scores, order) in {
        "search": exact_best(query, recommender.items.blocks(), len(rows)),
        "index": ApproximateIndex(recommender.items, 1).best(query, len(rows)),
    }.items():
        found[name] = scores[0, order[0].argsort()]
    explained = [recommender.explain(state, token) for token in tokens]
    found["explanation"] = torch.tensor([sum(part.points for part in it.of_item) for it in explained])

    program = programs_of(model)["score"]
    inputs = {"item_seq": fields[model.ITEM_SEQ], "item_seq_len": fields[model.ITEM_SEQ_LEN]}
    for name, features in model.user_encoder.content.items():
        inputs[f"user_{name}"] = features.values[fields[model.USER_ID]]
        inputs[f"has_user_{name}"] = features.present[fields[model.USER_ID]]
    found["exported program"] = program(inputs)["scores"][0, 1:]

    # the loss of a target is its log-softmax: differences of losses are differences of scores
    items, target = model.item_encoder.table()[1:], torch.arange(len(rows))
    shifted = None
    if bias is not None:
        shifted = bias.renumbered((torch.arange(len(items) + 1) - 1).clamp(min=0))
        shifted = shifted._replace(bias=bias.bias.where(bias.items > 0, 0.0))
    losses = torch.stack([
        next_item_loss(interest[None], items, target[[row]], model.scoring_rule, shifted) for row in range(len(rows))
    ])  # fmt: skip
    found["training"] = (losses[0] - losses) + expected[0]
    for caller, scores in found.items():
        assert torch.allclose(scores, expected, atol=2e-4), caller


def query_of(recommender, state):
    return recommender._live.query(state.interest, state.events, state.length, recommender.items.removed[None])


def test_scores_of_a_table_are_cosines_over_the_temperature():
    torch.manual_seed(0)
    items, interest = torch.randn(len(SUBJECTS), 4), torch.randn(2, 4)
    scores = ItemTable.of(items, ScoringRule(0.25)).scores(interest)
    assert scores[:, 0].tolist() == [-torch.inf, -torch.inf]
    assert torch.allclose(scores[:, 1:], F.cosine_similarity(interest[:, None], items[None, 1:], dim=2) / 0.25)
