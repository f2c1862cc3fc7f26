"""The tracker ``hstu``: attention without a softmax, by how many events ago, gated by the present event."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm_interest.model.sequence_encoders import (
    SMALL_STD,
    AttentionEncoder,
    EncoderSizes,
    in_heads,
    start_small,
)


class HSTUEncoder(AttentionEncoder):
    """Hierarchical sequential transduction units (Zhai et al., ICML 2024), with relative positions and without clocks.

    Args:
        sizes: widths, layers, heads, dropout within layers, and the events that are attended to.

    Example:
        >>> encoder = HSTUEncoder(EncoderSizes(input_size=8, hidden_size=16, max_length=50))
        >>> encoder(torch.randn(2, 5, 8), torch.zeros(encoder.initial_size, 2, 16))[0].shape
        torch.Size([2, 5, 16])
    """

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__(sizes)
        self.units = nn.ModuleList(TransductionUnit(sizes) for _ in range(sizes.num_layers)).apply(start_small)
        self.norm = nn.LayerNorm(sizes.hidden_size)

    def read(self, tokens: Tensor) -> Tensor:
        """The hidden state at each of ``tokens``, from it and those before it, ``[B, 1 + L, H]`` both."""
        for unit in self.units:
            tokens = tokens + unit(tokens)
        hidden: Tensor = self.norm(tokens)
        return hidden


class TransductionUnit(nn.Module):
    """Weights past tokens each by itself, so that strong matches add up, and gates their sum by the present token.

    Args:
        sizes: widths, heads, dropout, and the events that are attended to.

    Example:
        >>> unit = TransductionUnit(EncoderSizes(input_size=16, hidden_size=16, max_length=50))
        >>> unit(torch.randn(2, 6, 16)).shape
        torch.Size([2, 6, 16])
    """

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        hidden_size = sizes.hidden_size
        self.num_heads = sizes.num_heads
        self.norm, self.attended_norm = nn.LayerNorm(hidden_size), nn.LayerNorm(hidden_size)
        self.input = nn.Linear(hidden_size, 4 * hidden_size)
        self.bias = nn.Parameter(torch.empty(sizes.max_length + 1).normal_(std=SMALL_STD))  # by the events in between
        self.dropout = nn.Dropout(sizes.block_dropout_prob)
        self.output = nn.Linear(hidden_size, hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """What is added to each of ``tokens``, ``[B, T, H]`` both."""
        gate, *parts = F.silu(self.input(self.norm(tokens))).chunk(4, dim=-1)
        value, query, key = (in_heads(part, self.num_heads) for part in parts)
        place = torch.arange(tokens.shape[1], device=tokens.device)
        distance = place[:, None] - place
        # no division by the length, as in the paper: the norm would undo it
        weight = F.silu(query @ key.transpose(-1, -2) + self.bias[distance.clamp(min=0)]) * (distance >= 0)
        attended = self.attended_norm((weight @ value).transpose(1, 2).flatten(2))
        added: Tensor = self.output(self.dropout(gate * attended))
        return added
