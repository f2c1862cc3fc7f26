"""The model: its losses against naive loops, its two faces against each other, and what it can learn."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SUBJECTS, cycle_events, write_dataset
from recbole.utils import get_trainer

from recbole_llm_interest.content.features import Features
from recbole_llm_interest.content.neighbours import nearest_neighbours
from recbole_llm_interest.content.whitening import fit_conditioning
from recbole_llm_interest.data.event_counts import count_training_events
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint
from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.fusion import FUSIONS
from recbole_llm_interest.model.history_bias import Histories, HistoryBias
from recbole_llm_interest.model.interest_tracker import InterestTracker
from recbole_llm_interest.model.item_bias import ItemBias
from recbole_llm_interest.model.losses import info_nce, next_item_loss
from recbole_llm_interest.model.neighbour_bias import NeighbourBias, Neighbours
from recbole_llm_interest.model.repeat_bias import RepeatBias
from recbole_llm_interest.model.scoring import ItemTable, ScoringRule, logits
from recbole_llm_interest.model.sequence_encoders import TRACKERS, AttentionReadout

# --- losses


def naive_cosine(a, b):
    return float(torch.cosine_similarity(a, b, dim=0).detach())


@pytest.mark.slow
@pytest.mark.parametrize("targets", [1, 7, 200])
@pytest.mark.parametrize("temperature", [0.1, None])
def test_next_item_loss_equals_a_naive_loop_and_so_do_its_gradients(targets, temperature):
    """Cosines or dot products, with a bonus on a few candidates, one of which comes twice."""
    torch.manual_seed(0)
    interest = torch.randn(targets, 8, dtype=torch.double, requires_grad=True)
    candidates = torch.randn(30, 8, dtype=torch.double, requires_grad=True)
    target = torch.randint(30, (targets,))
    chosen = torch.randint(30, (targets, 4))
    chosen[:, 0] = chosen[:, 1]
    bonus = torch.randn(4, dtype=torch.double, requires_grad=True)
    rows = []
    for row, had in zip(interest, chosen, strict=True):
        if temperature is None:
            scores = [row @ item for item in candidates]
        else:
            scores = [torch.cosine_similarity(row, item, 0) for item in candidates]
        for item, more in zip(had.tolist(), bonus, strict=True):
            scores[item] = scores[item] + more
        rows.append(torch.stack(scores) / (temperature or 1.0))
    naive_scores = torch.stack(rows)
    naive = -naive_scores.log_softmax(dim=1).gather(1, target[:, None]).mean()
    history = ItemBias(chosen, bonus)
    table = ItemTable.of(
        torch.cat([candidates.new_zeros(1, 8), candidates]), ScoringRule(temperature)
    )  # the padding comes first
    scores = table.scores(interest, ItemBias(chosen + 1, bonus))
    assert torch.allclose(scores[:, 1:], naive_scores)
    loss = next_item_loss(interest, candidates, target, ScoringRule(temperature), history)
    assert torch.allclose(loss, naive)
    parameters = (interest, candidates, bonus)
    ours, expected = (torch.autograd.grad(value, parameters) for value in (loss, naive))
    assert all(torch.allclose(a, b, atol=1e-8) for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize("chunk", [1, 64, 10_000])
def test_next_item_loss_does_not_depend_on_the_chunks(chunk, monkeypatch):
    torch.manual_seed(0)
    interest, items, next_items = torch.randn(300, 8), torch.randn(50, 8), torch.randint(1, 50, (300,))
    whole = next_item_loss(interest, items, next_items, ScoringRule(0.1))
    monkeypatch.setattr("recbole_llm_interest.model.losses._CHUNK_LOGITS", {"cpu": 0})
    monkeypatch.setattr("recbole_llm_interest.model.losses._MIN_CHUNK_TARGETS", chunk)
    assert torch.allclose(next_item_loss(interest, items, next_items, ScoringRule(0.1)), whole, rtol=1e-5)


def test_next_item_loss_stays_finite_where_probabilities_vanish():
    items = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    interest = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss = next_item_loss(interest, items, torch.tensor([1]), ScoringRule(0.001))  # the probability is exp(-2000)
    assert torch.allclose(loss, torch.tensor(2000.0))
    loss.backward()
    assert interest.grad.isfinite().all()


def test_next_item_loss_keeps_full_precision_under_autocast():
    torch.manual_seed(0)
    interest, items, next_items = torch.randn(20, 8), torch.randn(50, 8), torch.randint(1, 50, (20,))
    whole = next_item_loss(interest, items, next_items, ScoringRule(0.1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(next_item_loss(interest, items, next_items, ScoringRule(0.1)), whole)


@pytest.mark.parametrize("group", [[0, 1, 2, 3], [0, 0, 1, 2], [5, 5, 5, 5]])
def test_info_nce_equals_a_naive_loop_and_masks_false_negatives(group):
    torch.manual_seed(0)
    view, other, temperature = torch.randn(4, 6), torch.randn(4, 6), 0.3
    losses = []
    for a, b in ((view, other), (other, view)):
        for i in range(4):
            scores = {j: naive_cosine(a[i], b[j]) / temperature for j in range(4) if j == i or group[i] != group[j]}
            total = sum(torch.tensor(score).exp() for score in scores.values())
            losses.append(-torch.log(torch.tensor(scores[i]).exp() / total))
    alike = torch.tensor(group)[:, None] == torch.tensor(group)
    assert torch.allclose(info_nce(view, other, alike, temperature), torch.stack(losses).mean(), atol=1e-5)


def test_losses_are_the_same_under_autocast():
    torch.manual_seed(0)
    view, other, alike = torch.randn(6, 8), torch.randn(6, 8), torch.eye(6, dtype=torch.bool)
    whole = info_nce(view, other, alike, 0.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(info_nce(view, other, alike, 0.2), whole)


def test_next_item_loss_of_several_targets_is_their_weighted_sum():
    torch.manual_seed(0)
    interest, candidates = torch.randn(9, 8), torch.randn(30, 8)
    target, share = torch.randint(30, (9, 3)), torch.tensor([0.6, 0.3, 0.1]).expand(9, 3)
    rule = ScoringRule(0.1)
    single = torch.stack([
        torch.stack([next_item_loss(interest[[row]], candidates, target[row, [place]], rule) for place in range(3)])
        for row in range(9)
    ])  # fmt: skip
    expected = (single * share).sum(dim=1).mean()
    assert torch.allclose(next_item_loss(interest, candidates, target, rule, target_weight=share), expected, rtol=1e-5)
    in_double = next_item_loss(interest.double(), candidates.double(), target, rule, target_weight=share)
    assert torch.allclose(in_double.float(), expected, rtol=1e-5)


def test_next_item_loss_in_bfloat16_is_near_and_so_are_its_gradients():
    torch.manual_seed(0)
    interest, candidates = torch.randn(200, 32, requires_grad=True), torch.randn(500, 32, requires_grad=True)
    target = torch.randint(500, (200,))
    whole, half = (
        next_item_loss(interest, candidates, target, ScoringRule(0.2), precision=precision)
        for precision in (torch.float32, torch.bfloat16)
    )
    assert torch.allclose(half, whole, rtol=1e-2)
    assert not torch.equal(half, whole)
    for parameter in (interest, candidates):
        ours, expected = (torch.autograd.grad(loss, parameter, retain_graph=True)[0] for loss in (half, whole))
        assert float((ours - expected).norm() / expected.norm()) < 0.02


def test_targets_are_the_next_events_of_the_same_history(built):
    """Up to three, each half of the one before it, and 1 in all; fewer at a history's end."""
    _, model, _, train, *_ = built(target_horizon=3)
    batch = next(iter(train))
    next_items = batch[model.NEXT_ITEM_SEQ]
    places = (next_items > 0).nonzero().tolist()
    target, share = model.loss.targets(next_items, *next_items.nonzero(as_tuple=True))
    assert len(places) == len(target)
    for (row, place), found, weights in zip(places, target.tolist(), share.tolist(), strict=True):
        following = [item for item in next_items[row, place : place + 3].tolist() if item]
        expected = [0.5**step for step in range(len(following))]
        assert found == following + following[:1] * (3 - len(following))  # the share of what isn't there is 0
        assert weights == pytest.approx([w / sum(expected) for w in expected] + [0.0] * (3 - len(following)))


def test_item_scores_are_bounded_by_the_temperature():
    rule = ScoringRule(0.5)
    scores = logits(rule.query(torch.randn(5, 3) * 100), rule.item_factors(torch.randn(7, 3)))
    assert scores.abs().max() <= 2.0001


# --- fusion and tracker


ROWS = 6


def content(*modalities, present=None):
    """Features of some modalities, of unlike widths, and which rows have them."""
    torch.manual_seed(1)
    names = modalities or ("text", "image", "audio")
    present = present or {}
    return {
        name: Features(torch.randn(ROWS, 5 + width), present.get(name, torch.ones(ROWS, dtype=torch.bool)))
        for width, name in enumerate(names)
    }


def fuse(kind="gated", features=None, **arguments):
    features = content() if features is None else features
    torch.manual_seed(3)
    return EntityEncoder(features, embedding_size=8, fusion=kind, **arguments).eval()


every_fusion = pytest.mark.parametrize("kind", list(FUSIONS))


@every_fusion
def test_missing_content_is_never_read(kind):
    """Whatever stands in the row of what is missing, the representation is that of the learnt vector."""
    holes = {"text": torch.tensor([True, False, True, False, True, True])}
    fusion = fuse(kind, content(present=holes))
    before = fusion()
    for value in (1e6, float("nan")):
        fusion.features["text"].values[1] = value
        assert torch.equal(fusion(), before)
        assert fusion.weights()[1, fusion.modalities.index("text")] == 0


@every_fusion
def test_rows_with_nothing_at_all_are_alike_and_finite(kind):
    nothing = torch.tensor([False, False, True, False, True, True])
    fusion = fuse(kind, content(present=dict.fromkeys(("text", "image", "audio"), nothing)))
    fused = fusion()
    assert fused.isfinite().all()
    assert torch.allclose(fused[1], fused[3])
    assert not torch.allclose(fused[1], fused[2])
    assert fusion.weights()[1].tolist() == [0, 0, 0]


@every_fusion
def test_fusion_of_some_rows_is_that_of_all_gathered(kind):
    fusion = fuse(kind, with_id=torch.arange(ROWS) > 0)
    rows = torch.tensor([3, 0, 3])
    assert torch.allclose(fusion(rows), fusion()[rows], atol=1e-6)
    assert torch.allclose(fusion.weights(rows), fusion.weights()[rows], atol=1e-6)


@every_fusion
def test_weights_say_how_much_each_modality_counts(kind):
    holes = {"image": torch.tensor([True, True, False, True, True, True])}
    fusion = fuse(kind, content(present=holes), with_id=torch.arange(ROWS) > 0)
    weights = fusion.weights()
    assert weights.shape == (ROWS, 4)
    assert fusion.modalities == ["audio", "image", "text", "id"]
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(dim=1), torch.ones(ROWS))
    assert weights[2, 1] == 0
    assert weights[0, 3] == 0  # the padding row has no ID


@every_fusion
def test_every_modality_reaches_the_representation(kind):
    fusion = fuse(kind)
    before = fusion()
    for modality in fusion.modalities:
        changed = fuse(kind)
        changed.features[modality].values[2] += 1
        assert not torch.allclose(changed()[2], before[2], atol=1e-4), modality
        assert torch.allclose(changed()[3], before[3])


@every_fusion
def test_what_is_taken_away_is_as_if_it_had_never_been(kind):
    rows = torch.tensor([2, 4])
    present = torch.ones(ROWS, dtype=torch.bool)
    present[rows] = False
    taken, never = fuse(kind), fuse(kind, content(present={"audio": present}))
    taken.drop_modality("audio", rows)
    assert torch.equal(taken(), never())
    taken.drop_modality("audio")
    assert torch.equal(taken.weights()[:, 0], torch.zeros(ROWS))


@every_fusion
def test_modality_dropout_works_in_training_only(kind):
    fusion = fuse(kind, modality_dropout=0.5)
    assert torch.equal(fusion(), fusion())
    fusion.train()
    assert not torch.equal(fusion(), fusion())
    assert fusion().isfinite().all()


def test_modality_dropout_takes_the_stated_share_away():
    fusion = EntityEncoder({}, embedding_size=4, modality_dropout=0.3, with_id=torch.arange(20_000) > 0).train()
    _, present = fusion.parts()
    assert abs(float((~present).float().mean()) - 0.3) < 0.02


def test_late_fusion_scores_by_a_weighted_sum_of_one_cosine_a_modality():
    fusion = fuse("late")
    items, interest = fusion(), torch.randn(2, fusion.output_size)
    rule = ScoringRule(1.0)
    scores = logits(rule.query(interest), rule.item_factors(items))
    for row in range(2):
        for item in range(1, ROWS):
            naive = sum(
                naive_cosine(interest[row].view(3, 8)[m], items[item].view(3, 8)[m])
                * float(fusion.weights()[item, m].sqrt() * interest[row].view(3, 8)[m].norm() / interest[row].norm())
                for m in range(3)
            )
            assert abs(float(scores[row, item]) - naive) < 1e-5


def test_gates_start_equal():
    assert torch.allclose(fuse("gated").weights(), torch.full((ROWS, 3), 1 / 3))


def test_frozen_features_are_neither_trained_nor_saved():
    fusion = fuse()
    assert not any("features" in name for name in fusion.state_dict())
    assert not any("features" in name for name, _ in fusion.named_parameters())


def test_checkpoint_sees_new_content_as_it_was_trained_to():
    """Items that came later change what a conditioning would be fitted to, and not what a saved model does."""
    old = content("text")["text"]
    more = Features(torch.cat([old.values, 5 + torch.randn(9, 5)]), torch.cat([old.present, old.present.new_ones(9)]))
    saved = fuse(features={"text": replace(old, conditioning=fit_conditioning(old, "pca", size=3))})
    later = fuse(features={"text": replace(more, conditioning=fit_conditioning(more, "pca", size=3))})
    assert not torch.allclose(later()[:ROWS], saved(), atol=1e-3)
    later.load_state_dict(saved.state_dict())
    assert torch.allclose(later()[:ROWS], saved(), atol=1e-5)


def test_there_must_be_something_to_fuse():
    with pytest.raises(ValueError, match="nothing to encode"):
        EntityEncoder({}, embedding_size=4)


@pytest.fixture(
    params=[
        {"encoder": "lstm"},
        {"encoder": "lstm", "num_layers": 2, "attention_readout": True},
        {"encoder": "gru", "num_layers": 2, "last_item_skip": True},
        {"encoder": "transformer", "num_layers": 2},
        {"encoder": "transformer", "attention_readout": True, "last_item_skip": True},
        {"encoder": "lru", "num_layers": 2},
        {"encoder": "hstu", "num_layers": 2},
        {"encoder": "ligr", "num_layers": 2},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def tracker(request):
    torch.manual_seed(2)
    options = {"input_size": 4, "hidden_size": 8, "num_layers": 1, "dropout_prob": 0.5, "user_size": 3}
    return InterestTracker(**{**options, **request.param}).eval()


@pytest.mark.parametrize("is_known", [True, False])
def test_step_equals_forward(tracker, is_known):
    items = torch.randn(5, 20, 4)
    state = tracker.initial_state(torch.randn(5, 3)) if is_known else tracker.neutral_state(5)
    whole = tracker(items, state)
    for t in range(20):
        interest, state = tracker.step(items[:, t], state)
        assert torch.allclose(interest, whole[:, t], atol=1e-6)


def test_padding_behind_the_end_changes_nothing(tracker):
    items, state = torch.randn(5, 9, 4), tracker.neutral_state(5)
    padded = torch.cat([items, torch.randn(5, 30, 4)], dim=1)
    assert torch.allclose(tracker(items, state), tracker(padded, state)[:, :9], atol=1e-6)


def test_tracker_does_not_look_ahead(tracker):
    items, state = torch.randn(2, 9, 4), tracker.neutral_state(2)
    changed = items.clone()
    changed[:, 5:] += 1
    assert torch.allclose(tracker(items, state)[:, :5], tracker(changed, state)[:, :5], atol=1e-6)
    assert not torch.allclose(tracker(items, state)[:, 5], tracker(changed, state)[:, 5], atol=1e-3)


@pytest.mark.parametrize("encoder", ["lstm", "gru"])
def test_bare_encoder_is_the_one_of_torch(encoder):
    """Interest is a linear map of the states of torch's own network, which has no extras."""
    tracker = InterestTracker(
        input_size=4, hidden_size=8, num_layers=1, dropout_prob=0.0, user_size=None, encoder=encoder
    ).eval()
    network = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[encoder](4, 8, batch_first=True)
    network.load_state_dict(tracker.encoder.layers[0].state_dict())
    items = torch.randn(3, 6, 4)
    assert torch.allclose(tracker(items, tracker.neutral_state(3)), tracker.output(network(items)[0]), atol=1e-6)


def test_attention_reads_old_states_when_they_matter():
    """The readout is softmax-weighted values, here against a loop over the past of one point in time."""
    readout = AttentionReadout(6, 5)
    hidden = torch.randn(1, 4, 6)
    for t in range(4):
        keys, values = readout.key(hidden[0, : t + 1]), readout.value(hidden[0, : t + 1])
        weights = torch.softmax(keys @ readout.query(hidden[0, t]) / 6**0.5, dim=0)
        assert torch.allclose(readout(hidden, hidden)[0, t], weights @ values, atol=1e-5)


def test_only_max_length_events_are_attended_to():
    tracker = InterestTracker(input_size=4, hidden_size=8, num_layers=1, dropout_prob=0.0, user_size=None,
                              encoder="transformer", max_length=5).eval()  # fmt: skip
    items = torch.randn(2, 12, 4)
    state = other = tracker.neutral_state(2)
    for t in range(12):
        interest, state = tracker.step(items[:, t], state)
        if t >= 7:
            other_interest, other = tracker.step(items[:, t], other)
    assert torch.allclose(interest, other_interest, atol=1e-6)
    assert state.carried.shape[0] == 6  # the token before the history, and five events


# --- what the history itself says


def scores_of(history, count):
    """What is added to the cosine of each item but the padding, of which it has no meaning."""
    added = history.bias.expand_as(history.items)
    return torch.zeros(len(added), count).scatter_add(1, history.items, added)[:, 1:]


def test_bonus_goes_by_how_long_ago_and_to_nothing_else():
    bias = RepeatBias()
    bias.bias.data[:3] = torch.tensor([1.0, 10.0, 100.0])
    history = torch.tensor([[7, 8, 7, 9, 5], [4, 6, 0, 0, 0]])
    no_interest, no_events = torch.zeros(2, 0), torch.zeros(2, 5, 0)
    # the first user's fifth event is yet to come
    history = bias(history, lambda: no_events, no_interest, torch.tensor([0, 1]), torch.tensor([3, 1]))
    scores = scores_of(history, 11)
    assert scores[0].tolist() == [0, 0, 0, 0, 0, 0, 110, 10, 1, 0]
    assert scores[1].tolist() == [0, 0, 0, 10, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("block", [1, 1000])
def test_nearest_neighbours_are_those_of_a_naive_search(block, monkeypatch):
    torch.manual_seed(0)
    values, present = torch.randn(12, 5), torch.ones(12, dtype=torch.bool)
    present[[3, 7]] = False
    monkeypatch.setattr("recbole_llm_interest.content.neighbours.BLOCK", block)
    found = nearest_neighbours(values, present, 4)
    others = [row for row in range(1, 12) if present[row]]
    for row in range(12):
        by_cosine = sorted(
            (other for other in others if other != row), key=lambda other: -naive_cosine(values[row], values[other])
        )
        assert found[row].tolist() == (by_cosine[:4] if row in others else [0, 0, 0, 0])


def test_items_are_the_same_in_blocks_as_at_once(built, monkeypatch):
    _, model, *_ = built()
    model.eval()
    limited_cost = model.item_encoder.table().detach()
    monkeypatch.setattr("recbole_llm_interest.model.entity_encoder._BLOCK_ROWS", 3)
    with torch.no_grad():
        assert torch.allclose(model.item_encoder.table(), limited_cost, atol=1e-6)


def test_neighbours_that_are_not_there_are_zero():
    assert nearest_neighbours(torch.randn(3, 2), torch.ones(3, dtype=torch.bool), 4).tolist() == [
        *([0, 0, 0, 0], [2, 0, 0, 0], [1, 0, 0, 0])
    ]
    assert nearest_neighbours(torch.randn(2, 2), torch.ones(2, dtype=torch.bool), 1).tolist() == [[0], [0]]


def test_neighbour_bias_equals_a_naive_loop():
    """Two modalities; item 5 has no neighbours in one of them, item 6 fewer than others."""
    torch.manual_seed(0)
    bias = NeighbourBias(2, 63)
    bias.bias.data.normal_()
    neighbours = torch.randint(1, 9, (9, 2, 63))
    neighbours[5, 1] = 0
    neighbours[6, :, 2:] = 0
    neighbours[0] = 0
    history = torch.randint(1, 9, (2, 20))
    history[1, 2:] = 0
    for last in ((0, 1), (3, 0), (19, 1)):
        scores = scores_of(bias(Neighbours(neighbours[history]), torch.arange(2), torch.tensor(last)), 9)
        at_the_end = HistoryBias(None, bias).after(
            Histories(history, lambda: torch.zeros(2, 20, 0), lambda items: neighbours[items]),
            torch.tensor(last),
            torch.zeros(2, 0),
        )
        assert torch.allclose(scores_of(at_the_end, 9), scores, atol=1e-4)
        for user, end in enumerate(last):
            expected = torch.zeros(9)
            for event in range(max(end - 14, 0), end + 1):
                lag_bucket = int(math.log2(end - event + 1))
                nearest = 63 >> lag_bucket  # the older the event, the fewer of its neighbours count
                for modality in range(2):
                    for rank, item in enumerate(neighbours[history[user, event], modality, :nearest].tolist()):
                        if item:
                            expected[item] += bias.bias[modality, lag_bucket, int(math.log2(rank + 1))].item()
            assert torch.allclose(scores[user], expected[1:], atol=1e-4)


def test_neighbours_are_looked_up_again_when_content_is_taken_away():
    fusion = fuse(neighbours=2)
    before = fusion.neighbours.clone()
    assert before.shape == (ROWS, 3, 2)
    fusion.drop_modality("image", torch.tensor([4]))
    column = fusion.modalities.index("image")
    assert fusion.neighbours[4, column].tolist() == [0, 0]
    assert not (fusion.neighbours[:, column] == 4).any()
    assert torch.equal(fusion.neighbours[:, 1 - column], before[:, 1 - column])


@pytest.mark.slow
def test_content_neighbours_find_what_is_new_to_training(built, here):
    """Users read on about their subject, in no order; each comes at last to a book that nobody has met before."""
    chance = random.Random(0)
    items = {f"{subject}{n}": f"{subject}, volume {n}" for subject in SUBJECTS for n in range(12)}
    events = []
    for user in range(48):
        subject = SUBJECTS[user % len(SUBJECTS)]
        walk = [*chance.sample(range(6), 4), 6 + user // 8]
        events += [(f"u{user}", f"{subject}{n}", float(step)) for step, n in enumerate(walk)]
    write_dataset(here / "data", "loyal", events, items)
    recall = {}
    for content_neighbours in (0, 11):
        config, model, _, train, _, test = built(
            "LLMInterest", "loyal", epochs=30, learning_rate=0.02, content_neighbours=content_neighbours,
            feature_conditioning="none", topk=[8], valid_metric="NDCG@8",
        )  # fmt: skip
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        trainer.fit(train, None, saved=False, verbose=False)
        recall[content_neighbours] = trainer.evaluate(test, load_best_model=False)["recall@8"]
    assert recall[11] > recall[0] + 0.2


@pytest.mark.slow
@pytest.mark.parametrize("comes_back", [True, False])
def test_whether_users_come_back_is_learnt(built, here, comes_back):
    """Some choose the same thing over and over, others never choose a thing twice."""
    chance = random.Random(0)
    count = len(SUBJECTS)
    walks = [[n % count] * 6 if comes_back else chance.sample(range(count), 6) for n in range(40)]
    events = [(f"u{n}", f"i{item}", float(step)) for n, walk in enumerate(walks) for step, item in enumerate(walk)]
    write_dataset(here / "data", "walks", events, {f"i{n}": subject for n, subject in enumerate(SUBJECTS)})
    config, model, _, train, *_ = built("LLMInterest", "walks", epochs=10, learning_rate=0.02)
    get_trainer(config["MODEL_TYPE"], config["model"])(config, model).fit(train, None, verbose=False)
    bonus = model.history_bias.repeat.bias[:2]
    assert (bonus > 0.1).all() if comes_back else (bonus < -0.1).all()


def test_profile_stands_in_the_gate_at_every_step(tracker):
    """With the same states, users differ by their profile's part, which the history opens and shuts."""
    items, state = torch.randn(1, 9, 4).expand(2, 9, 4), tracker.initial_state(torch.randn(1, 3).expand(2, 3))
    other = state._replace(user=torch.randn(2, 3))
    difference = tracker(items, state) - tracker(items, other)
    assert (difference.abs().sum(dim=-1) > 1e-4).all()
    assert not torch.allclose(difference[:, 0], difference[:, -1], atol=1e-4)


def test_first_state_comes_from_the_user(tracker):
    items = torch.randn(1, 3, 4).expand(2, 3, 4)
    interest = tracker(items, tracker.initial_state(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])))
    assert not torch.allclose(interest[0], interest[1])


# --- the model in RecBole


def test_trainable_parameters_are_exactly_these(built):
    _, model, *_ = built()
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {
        "history_bias.repeat.bias",
        "history_bias.neighbour.bias",
        "item_encoder.id_embedding.weight",
        *(f"{side}_encoder.projections.text.{layer}.{kind}" for side in ("item", "user") for layer in (0, 2)
          for kind in ("weight", "bias")),
        *(f"{side}_encoder.{name}" for side in ("item", "user") for name in ("missing", "combine.gate",
                                                                             "combine.gate_bias")),
        *(f"tracker.encoder.layers.0.{kind}_{source}_l0" for kind in ("weight", "bias") for source in ("ih", "hh")),
        *(f"tracker.{layer}.{kind}" for kind in ("weight", "bias")
          for layer in ("user_to_state", "output", "profile.profile", "profile.gate_by_user")),
        "tracker.profile.gate_by_history.weight",
    }  # fmt: skip


def test_items_that_training_lacks_have_no_id_and_are_no_candidates_of_the_loss(built, here):
    """So nothing teaches the model to shun what is new, and content alone ranks it."""
    events = cycle_events()
    events += [(f"u{n}", "newest", 1e6 + n) for n in range(24)]  # everyone's last event, which only the test has
    titles = {f"i{n}": subject for n, subject in enumerate(SUBJECTS)} | {"newest": "newest"}
    write_dataset(here / "data", "news", events, titles)
    config, model, dataset, train, valid, test = built("LLMInterest", "news", epochs=5, topk=[3])
    newest = dataset.token2id("item_id", "newest")
    present = dict(zip(model.item_encoder.modalities, model.item_encoder.present.T, strict=True))
    assert not present["id"][newest]
    assert present["text"][newest]
    assert int(present["id"].sum()) == len(SUBJECTS)
    assert newest not in model.negative_sampler().ids
    before = model.item_encoder.id_embedding.weight[newest].clone()
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train, valid, verbose=False)
    assert torch.equal(model.item_encoder.id_embedding.weight[newest], before)
    model.eval()
    assert model.full_sort_predict(next(iter(test))[0])[:, newest].isfinite().all()


@pytest.mark.parametrize(("id_init_std", "expected"), [(None, 16**-0.5), (0.02, 0.02)])
def test_ids_start_as_large_as_they_are_set_to(id_init_std, expected):
    encoder = EntityEncoder({}, embedding_size=16, with_id=torch.ones(2000, dtype=torch.bool), id_init_std=id_init_std)
    assert float(encoder.id_embedding.weight.std()) == pytest.approx(expected, rel=0.05)


def test_rare_items_go_by_content_if_they_have_any(built, here):
    """Each item's training events are counted by hand; items without content keep the ID that is all they have."""
    events = [
        *cycle_events(),
        ("x", "i0", 0.0),
        ("x", "rare", 1.0),
        ("x", "untitled", 2.0),
        ("x", "i1", 3.0),
        ("x", "i2", 4.0),
    ]
    titles = {f"i{n}": subject for n, subject in enumerate(SUBJECTS)} | {"rare": "rare"}
    write_dataset(here / "data", "rare", events, titles)
    walks = {}
    for user, item, _ in events:
        walks.setdefault(user, []).append(item)
    counted = Counter(item for items in walks.values() for item in items[:-2])
    for least in (1, 2, counted["i0"] + 1):
        _, model, data, train, *_ = built("LLMInterest", "rare", id_min_events=least)
        has_id = model.item_encoder.present[:, model.item_encoder.modalities.index("id")]
        counts, _ = count_training_events(train._dataset)
        for item in [*titles, "untitled"]:
            row = data.token2id("item_id", item)
            assert counts[row] == counted[item]
            assert bool(has_id[row]) == (counted[item] >= least or item == "untitled")


def test_every_parameter_gets_a_finite_gradient(built):
    objectives = {f"ssl_{name}_weight": 1.0 for name in ("future", "views", "masked_item", "autoencoding")}
    _, model, _, train, *_ = built(modality_dropout=0.5, **objectives)
    sum(model.calculate_loss(next(iter(train)))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # users have one modality only, so their gate has nothing to weigh
        assert parameter.grad.abs().sum() > 0 or "user_encoder.combine" in name, name


def test_user_who_is_not_known_is_one_without_content(built, here):
    """Id 0 stands for a new user; so do users of whom nothing is known."""
    users = {f"u{n}": "librarian" if n % 2 else "farmer" for n in range(20)}
    titles = {f"i{n}": subject for n, subject in enumerate(SUBJECTS)}
    write_dataset(here / "data", "some", cycle_events(), titles, users)
    _, model, dataset, *_ = built("LLMInterest", "some")
    model.eval()
    nobody, unknown, known = (model.initial_state(torch.tensor([user])) for user in
                              (0, dataset.token2id("user_id", "u22"), dataset.token2id("user_id", "u2")))  # fmt: skip
    assert torch.equal(nobody.carried, unknown.carried)
    assert not torch.allclose(nobody.carried, known.carried)


def test_loss_parts_are_named_and_weighted(built):
    _, model, _, train, *_ = built(ssl_walks_weight=0.0)
    batch = next(iter(train))
    assert len(model.calculate_loss(batch)) == 1
    parts = {}
    for weight in (0.5, 1.0):
        _, model, *_ = built(ssl_walks_weight=0.0, ssl_future_weight=weight)
        model.eval()
        torch.manual_seed(0)
        parts[weight] = dict(zip(model.loss_names, model.calculate_loss(batch), strict=True))
    assert torch.allclose(2 * parts[0.5]["future"], parts[1.0]["future"])
    assert torch.allclose(parts[0.5]["next_item"], parts[1.0]["next_item"])


def test_predict_is_the_gathered_full_sort(built):
    _, model, _, _, _, test = built()
    model.eval()
    batch = next(iter(test))[0]
    scores, full = model.predict(batch), model.full_sort_predict(batch)
    assert scores.shape == (len(batch),)
    assert full.shape == (len(batch), model.n_items)
    assert torch.allclose(scores, full[torch.arange(len(batch)), batch["item_id"]], atol=1e-6)


@pytest.mark.parametrize(
    "overrides", [{"score": "dot"}, {"repeat_bias": False, "content_neighbours": 0}, {"fusion": "late"}]
)
def test_predict_is_the_gathered_full_sort_whatever_the_score(built, overrides):
    _, model, _, _, _, test = built(**overrides)
    model.eval()
    for bonus in (model.history_bias.repeat, model.history_bias.neighbour):
        if bonus is not None:
            torch.nn.init.normal_(bonus.bias)
    batch = next(iter(test))[0]
    scores, full = model.predict(batch), model.full_sort_predict(batch)
    assert torch.allclose(scores, full[torch.arange(len(batch)), batch["item_id"]], atol=1e-5)


def test_item_table_is_computed_once_an_evaluation(built):
    config, model, _, train, valid, test = built(eval_batch_size=5)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    computed = []
    model.item_encoder.register_forward_hook(lambda *_: computed.append(model.training))
    trainer.fit(train, valid, saved=False, verbose=False)
    assert len(test) == 5
    assert computed.count(False) == 2  # two epochs, each validated
    trainer.evaluate(test, load_best_model=False)
    assert computed.count(False) == 2  # nothing has changed since the last epoch


def step(model, batch, **kind):
    with torch.enable_grad():
        sum(model.calculate_loss(batch)).backward()
    torch.optim.Adam(model.parameters(), lr=0.1, **kind).step()


def load(model, **kind):
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()}, **kind)


CHANGES = {
    "fused step": lambda model, batch: step(model, batch, fused=True),
    "foreach step": lambda model, batch: step(model, batch, foreach=True),
    "take_away": lambda model, _: model.item_encoder.drop_modality("text"),
    "set_present": lambda model, _: model.item_encoder.set_present(~model.item_encoder.present),
    "load": lambda model, _: load(model),
    "assign": lambda model, _: load(model, assign=True),
    "write": lambda model, _: torch.nn.init.ones_(model.item_encoder.id_embedding.weight),
    "train": lambda model, _: (model.train(), model.item_encoder.id_embedding.weight.data.neg_(), model.eval()),
    "temperature": lambda model, _: setattr(model, "scoring_rule", ScoringRule(0.5)),
    "double": lambda model, _: model.double(),
}


@pytest.mark.parametrize("change", list(CHANGES.values()), ids=list(CHANGES))
@torch.no_grad()
def test_item_table_is_computed_anew_when_what_it_is_made_of_changes(built, change):
    _, model, _, train, _, test = built(id_min_events=1)
    model.eval()
    batch = next(iter(test))[0]
    before = model.full_sort_predict(batch)
    change(model, next(iter(train)))
    after = model.full_sort_predict(batch)
    model.train()  # whatever is kept is dropped
    model.eval()
    assert torch.equal(after, model.full_sort_predict(batch))
    assert after.dtype != before.dtype or not torch.allclose(after, before)


@torch.no_grad()
def test_padding_is_never_recommended(built):
    """Not even where a history is shorter than what the bonuses look back to."""
    _, model, _, _, _, test = built()
    model.eval()
    model.history_bias.repeat.bias.fill_(5.0)
    model.history_bias.neighbour.bias.fill_(5.0)
    assert (model.full_sort_predict(next(iter(test))[0]).argmax(dim=1) > 0).all()


@torch.no_grad()
def test_scores_are_the_callers_own(built):
    """RecBole writes to them: the padding's score becomes -inf."""
    _, model, _, _, _, test = built()
    model.eval()
    batch = next(iter(test))[0]
    kept = model.full_sort_predict(batch)
    model.full_sort_predict(batch).fill_(-torch.inf)
    assert torch.equal(model.full_sort_predict(batch), kept)


def test_gradients_reach_items_in_evaluation_too(built):
    _, model, _, _, _, test = built()
    model.eval()
    batch = next(iter(test))[0]
    with torch.no_grad():
        model.full_sort_predict(batch)
    model.full_sort_predict(batch).sum().backward()
    assert model.item_encoder.id_embedding.weight.grad is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        *({}, {"use_item_id": False}, {"use_user_content": False}, {"num_layers": 2}, {"modality_dropout": 0.0}),
        *({"fusion": fusion} for fusion in FUSIONS if fusion != "gated"),
        *({"tracker": tracker} for tracker in TRACKERS if tracker != "lstm"),
        {"attention_readout": True, "last_item_skip": True},
        {"score": "dot", "projection": "linear"},
        {"projection": "semantic_ids"},
        {"text_encoder": "hashing", "feature_conditioning": "pca", "conditioning_size": 8},
    ],
)
def test_learns_what_follows_what(built, overrides):
    """A walk with a known next step: learnt in seconds, by content alone as well as with IDs."""
    config, model, _, train, _, test = built(epochs=30, learning_rate=0.02, dropout_prob=0.0, topk=[1],
                                             valid_metric="NDCG@1", **overrides)  # fmt: skip
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train, None, saved=False, verbose=False)
    assert trainer.evaluate(test, load_best_model=False)["recall@1"] > 0.8  # by chance, 1 / 8


@pytest.mark.slow
def test_profile_alone_decides_where_nothing_else_does(built, here):
    """Farmers go for bread and librarians for chess after the same first item: only the profile can tell."""
    users = {f"u{n}": "librarian" if n % 2 else "farmer" for n in range(40)}
    events = [
        event
        for n, user in enumerate(users)
        for event in [(user, "start", 0.0), (user, "chess" if n % 2 else "bread", 1.0), (user, "middle", 2.0),
                      (user, "chess" if n % 2 else "bread", 3.0)]
    ]  # fmt: skip
    write_dataset(
        here / "data", "profiles", events, {name: name for name in ("start", "chess", "bread", "middle")}, users
    )
    right = {}
    for use_user_content in (True, False):
        config, model, _, train, *_ = built(
            "LLMInterest", "profiles", epochs=40, learning_rate=0.02, use_user_content=use_user_content
        )
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        trainer.fit(train, None, verbose=False)
        model.eval()
        rows = train._dataset[torch.arange(len(train._dataset))]
        first = rows["item_length"] == 1
        best = model.full_sort_predict(rows)[first].argmax(dim=1)
        right[use_user_content] = float((best == rows["item_id"][first]).float().mean())
    assert right[True] == 1.0
    assert right[False] < 0.7


def test_checkpoint_reloads_to_the_same_scores(built):
    config, model, _, train, valid, test = built()
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train, valid, verbose=False)
    trainer.evaluate(test)
    batch = next(iter(test))[0]
    before = model.full_sort_predict(batch)
    _, fresh, *_ = built(seed=7)
    fresh.eval()
    assert not torch.allclose(fresh.full_sort_predict(batch), before)
    fresh.load_state_dict(load_checkpoint(Path(trainer.saved_model_file))["state_dict"])
    assert torch.equal(fresh.full_sort_predict(batch), before)


def test_content_brings_like_items_together(built):
    """Before any training, an item's nearest neighbour by content features is one of like content."""
    _, _, data, *_ = built(feature_conditioning="none")
    values = data.item_content["text"].values[1:]
    assert values.shape == (len(SUBJECTS), 384)
    assert torch.allclose(values.norm(dim=1), torch.ones(len(SUBJECTS)), atol=1e-4)
