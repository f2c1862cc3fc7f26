"""The sampled next-item loss: what is drawn, what it weighs, and that it is the loss over all items on average."""

from __future__ import annotations

import copy

import pytest
import torch
from recbole.utils import get_trainer

from recbole_llm_interest.model.item_bias import ItemBias
from recbole_llm_interest.model.losses import next_item_loss
from recbole_llm_interest.model.negative_sampling import NegativeSampler
from recbole_llm_interest.model.scoring import ScoringRule

COUNTS = torch.tensor([0, 40, 1, 7, 0, 3, 12, 1, 25, 2, 9])  # item 4 is never chosen


@pytest.mark.slow
def test_how_often_an_item_is_drawn_is_what_its_weight_says():
    torch.manual_seed(0)
    sampler = NegativeSampler(COUNTS, 6)
    drawn = torch.zeros(len(COUNTS))
    for _ in range(4000):
        drawn[sampler().ids] += 1
    expected = sampler.log_probability(torch.arange(len(COUNTS))).exp()
    assert drawn[4] == 0
    trained = COUNTS > 0
    assert torch.allclose((drawn / 4000)[trained], expected[trained].float(), atol=0.03)
    assert float(expected[1]) > 2 * float(expected[2])


def test_candidates_are_those_of_the_batch_and_those_drawn_and_only_these_are_rivals():
    torch.manual_seed(0)
    sampler = NegativeSampler(COUNTS, 2)
    for _ in range(20):  # what one draw has left in the table, the next has to clear
        candidates = sampler(torch.tensor([[3, 5], [5, 0]]))
        places = candidates.index_of[candidates.ids]
        assert places.tolist() == list(range(len(candidates.ids)))
        assert int((candidates.index_of > 0).sum()) == len(candidates.ids) - 1
        assert {0, 3, 5} <= set(candidates.ids.tolist())
        assert candidates.logit_correction[0] == -torch.inf
        assert 1 <= int(candidates.logit_correction.isfinite().sum()) <= 2


@pytest.mark.parametrize("draws", [None, 9, 1000])
def test_as_many_draws_as_there_are_items_are_all_of_them(draws):
    candidates = NegativeSampler(COUNTS, draws)(torch.tensor([3]))
    assert candidates.ids.tolist() == [0, *(COUNTS > 0).nonzero().squeeze(1).tolist()]
    assert candidates.logit_correction.tolist() == [-torch.inf] + [0.0] * 9


def test_sampled_softmax_has_the_sum_of_the_full_one_on_average():
    """The target beside all others, at weights that make up for those which were not drawn."""
    torch.manual_seed(0)
    count = 200
    counts = torch.randint(1, 50, (count + 1,))
    counts[0] = 0
    sampler = NegativeSampler(counts, 60)
    items, interest = torch.randn(count + 1, 8), torch.randn(2, 8)
    target = torch.tensor([[1], [150]])
    bonus = ItemBias(torch.randint(1, count, (2, 3)), torch.tensor([0.3, -0.2, 0.1]))
    no_padding = torch.where(torch.arange(count + 1) > 0, 0.0, -torch.inf)
    full = torch.stack([
        next_item_loss(interest[[row]], items, target[row], ScoringRule(0.5), ItemBias(bonus.items[[row]], bonus.bias),
                       logit_correction=no_padding)
        for row in range(2)
    ])  # fmt: skip
    sums, losses = [], []
    for _ in range(500):
        ids, logit_correction, places = sampler(target, bonus.items)
        # one row at a time: their mean would hide what each is
        loss = torch.stack([
            next_item_loss(interest[[row]], items[ids], places[target[row]], ScoringRule(0.5),
                           ItemBias(places[bonus.items[[row]]], bonus.bias), logit_correction=logit_correction)
            for row in range(2)
        ])  # fmt: skip
        losses.append(loss)
        sums.append(loss.exp())  # the softmax' sum, by the target's share of it
    assert torch.allclose(torch.stack(sums).mean(dim=0), full.exp(), rtol=0.05)
    assert torch.allclose(torch.stack(losses).mean(dim=0), full, atol=0.1)


def test_target_is_no_rival_of_its_own_however_it_was_drawn():
    torch.manual_seed(0)
    items, interest = torch.randn(4, 3), torch.randn(1, 3)
    of_others = torch.tensor([-torch.inf, 0.7, 0.2, 0.4])
    for weight in (-torch.inf, 0.0, 5.0):
        logit_correction = of_others.clone()
        logit_correction[2] = weight
        scores = torch.nn.functional.cosine_similarity(interest, items) / 0.3
        rivals = torch.stack([scores[1] + 0.7, scores[2], scores[3] + 0.4])
        loss = next_item_loss(interest, items, torch.tensor([2]), ScoringRule(0.3), logit_correction=logit_correction)
        assert torch.allclose(loss, torch.logsumexp(rivals, 0) - scores[2], atol=1e-5)


def test_gradients_of_a_weighted_loss_are_those_of_autograd():
    torch.manual_seed(0)
    interest = torch.randn(6, 5, dtype=torch.double, requires_grad=True)
    items = torch.randn(9, 5, dtype=torch.double, requires_grad=True)
    bonus = torch.randn(2, dtype=torch.double, requires_grad=True)
    target, few = torch.randint(1, 9, (6,)), torch.randint(1, 9, (6, 2))
    logit_correction = torch.randn(9, dtype=torch.double)
    logit_correction[[0, 3]] = -torch.inf
    scores = torch.nn.functional.cosine_similarity(interest[:, None], items, dim=-1)
    scores = (scores.scatter_add(1, few, bonus.expand(6, 2))) / 0.4
    is_target = torch.nn.functional.one_hot(target, 9).bool()
    naive = -(torch.where(is_target, scores, scores + logit_correction).log_softmax(dim=1)[is_target]).mean()
    loss = next_item_loss(
        interest, items, target, ScoringRule(0.4), ItemBias(few, bonus), logit_correction=logit_correction
    )
    assert torch.allclose(loss, naive)
    ours, expected = (torch.autograd.grad(value, (interest, items, bonus)) for value in (loss, naive))
    assert all(torch.allclose(a, b, atol=1e-8) for a, b in zip(ours, expected, strict=True))


def test_loss_with_every_item_drawn_is_the_full_loss(built, monkeypatch):
    """The whole way through: which items are fused, where they stand, and what the history says of each."""
    objectives = {f"ssl_{name}_weight": 1.0 for name in ("future", "backward", "masked_item")}
    options = {"target_horizon": 2, "content_neighbours": 5, **objectives}
    _, full, _, train, *_ = built(**options)
    _, sampled, *_ = built(loss_candidates=5, **options)
    sampled.load_state_dict(full.state_dict())
    sampler = sampled.negative_sampler
    monkeypatch.setattr(sampler, "_draw", lambda: sampler.trained)
    monkeypatch.setattr(sampler, "log_probability", lambda items: torch.zeros(items.shape))
    batch, losses = next(iter(train)), []
    for model in (full, sampled):
        model.history_bias.repeat.bias.data.copy_(torch.arange(6) / 10)
        model.history_bias.neighbour.bias.data.copy_(torch.arange(24).view(1, 4, 6) / 50)
        model.eval()
        torch.manual_seed(0)
        losses.append(torch.stack(model.calculate_loss(batch)))
        losses[-1].sum().backward()
    assert torch.allclose(*losses)
    gradients = dict(sampled.named_parameters())
    for name, parameter in full.named_parameters():
        assert torch.allclose(parameter.grad, gradients[name].grad.to_dense(), atol=1e-6), name


def test_only_items_of_the_batch_and_those_drawn_are_represented(built, monkeypatch):
    _, model, _, train, *_ = built(loss_candidates=1, train_batch_size=4, MAX_ITEM_LIST_LENGTH=4)
    asked = []
    original = model.item_encoder.forward
    monkeypatch.setattr(model.item_encoder, "forward", lambda rows=None: asked.append(rows) or original(rows))
    batch = next(iter(train))
    sum(model.calculate_loss(batch)).backward()
    of_batch = {*batch["item_id_list"].flatten().tolist(), *batch["next_item_id_list"].flatten().tolist()}
    assert of_batch <= set(asked[0].tolist())
    assert len(asked[0]) <= len(of_batch) + 2
    assert model.item_encoder.id_embedding.weight.grad.is_sparse


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [{}, {"ssl_views_weight": 0.1, "ssl_backward_weight": 0.5}])
def test_a_sampled_loss_learns_what_follows_what(built, overrides):
    """Two rivals a step instead of seven: a walk with a known next step is learnt all the same."""
    config, model, _, train, _, test = built(epochs=40, learning_rate=0.02, dropout_prob=0.0, topk=[1],
                                             valid_metric="NDCG@1", loss_candidates=2, **overrides)  # fmt: skip
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train, None, saved=False, verbose=False)
    assert trainer.evaluate(test, load_best_model=False)["recall@1"] > 0.8


def test_a_copy_of_the_model_shares_its_frozen_features(built):
    """RecBole copies the model to count its operations: the features may be most of the memory there is."""
    _, model, *_ = built()
    copied = copy.deepcopy(model)
    for side in ("item_encoder", "user_encoder"):
        ours, theirs = (getattr(each, side).features["text"].values for each in (model, copied))
        assert ours.data_ptr() == theirs.data_ptr()
    assert copied.item_encoder.id_embedding.weight.data_ptr() != model.item_encoder.id_embedding.weight.data_ptr()
    assert copied.item_encoder is not model.item_encoder
