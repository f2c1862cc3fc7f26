"""Self-supervision: histories change as they should, and each objective is what it says, by a naive loop."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from statistics import fmean

import pytest
import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.utils import get_trainer

from recbole_llm_interest.content.features import Features
from recbole_llm_interest.model.build import new_item_share
from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.negative_sampling import Candidates
from recbole_llm_interest.model.ssl import augmentation
from recbole_llm_interest.model.ssl.contrastive import FutureContrast, ModalityAlignment, ViewContrast
from recbole_llm_interest.model.ssl.objectives import TrainingBatch
from recbole_llm_interest.model.ssl.predictive import (
    BackwardReading,
    CatalogueWalks,
    FeatureAutoencoding,
    MaskedItem,
)

SSL = ["future", "backward", "walks", "views", "modalities", "masked_item", "autoencoding"]
LENGTHS = torch.tensor([1, 2, 5, 8])


@pytest.fixture
def item_seq():
    """Histories of different items: row 0 is 1, row 1 is 11 12, and so on."""
    place = torch.arange(8)
    return (torch.arange(4)[:, None] * 10 + place + 1).where(place < LENGTHS[:, None], 0)


# --- changed histories


@pytest.mark.parametrize("share", [0.01, 0.4, 0.99])
def test_crop_keeps_a_run_of_the_stated_length(item_seq, share):
    for _ in range(30):
        cropped, kept = augmentation.crop(item_seq, LENGTHS, share)
        assert kept.tolist() == [max(1, int(share * length)) for length in LENGTHS]
        for row, length, source in zip(cropped, kept, item_seq, strict=True):
            run = row[:length].tolist()
            assert run == list(range(run[0], run[0] + length))
            assert set(run) <= set(source[source > 0].tolist())
            assert not row[length:].any()


def test_every_run_is_drawn(item_seq):
    starts = {int(augmentation.crop(item_seq, LENGTHS, 0.5)[0][3, 0]) for _ in range(200)}
    assert starts == {31, 32, 33, 34, 35}


@pytest.mark.parametrize("share", [0.01, 0.6, 0.99])
def test_reorder_shuffles_within_a_run_and_nothing_else(item_seq, share):
    places = set()
    for _ in range(100):
        changed, length = augmentation.reorder(item_seq, LENGTHS, share)
        assert torch.equal(length, LENGTHS)
        assert torch.equal(changed.sort(dim=1).values, item_seq.sort(dim=1).values)
        assert torch.equal(changed == 0, item_seq == 0)
        moved = (changed != item_seq).nonzero()
        for row in moved[:, 0].unique():
            columns = moved[moved[:, 0] == row, 1]
            assert int(columns.max() - columns.min()) < max(1, int(share * LENGTHS[row]))
        places |= {(int(row), int(column)) for row, column in moved}
    assert bool(places) == (share > 0.5)


def test_mask_hides_the_stated_share_of_events_and_no_padding():
    torch.manual_seed(0)
    item_seq = torch.arange(1, 51).repeat(400, 1)
    length = torch.full((400,), 30)
    item_seq[:, 30:] = 0
    masked, same_length = augmentation.mask(item_seq, length, 0.3, mask_id=99)
    is_masked = masked == 99
    assert torch.equal(same_length, length)
    assert not is_masked[:, 30:].any()
    assert float(is_masked[:, :30].float().mean()) == pytest.approx(0.3, abs=0.02)
    assert torch.equal(masked[~is_masked], item_seq[~is_masked])


def test_substitutes_are_near_neighbours(item_seq):
    """By either modality, one of the first five; an item without neighbours stays what it is."""
    neighbours = torch.zeros(60, 2, 7, dtype=torch.int32)
    neighbours[:, 0] = torch.arange(60)[:, None] + 100 * torch.arange(1, 8)
    neighbours[:, 1] = torch.arange(60)[:, None] + 1000 * torch.arange(1, 8)
    neighbours[33] = 0
    changes, far = [], set()
    for _ in range(50):
        changed, _ = augmentation.substitute(item_seq, LENGTHS, 0.5, neighbours)
        assert torch.equal(changed == 0, item_seq == 0)
        assert changed[3, 2] == item_seq[3, 2] == 33
        is_changed = changed != item_seq
        changes.append(is_changed[(item_seq > 0) & (item_seq != 33)].float().mean())
        far |= set((changed - item_seq)[is_changed].tolist())
    assert far == {*range(100, 600, 100), *range(1000, 6000, 1000)}
    assert float(torch.stack(changes).mean()) == pytest.approx(0.5, abs=0.1)


def test_walks_go_to_near_neighbours():
    """By either modality, to one of the first ten; an item with one modality has that one's alone."""
    neighbours = torch.zeros(4000, 2, 12, dtype=torch.int32)
    neighbours[:, 0] = torch.arange(4000)[:, None] + torch.arange(1, 13)
    neighbours[:, 1] = torch.arange(4000)[:, None] + 100 * torch.arange(1, 13)
    neighbours[7, 1] = 0
    walks = augmentation.walk(torch.full((500,), 7), 3, lambda items: neighbours[items].long())
    assert walks.shape == (500, 4)
    assert set((walks[:, 1] - 7).tolist()) == {*range(1, 11)}
    assert set((walks[:, 1:] - walks[:, :-1])[:, 1:].flatten().tolist()) == {*range(1, 11), *range(100, 1001, 100)}


# --- objectives


@pytest.fixture
def fusion():
    torch.manual_seed(1)
    present = torch.ones(40, dtype=torch.bool)
    present[0] = False
    some = present.clone()
    some[::3] = False
    content = {"text": Features(torch.randn(40, 6), present), "image": Features(torch.randn(40, 5), some)}
    return EntityEncoder(content, embedding_size=4, with_id=present, neighbours=5)


@pytest.fixture
def histories(item_seq, fusion):
    items = torch.cat([torch.zeros(1, 4), fusion()[1:]])
    next_items = F.pad(item_seq, (0, 1))[:, 1:]
    next_items[torch.arange(4), LENGTHS - 1] = 39

    def track(seq, users, table):
        return F.embedding(seq, table).cumsum(dim=1)

    def loss(interest, seq, following, at, users):
        return naive_next_item(interest, following, items)

    interest = track(item_seq, torch.arange(4), items)
    every_item = torch.arange(40)
    candidates = Candidates(every_item, torch.where(every_item > 0, 0.0, -torch.inf), every_item)
    known = (item_seq, LENGTHS, next_items, torch.arange(4), items, candidates)
    return TrainingBatch(*known, interest, fusion, interest, Interaction({"user_id": torch.arange(4)}), track, loss)


def naive_next_item(interest, following, items):
    """Cross-entropy of dot products, one event at a time."""
    losses = [
        torch.logsumexp(items @ interest[row, place], 0) - items[following[row, place]] @ interest[row, place]
        for row, place in following.nonzero().tolist()
    ]
    return torch.stack(losses).mean()


def naive_info_nce(rows, columns, temperature, group=(0, 1, 2, 3)):
    """One direction at a time, one row at a time; others of a row's group are left out."""
    losses = []
    for one, other in ((rows, columns), (columns, rows)):
        for index, row in enumerate(one):
            scores = {
                place: torch.cosine_similarity(row, column, dim=0) / temperature
                for place, column in enumerate(other)
                if place == index or len(rows) != 4 or group[place] != group[index]
            }
            losses.append(torch.logsumexp(torch.stack([*scores.values()]), 0) - scores[index])
    return torch.stack(losses).mean()


@pytest.mark.parametrize("horizon", [1, 3, 50])
def test_future_is_the_mean_of_the_next_events(histories, horizon, monkeypatch):
    drawn = torch.tensor([0.3, 0.6, 0.0, 0.99])
    monkeypatch.setattr(torch, "rand", lambda *_, **__: drawn)
    now, future, going_on = [], [], []
    for row, length in enumerate(LENGTHS.tolist()):
        point = int(drawn[row] * length)
        following = histories.pos_items[row, point:length][:horizon]
        now.append(histories.seq_output[row, point])
        future.append(torch.stack([histories.items[item] for item in following]).mean(dim=0))
        going_on.append(int(following[0]))  # two users who go on with the same item are no negatives
    assert len(set(going_on)) < 4
    expected = naive_info_nce(torch.stack(now), torch.stack(future), 0.2, going_on)
    assert torch.allclose(FutureContrast(0.2, horizon)(histories), expected, atol=1e-6)


def test_backward_reading_names_the_item_before(histories):
    """What follows, then the history from its end: the loss of a loop over each user's events in that order."""
    objective = BackwardReading(item_size=4)
    objective.direction.data.normal_()
    losses = []
    for row, length in enumerate(LENGTHS.tolist()):
        events = [*histories.item_seq[row, :length].tolist(), 39][::-1]
        interest = torch.zeros(4)
        for event, before in pairwise(events):
            interest = interest + histories.items[event] + objective.direction
            losses.append(torch.logsumexp(histories.items @ interest, 0) - histories.items[before] @ interest)
    assert torch.allclose(objective(histories), torch.stack(losses).mean(), atol=1e-5)


def test_walks_are_histories_of_all_items(histories, fusion, monkeypatch):
    """Items without a training event, here those from 20 on, are events, targets and negatives as the others are."""
    trained = torch.arange(20)
    index_of = torch.cat([trained, torch.zeros(20, dtype=torch.long)])
    candidates = Candidates(trained, torch.where(trained > 0, 0.0, -torch.inf), index_of)
    walks = torch.tensor([[3, 25, 4, 31, 25], [31, 2, 1, 7, 5], [1, 2, 3, 4, 5], [39, 31, 38, 39, 2]])
    monkeypatch.setattr(augmentation, "walk", lambda *_: walks)
    table = torch.cat([torch.zeros(1, 4), fusion()[1:]])
    losses = []
    for walk in walks.tolist():
        for end in range(1, 5):
            interest = table[walk[:end]].sum(dim=0)
            known = [*range(1, 20), 25, 31, 38, 39]
            scores = {item: torch.cosine_similarity(interest, table[item], dim=0) / 0.1 for item in known}
            losses.append(torch.logsumexp(torch.stack([*scores.values()]), 0) - scores[walk[end]])
    objective = CatalogueWalks(0.1, fusion.get_buffer("neighbours"), new_item_share=0.3)
    walked = replace(histories, items=histories.items[:20], candidates=candidates)
    assert torch.allclose(objective(walked), 0.3 * torch.stack(losses).mean(), atol=1e-5)


@pytest.mark.parametrize(("neighbours", "share"), [(0, 0.3), (5, 0.009)])
def test_without_neighbours_or_new_items_there_are_no_walks(histories, fusion, neighbours, share):
    loss = CatalogueWalks(0.1, fusion.get_buffer("neighbours")[:, :, :neighbours], share)(histories)
    loss.backward(retain_graph=True)
    assert float(loss.detach()) == 0.0


def test_the_share_of_new_items_is_that_of_events_held_out():
    """On average over draws from a long-tailed catalogue, the share of later events with an item not seen so far."""
    torch.manual_seed(0)
    popularity, seen = 1 / torch.arange(1.0, 501), 300
    assert new_item_share(torch.zeros(3, dtype=torch.long)) == 0.0  # of nothing, no estimate
    estimates, held_out = [], []
    for _ in range(200):
        events = torch.multinomial(popularity, 1000, replacement=True)
        estimates.append(new_item_share(torch.bincount(events[:seen], minlength=500)))
        held_out.append(float((~torch.isin(events[seen:], events[:seen])).float().mean()))
    assert fmean(estimates) == pytest.approx(fmean(held_out), abs=0.005)


def test_views_of_one_history_find_each_other(histories, monkeypatch):
    """With the two views given, the loss is the InfoNCE of the interest at their ends."""
    objective = ViewContrast(0.2, 0.5, item_size=4)
    views = [augmentation.crop(histories.item_seq, LENGTHS, share) for share in (0.9, 0.5)]
    left = iter(views)
    monkeypatch.setattr(objective, "_augmented", lambda _: next(left))
    ends = [
        torch.stack([histories.items[row[:length]].sum(dim=0) for row, length in zip(*view, strict=True)])
        for view in views
    ]
    assert torch.allclose(objective(histories), naive_info_nce(*ends, 0.2), atol=1e-6)


def test_every_change_is_drawn_and_both_views_differ(histories):
    objective = ViewContrast(0.2, 0.5, item_size=4)
    seen = set()
    for _ in range(60):
        item_seq, length = objective._augmented(histories)
        row, end = item_seq[3], int(length[3])
        if end < 8:
            seen.add("crop")
        elif (row == len(histories.items)).any():
            seen.add("mask")
        elif sorted(row.tolist()) == histories.item_seq[3].tolist() != row.tolist():
            seen.add("reorder")
        elif row.tolist() != histories.item_seq[3].tolist():
            seen.add("substitute")
    assert seen == {"crop", "mask", "reorder", "substitute"}


def test_alignment_is_over_items_that_have_both(histories, fusion):
    parts, present = fusion.parts()
    image, text = fusion.modalities.index("image"), fusion.modalities.index("text")
    both = [item for item in histories.item_seq.unique().tolist() if present[item, image] and present[item, text]]
    expected = naive_info_nce(parts[both, image], parts[both, text], 0.2)
    assert torch.allclose(ModalityAlignment(0.2)(histories), expected, atol=1e-6)


def test_alignment_of_one_modality_is_nothing(histories):
    alone = EntityEncoder({"text": Features(torch.randn(40, 6), torch.arange(40) > 0)}, embedding_size=4)
    assert float(ModalityAlignment(0.2)(replace(histories, item_encoder=alone))) == 0.0


def test_masked_item_is_asked_for_at_the_end(histories, monkeypatch):
    objective = MaskedItem(0.1, 4)
    drawn = torch.tensor([0.0, 0.6, 0.0, 0.99])
    monkeypatch.setattr(torch, "rand", lambda *_, **__: drawn)
    losses = []
    for row in (1, 2, 3):  # the history of one event has nothing to go by
        length = int(LENGTHS[row])
        point = int(drawn[row] * length)
        inputs = histories.items[histories.item_seq[row, :length]].clone()
        inputs[point] = objective.mask
        answer = objective.question(inputs.sum(dim=0))
        scores = torch.stack([torch.cosine_similarity(answer, item, dim=0) / 0.1 for item in histories.items[1:]])
        losses.append(torch.logsumexp(scores, 0) - scores[histories.item_seq[row, point] - 1])
    assert torch.allclose(objective(histories), torch.stack(losses).mean(), atol=1e-5)


def test_masked_item_of_single_events_is_nothing(histories):
    single = replace(histories, item_seq=histories.item_seq[:1], item_seq_len=LENGTHS[:1], user=torch.zeros(1))
    objective = MaskedItem(0.1, 4)
    loss = objective(single)
    loss.backward(retain_graph=True)
    assert float(loss.detach()) == 0.0


def test_autoencoding_reads_what_is_there(histories, fusion):
    objective = FeatureAutoencoding(fusion)
    errors = []
    for item in histories.item_seq[histories.item_seq > 0].tolist():
        for modality in ("image", "text"):
            features = fusion.features[modality]
            if fusion.present[item, fusion.modalities.index(modality)]:
                read = objective.decoders[modality](histories.items[item])
                errors.append(1 - torch.cosine_similarity(read, features.values[item], dim=0))
    assert torch.allclose(objective(histories), torch.stack(errors).mean(), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", SSL)
def test_objective_is_learnt_in_a_run(built, name):
    """Alone with the next item, each loss falls as it is trained; and the log names it."""
    weights = {f"ssl_{other}_weight": 1.0 if other == name else 0.0 for other in SSL}
    config, model, _, train, *_ = built(
        epochs=60, learning_rate=0.01, train_batch_size=2048, dropout_prob=0.0, **weights
    )
    assert model.loss_names == ("next_item", name)
    if name == "walks":  # the films have several events each, so that there would be none
        model.objectives[name].new_item_share = 1.0
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    losses = []
    epoch = trainer._train_epoch
    trainer._train_epoch = lambda *args, **kwargs: losses.append(epoch(*args, **kwargs)) or losses[-1]
    trainer.fit(train, None, saved=False, verbose=False)
    if name == "modalities":  # films have text only
        assert losses[-1][1] == 0.0
    else:
        assert losses[-1][1] < 0.9 * losses[0][1]
