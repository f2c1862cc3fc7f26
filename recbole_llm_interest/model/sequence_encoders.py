"""Sequence encoders of the tracker: recurrent networks and a causal Transformer, behind one interface.

An encoder reads the representations of successive events, given its state before them, and returns a hidden state
after each event, and its new state. The state has the shape ``[S, B, H]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm_interest.settings import Registry


@dataclass(frozen=True)
class EncoderSizes:
    """What a sequence encoder is built from.

    Attributes:
        input_size: width D of an event.
        hidden_size: width H of a hidden state.
        num_layers: number of layers.
        dropout_prob: dropout within and between layers.
        num_heads: attention heads of a layer.
        max_length: number of most recent events that attention can see.

    Example:
        >>> EncoderSizes(input_size=8, hidden_size=16).num_layers
        1
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    dropout_prob: float = 0.0
    num_heads: int = 2
    max_length: int = 50


class SequenceEncoder(nn.Module):
    """The base of the tracker's encoders, which are registered in ``TRACKERS``.

    Attributes:
        initial_size: S of the state before the first event.
        has_attention: whether the state grows by a row with each event, up to ``max_length``; S is fixed otherwise.

    Example:
        >>> class Average(SequenceEncoder):
        ...     initial_size = 1
        ...     def forward(self, events, state):
        ...         hidden = 0.9 * state[0][:, None] + 0.1 * events.cumsum(dim=1)
        ...         return hidden, hidden[None, :, -1]
        >>> Average()(torch.ones(2, 5, 3), torch.zeros(1, 2, 3))[0].shape
        torch.Size([2, 5, 3])
    """

    initial_size: int
    has_attention = False

    def forward(self, events: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states ``[B, L, H]`` after each of ``events``, ``[B, L, D]``, and the state ``[S, B, H]`` then."""
        raise NotImplementedError


#: builders of sequence encoders by the value of the setting ``tracker``
TRACKERS: Registry[Callable[[EncoderSizes], SequenceEncoder]] = Registry("tracker", "tracker")


class RecurrentEncoder(SequenceEncoder):
    """LSTM (Hochreiter and Schmidhuber, 1997) or GRU (Cho et al., 2014); layers after the first are residual.

    Args:
        cell: ``nn.LSTM`` or ``nn.GRU``.
        sizes: widths, layers and dropout between layers.

    Example:
        >>> encoder = RecurrentEncoder(nn.LSTM, EncoderSizes(input_size=8, hidden_size=16))
        >>> hidden, state = encoder(torch.randn(2, 5, 8), torch.zeros(encoder.initial_size, 2, 16))
        >>> hidden.shape, state.shape
        (torch.Size([2, 5, 16]), torch.Size([2, 2, 16]))
    """

    def __init__(self, cell: type[nn.LSTM] | type[nn.GRU], sizes: EncoderSizes) -> None:
        super().__init__()
        hidden_size = sizes.hidden_size
        self.layers = nn.ModuleList(
            cell(hidden_size if layer else sizes.input_size, hidden_size, batch_first=True)
            for layer in range(sizes.num_layers)
        )
        self.dropout = nn.Dropout(sizes.dropout_prob)
        self.tensors_a_layer = 2 if cell is nn.LSTM else 1
        self.initial_size = sizes.num_layers * self.tensors_a_layer

    def forward(self, events: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states ``[B, L, H]`` after each of ``events``, ``[B, L, D]``, and the state ``[S, B, H]`` then."""
        states: list[Tensor] = []
        hidden = events
        for index, (layer, before) in enumerate(
            zip(self.layers, torch.split(state, self.tensors_a_layer), strict=True)
        ):
            if self.tensors_a_layer == 2:
                output, (last, cell) = layer(self.dropout(hidden) if index else hidden, (before[:1], before[1:]))
                states += [last, cell]
            else:
                output, last = layer(self.dropout(hidden) if index else hidden, before)
                states.append(last)
            hidden = hidden + output if index else output
        return hidden, torch.cat(states)


@TRACKERS.register("lstm")
def _lstm(sizes: EncoderSizes) -> RecurrentEncoder:
    return RecurrentEncoder(nn.LSTM, sizes)


@TRACKERS.register("gru")
def _gru(sizes: EncoderSizes) -> RecurrentEncoder:
    return RecurrentEncoder(nn.GRU, sizes)


@TRACKERS.register("transformer")
class TransformerEncoder(SequenceEncoder):
    """A causal Transformer as in SASRec (Kang and McAuley, ICDM 2018), with normalisation before each block.

    Its state is the tokens it has read: one that stands before the history, and one an event.

    Args:
        sizes: widths, blocks, heads, dropout within blocks, and the events that are attended to.

    Example:
        >>> encoder = TransformerEncoder(EncoderSizes(input_size=8, hidden_size=16, max_length=50))
        >>> hidden, state = encoder(torch.randn(2, 5, 8), torch.zeros(encoder.initial_size, 2, 16))
        >>> hidden.shape, state.shape  # the state has grown by five events
        (torch.Size([2, 5, 16]), torch.Size([6, 2, 16]))
    """

    initial_size = 1
    has_attention = True

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        hidden_size = sizes.hidden_size
        self.max_length = sizes.max_length
        self.input = nn.Linear(sizes.input_size, hidden_size)
        self.position = nn.Embedding(sizes.max_length + 1, hidden_size)
        nn.init.normal_(self.position.weight, std=hidden_size**-0.5)
        block = nn.TransformerEncoderLayer(
            *(hidden_size, sizes.num_heads, 4 * hidden_size, sizes.dropout_prob, "gelu"),
            batch_first=True,
            norm_first=True,
        )
        self.blocks = nn.TransformerEncoder(
            block, sizes.num_layers, norm=nn.LayerNorm(hidden_size), enable_nested_tensor=False
        )

    def forward(self, events: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states ``[B, L, H]`` after each of ``events``, ``[B, L, D]``, and the state ``[S, B, H]`` then."""
        tokens = torch.cat([state.transpose(0, 1), self.input(events)], dim=1)
        tokens = torch.cat([tokens[:, :1], latest(tokens[:, 1:], self.max_length)], dim=1)
        length = tokens.shape[1]
        positions = self.position.weight[:length]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=tokens.device, dtype=tokens.dtype)
        hidden = self.blocks(tokens + positions, mask=mask, is_causal=True)
        return latest(hidden, events.shape[1]), tokens.transpose(0, 1)


class AttentionReadout(nn.Module):
    """Attends from the present hidden state to all hidden states so far (NARM, Li et al., CIKM 2017).

    Args:
        hidden_size: width H of the hidden states.
        output_size: width D of the result.

    Example:
        >>> hidden = torch.randn(2, 5, 16)
        >>> AttentionReadout(hidden_size=16, output_size=8)(hidden, past=hidden).shape
        torch.Size([2, 5, 8])
    """

    def __init__(self, hidden_size: int, output_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)
        self.value = nn.Linear(hidden_size, output_size, bias=False)

    def forward(self, hidden: Tensor, past: Tensor) -> Tensor:
        """The readout ``[B, L, D]`` at the last L hidden states, ``[B, L, H]``, from all of them, ``[B, T + L, H]``."""
        length, total = hidden.shape[1], past.shape[1]
        now = torch.arange(length, device=hidden.device) + total - length
        is_past = torch.arange(total, device=hidden.device) <= now[:, None]
        query, key, value = (of[:, None] for of in (self.query(hidden), self.key(past), self.value(past)))  # one head
        return F.scaled_dot_product_attention(query, key, value, is_past)[:, 0]


def latest(events: Tensor, count: int) -> Tensor:
    """The last ``count`` of events ``[B, L, D]``, or all if there are fewer; ``torch.export`` can trace it."""
    surplus = torch.sym_max(events.shape[1] - count, 0)  # type: ignore[no-untyped-call]
    return events[:, surplus:]
