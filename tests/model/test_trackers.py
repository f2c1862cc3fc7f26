"""Trackers beside naive loops over events, and what all of them share."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.model.hstu import TransductionUnit
from recbole_llm_interest.model.interest_tracker import InterestTracker
from recbole_llm_interest.model.ligr import GatedBlock
from recbole_llm_interest.model.linear_recurrence import LinearRecurrence
from recbole_llm_interest.model.sequence_encoders import TRACKERS, AttentionEncoder, EncoderSizes

RESIDUAL = [name for name in TRACKERS if name not in ("lstm", "gru")]


def tracker(encoder, **changes):
    torch.manual_seed(3)
    options = {"input_size": 8, "hidden_size": 8, "num_layers": 2, "dropout_prob": 0.0, "user_size": 3, "max_length": 6}
    return InterestTracker(encoder=encoder, **{**options, **changes}).eval()


@pytest.mark.parametrize("encoder", list(TRACKERS))
def test_every_parameter_gets_a_finite_gradient(encoder):
    made = tracker(encoder)
    made(torch.randn(2, 6, 8), made.initial_state(torch.randn(2, 3))).square().mean().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("encoder", RESIDUAL)
@pytest.mark.parametrize("hidden_size", [64, 128])
def test_interest_starts_near_the_last_item(encoder, hidden_size):
    """So that training has to learn how the next item differs, and not first of all what items are."""
    made = tracker(encoder, input_size=64, hidden_size=hidden_size, num_layers=1, user_size=None)
    items = F.normalize(torch.randn(50, 6, 64), dim=-1)
    with torch.no_grad():
        interest = made(items, made.neutral_state(50))
    assert F.cosine_similarity(interest, items, dim=-1).mean() > 0.85


@pytest.mark.parametrize("length", [1, 2, 3, 8, 9])
def test_linear_recurrence_equals_a_loop_with_complex_numbers(length):
    torch.manual_seed(0)
    recurrence = LinearRecurrence(5).double()
    events, state = torch.randn(2, length, 5).double(), torch.randn(2, 2, 5).double()
    read, after = recurrence(events, state)
    factor = torch.exp(torch.complex(-recurrence.decay_log.exp(), recurrence.phase_log.exp()))
    assert (factor.abs() < 1).all()
    now = torch.complex(state[0], state[1])
    for place in range(length):
        real, imaginary = recurrence.input(events[:, place]).chunk(2, dim=-1)
        now = factor * now + (1 - factor.abs() ** 2).sqrt() * torch.complex(real, imaginary)
        assert torch.allclose(read[:, place], recurrence.output(torch.cat([now.real, now.imag], dim=1)))
    assert torch.allclose(after, torch.stack([now.real, now.imag]))


@torch.no_grad()
def test_transduction_unit_equals_a_loop_over_pairs():
    torch.manual_seed(0)
    unit = TransductionUnit(EncoderSizes(input_size=4, hidden_size=4, num_heads=2, max_length=5)).eval().double()
    unit.bias.normal_()
    tokens = torch.randn(1, 6, 4).double()
    gate, value, query, key = F.silu(unit.input(unit.norm(tokens[0]))).chunk(4, dim=-1)
    for now in range(6):
        attended = torch.zeros(4).double()
        for past in range(now + 1):
            for head in (slice(0, 2), slice(2, 4)):
                weight = F.silu(query[now, head] @ key[past, head] + unit.bias[now - past])
                attended[head] += weight * value[past, head]
        expected = unit.output(gate[now] * unit.attended_norm(attended))
        assert torch.allclose(unit(tokens)[0, now], expected)


@torch.no_grad()
def test_gated_block_equals_a_loop_over_tokens():
    torch.manual_seed(0)
    block = GatedBlock(EncoderSizes(input_size=4, hidden_size=4, num_heads=2)).eval().double()
    tokens = torch.randn(1, 5, 4).double()
    query, key, value = block.attention_input(block.attention_norm(tokens[0])).chunk(3, dim=-1)
    for now in range(5):
        heads = [slice(0, 2), slice(2, 4)]
        weights = [torch.softmax(key[: now + 1, head] @ query[now, head] / 2**0.5, dim=0) for head in heads]
        read = torch.cat([weight @ value[: now + 1, head] for weight, head in zip(weights, heads, strict=True)])
        hidden = tokens[0, now]
        hidden = hidden + torch.sigmoid(block.attention_gate(hidden)) * block.attention_output(read)
        left, right = block.inner(block.feed_forward_norm(hidden)).chunk(2)
        hidden = hidden + torch.sigmoid(block.feed_forward_gate(hidden)) * block.outer(left * F.silu(right))
        assert torch.allclose(block(tokens)[0, now], hidden)


@pytest.mark.parametrize("encoder", [name for name in RESIDUAL if name != "lru"])
def test_heads_have_to_share_the_width(encoder):
    assert isinstance(tracker(encoder).encoder, AttentionEncoder)
    with pytest.raises(SettingsError, match="num_heads=3 does not divide hidden_size=8"):
        tracker(encoder, num_heads=3)


@pytest.mark.parametrize("encoder", [name for name in RESIDUAL if name != "lru"])
def test_weights_without_a_norm_of_tokens_are_read_as_they_were(encoder):
    made, weights = tracker(encoder), tracker(encoder).state_dict()
    items, state = torch.randn(2, 6, 8), made.neutral_state(2)
    made.load_state_dict({name: value for name, value in weights.items() if "input_norm" not in name})
    former = made(items, state)
    assert torch.equal(made.encoder(items, state.carried)[1][1:].transpose(0, 1), items)  # tokens are the events
    with_norm = tracker(encoder)
    with_norm.load_state_dict(weights)
    assert not torch.allclose(with_norm(items, state), former)
    with pytest.raises(RuntimeError, match=r"input_norm\.weight"):
        tracker(encoder).load_state_dict({k: v for k, v in weights.items() if "input_norm.weight" not in k})
