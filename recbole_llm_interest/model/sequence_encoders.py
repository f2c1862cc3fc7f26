"""What can stand at the tracker's heart: recurrent networks and a causal Transformer, behind one interface.

An encoder reads representations of successive events, given what it carries over from those before, and returns a
hidden state after each, with what it carries on. What is carried has the shape ``[S, B, H]``: ``S`` is fixed for
recurrent networks, and counts the events so far for a Transformer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RecurrentEncoder(nn.Module):
    """LSTM (Hochreiter and Schmidhuber, 1997) or GRU (Cho et al., 2014); further layers add to what is below them.

    Args:
        cell: ``nn.LSTM`` or ``nn.GRU``.
        input_size: width ``D`` of an event.
        hidden_size: width ``H`` of the state.
        num_layers: how many are stacked.
        dropout_prob: dropout on what a further layer reads.
    """

    def __init__(
        self,
        cell: type[nn.LSTM] | type[nn.GRU],
        input_size: int,
        hidden_size: int,
        num_layers: int,
        dropout_prob: float,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            cell(hidden_size if layer else input_size, hidden_size, batch_first=True) for layer in range(num_layers)
        )
        self.dropout = nn.Dropout(dropout_prob)
        self.tensors_a_layer = 2 if cell is nn.LSTM else 1
        self.initial_size = num_layers * self.tensors_a_layer

    def forward(self, events: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states ``[B, L, H]`` after each of ``events``, ``[B, L, D]``, and what is carried on."""
        states: list[Tensor] = []
        hidden = events
        carried_by_layer = torch.split(carried, self.tensors_a_layer)
        for index, (layer, state) in enumerate(zip(self.layers, carried_by_layer, strict=True)):
            if self.tensors_a_layer == 2:
                output, (last, cell) = layer(self.dropout(hidden) if index else hidden, (state[:1], state[1:]))
                states += [last, cell]
            else:
                output, last = layer(self.dropout(hidden) if index else hidden, state)
                states.append(last)
            hidden = hidden + output if index else output
        return hidden, torch.cat(states)


class TransformerEncoder(nn.Module):
    """A causal Transformer as in SASRec (Kang and McAuley, ICDM 2018), normalised before each block.

    Args:
        input_size: width ``D`` of an event.
        hidden_size: width ``H`` of the state.
        num_layers: blocks.
        num_heads: attention heads of a block.
        dropout_prob: dropout within blocks.
        max_length: events that are attended to; older ones are forgotten.
    """

    initial_size = 1  # one token that stands before the history

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int, num_heads: int, dropout_prob: float, max_length: int
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.input = nn.Linear(input_size, hidden_size)
        self.position = nn.Embedding(max_length + 1, hidden_size)
        nn.init.normal_(self.position.weight, std=hidden_size**-0.5)
        block = nn.TransformerEncoderLayer(
            *(hidden_size, num_heads, 4 * hidden_size, dropout_prob, "gelu"), batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(
            block, num_layers, norm=nn.LayerNorm(hidden_size), enable_nested_tensor=False
        )

    def forward(self, events: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states ``[B, L, H]`` after each of ``events``, ``[B, L, D]``, and what is carried on."""
        tokens = torch.cat([carried.transpose(0, 1), self.input(events)], dim=1)
        tokens = torch.cat([tokens[:, :1], latest(tokens[:, 1:], self.max_length)], dim=1)
        length = tokens.shape[1]
        places = self.position.weight[:length]
        ahead = nn.Transformer.generate_square_subsequent_mask(length, device=tokens.device, dtype=tokens.dtype)
        hidden = self.blocks(tokens + places, mask=ahead, is_causal=True)
        return latest(hidden, events.shape[1]), tokens.transpose(0, 1)


class AttentionReadout(nn.Module):
    """Attends from the present state to all states so far (Li et al., CIKM 2017, NARM).

    Args:
        hidden_size: width ``H`` of the states.
        output_size: width ``D`` of what is read.
    """

    def __init__(self, hidden_size: int, output_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)
        self.value = nn.Linear(hidden_size, output_size, bias=False)

    def forward(self, hidden: Tensor, past: Tensor) -> Tensor:
        """What is read at each of the last ``L`` states, ``[B, L, D]``, from all ``past`` ones, ``[B, T + L, H]``."""
        length, total = hidden.shape[1], past.shape[1]
        now = torch.arange(length, device=hidden.device) + total - length
        is_past = torch.arange(total, device=hidden.device) <= now[:, None]
        query, key, value = (of[:, None] for of in (self.query(hidden), self.key(past), self.value(past)))  # one head
        return F.scaled_dot_product_attention(query, key, value, is_past)[:, 0]


def latest(events: Tensor, count: int) -> Tensor:
    """The last ``count`` of events ``[B, L, D]``, or as many as there are, in a way that a program is exported by."""
    surplus = torch.sym_max(events.shape[1] - count, 0)  # type: ignore[no-untyped-call]
    return events[:, surplus:]
