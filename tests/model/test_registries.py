"""A fusion, a tracker and an SSL objective that are registered from outside the package are used by their names."""

from __future__ import annotations

import pytest
import torch
from recbole.utils import get_trainer
from torch import nn

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.model.fusion import FUSIONS, Fusion
from recbole_llm_interest.model.sequence_encoders import TRACKERS, SequenceEncoder
from recbole_llm_interest.model.ssl.objectives import OBJECTIVES, Objective
from recbole_llm_interest.settings import Registry


@pytest.fixture
def registered(monkeypatch):
    """Registers a member for the time of a test."""

    def register(registry: Registry, name, member):
        monkeypatch.setitem(registry._members, name, member)

    return register


class MeanFusion(Fusion):
    def forward(self, parts):
        return parts.mean(dim=1), torch.full(parts.shape[:2], 1 / parts.shape[1])

    def contributions(self, parts):
        return parts / parts.shape[1]


class Decay(SequenceEncoder):
    """An exponential moving average of projected items."""

    initial_size = 1

    def __init__(self, sizes):
        super().__init__()
        self.input = nn.Linear(sizes.input_size, sizes.hidden_size)

    def forward(self, events, state):
        hidden, after = state[0], []
        for event in self.input(events).unbind(dim=1):
            hidden = 0.5 * hidden + 0.5 * event
            after.append(hidden)
        return torch.stack(after, dim=1), hidden[None]


class Shrinkage(Objective):
    """Keeps interest short."""

    @classmethod
    def from_settings(cls, settings, item_encoder, new_item_share):
        return cls()

    def forward(self, batch):
        return batch.seq_output.square().mean()


def train(built, **settings):
    config, model, _, train_data, valid, _ = built("LLMInterest", text_encoder="hashing", **settings)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train_data, valid, saved=False, show_progress=False)
    return model, trainer


def test_a_fusion_of_ones_own(built, registered):
    registered(FUSIONS, "mean", MeanFusion)
    model, _ = train(built, fusion="mean")
    assert isinstance(model.item_encoder.combine, MeanFusion)


def test_a_tracker_of_ones_own_has_equal_faces(built, registered):
    registered(TRACKERS, "decay", Decay)
    model, _ = train(built, tracker="decay")
    model.eval()
    items = torch.randn(2, 5, 16)
    whole = model.tracker(items, state := model.initial_state(torch.tensor([1, 2])))
    for position, item in enumerate(items.unbind(dim=1)):
        interest, state = model.tracker.step(item, state)
        assert torch.allclose(interest, whole[:, position], atol=1e-6)


def test_an_objective_of_ones_own_is_a_part_of_the_loss(built, registered):
    registered(OBJECTIVES, "shrinkage", Shrinkage)
    model, trainer = train(built, ssl_shrinkage_weight=0.5)
    assert model.loss_names == ("next_item", "walks", "shrinkage")
    assert len(trainer.train_loss_dict) == 2


@pytest.mark.parametrize(
    ("overrides", "known"),
    [
        ({"fusion": "gatd"}, "gated, attention, concat, late"),
        ({"tracker": "rnn"}, "lstm, gru, transformer, lru, hstu, ligr"),
    ],
)
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(built, overrides, known):
    with pytest.raises(SettingsError, match=known):
        built("LLMInterest", **overrides)
