"""The tracker ``ligr``: a Transformer whose blocks gate what they add, as in eSASRec."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm_interest.model.sequence_encoders import (
    AttentionEncoder,
    EncoderSizes,
    in_heads,
    positions,
    start_small,
)


class GatedTransformerEncoder(AttentionEncoder):
    """The blocks of LiGR (Borisyuk et al., arXiv 2502.03417) on histories, as in eSASRec (arXiv 2508.06450).

    Args:
        sizes: widths, blocks, heads, dropout within blocks, and the events that are attended to.

    Example:
        >>> encoder = GatedTransformerEncoder(EncoderSizes(input_size=8, hidden_size=16, max_length=50))
        >>> encoder(torch.randn(2, 5, 8), torch.zeros(encoder.initial_size, 2, 16))[0].shape
        torch.Size([2, 5, 16])
    """

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__(sizes)
        self.position = positions(sizes)
        self.blocks = nn.ModuleList(GatedBlock(sizes) for _ in range(sizes.num_layers)).apply(start_small)

    def read(self, tokens: Tensor) -> Tensor:
        """The hidden state at each of ``tokens``, from it and those before it, ``[B, 1 + L, H]`` both."""
        hidden = tokens + self.position.weight[: tokens.shape[1]]
        for block in self.blocks:
            hidden = block(hidden)
        return hidden


class GatedBlock(nn.Module):
    """Attention and a SwiGLU layer (Shazeer, arXiv 2002.05202), each behind a gate that its input opens.

    Args:
        sizes: width, heads and dropout.

    Example:
        >>> block = GatedBlock(EncoderSizes(input_size=16, hidden_size=16))
        >>> block(torch.randn(2, 6, 16)).shape
        torch.Size([2, 6, 16])
    """

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        hidden_size, inner_size = sizes.hidden_size, 4 * sizes.hidden_size
        self.num_heads, self.dropout_prob = sizes.num_heads, sizes.block_dropout_prob
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(hidden_size), nn.LayerNorm(hidden_size)
        self.attention_gate, self.feed_forward_gate = (nn.Linear(hidden_size, hidden_size) for _ in range(2))
        self.attention_input = nn.Linear(hidden_size, 3 * hidden_size)
        self.attention_output = nn.Linear(hidden_size, hidden_size)
        self.inner = nn.Linear(hidden_size, 2 * inner_size, bias=False)
        self.outer = nn.Linear(inner_size, hidden_size, bias=False)
        self.dropout = nn.Dropout(self.dropout_prob)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens with what the block adds to them, ``[B, T, H]`` both."""
        added = self._attended(self.attention_norm(tokens))
        tokens = tokens + torch.sigmoid(self.attention_gate(tokens)) * self.dropout(added)
        value, gate = self.inner(self.feed_forward_norm(tokens)).chunk(2, dim=-1)
        added = self.outer(self.dropout(F.silu(gate) * value))
        return tokens + torch.sigmoid(self.feed_forward_gate(tokens)) * self.dropout(added)

    def _attended(self, tokens: Tensor) -> Tensor:
        """``[B, T, H] -> [B, T, H]``."""
        parts = self.attention_input(tokens).chunk(3, dim=-1)
        query, key, value = (in_heads(part, self.num_heads) for part in parts)
        dropout = self.dropout_prob if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        output: Tensor = self.attention_output(attended.transpose(1, 2).flatten(2))
        return output
