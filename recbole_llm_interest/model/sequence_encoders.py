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

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.model.former_names import without_former_norm
from recbole_llm_interest.settings import Registry

#: standard deviation of weights and positions at the start, as in BERT and SASRec; an item's elements have D ** -0.5
SMALL_STD = 0.02


@dataclass(frozen=True)
class EncoderSizes:
    """What a sequence encoder is built from.

    Attributes:
        input_size: width D of an event.
        hidden_size: width H of a hidden state.
        num_layers: number of layers.
        dropout_prob: dropout between the layers of recurrent networks.
        block_dropout_prob: dropout within the layers of encoders that are residual.
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
    block_dropout_prob: float = 0.0
    num_heads: int = 2
    max_length: int = 50


class SequenceEncoder(nn.Module):
    """The base of the tracker's encoders, which are registered in ``TRACKERS``.

    Attributes:
        initial_size: S of the state before the first event.
        has_attention: whether the state grows by a row with each event, up to ``max_length``; S is fixed otherwise.
        is_residual: whether hidden states start as the events themselves, to which layers add. The interest then starts
            as the last item, near which training looks for the next one.

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
    is_residual = False

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


class AttentionEncoder(SequenceEncoder):
    """The base of encoders whose state is the tokens they have read: one that stands before the history, one an event.

    Events are projected to tokens by a layer that starts as the identity, and normalised, so that what blocks add to
    them is small at first however long events are. A subclass implements ``read``.

    Args:
        sizes: widths, and the number of events that are attended to.

    Raises:
        SettingsError: the heads do not share the width equally.

    Example:
        >>> class Mean(AttentionEncoder):
        ...     def read(self, tokens):
        ...         return tokens.cumsum(dim=1) / torch.arange(1, tokens.shape[1] + 1)[:, None]
        >>> encoder = Mean(EncoderSizes(input_size=8, hidden_size=16, max_length=50))
        >>> hidden, state = encoder(torch.randn(2, 5, 8), torch.zeros(encoder.initial_size, 2, 16))
        >>> hidden.shape, state.shape  # the state has grown by five events
        (torch.Size([2, 5, 16]), torch.Size([6, 2, 16]))
    """

    initial_size = 1
    has_attention = True
    is_residual = True

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        if sizes.hidden_size % sizes.num_heads:
            raise SettingsError(
                f"num_heads={sizes.num_heads} does not divide hidden_size={sizes.hidden_size}: heads are equally wide"
            )
        self.max_length = sizes.max_length
        self.input = identity_linear(sizes.input_size, sizes.hidden_size)
        self.input_norm: nn.Module = nn.LayerNorm(sizes.hidden_size)
        self.register_load_state_dict_pre_hook(without_former_norm)  # type: ignore[no-untyped-call]

    def forward(self, events: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states ``[B, L, H]`` after each of ``events``, ``[B, L, D]``, and the state ``[S, B, H]`` then."""
        tokens = torch.cat([state.transpose(0, 1), self.input_norm(self.input(events))], dim=1)
        tokens = torch.cat([tokens[:, :1], latest(tokens[:, 1:], self.max_length)], dim=1)
        return latest(self.read(tokens), events.shape[1]), tokens.transpose(0, 1)

    def read(self, tokens: Tensor) -> Tensor:
        """The hidden state at each of ``tokens``, from it and those before it, ``[B, 1 + L, H]`` both."""
        raise NotImplementedError


@TRACKERS.register("transformer")
class TransformerEncoder(AttentionEncoder):
    """A causal Transformer as in SASRec (Kang and McAuley, ICDM 2018), with normalisation before each block.

    Args:
        sizes: widths, blocks, heads, dropout within blocks, and the events that are attended to.

    Example:
        >>> encoder = TransformerEncoder(EncoderSizes(input_size=8, hidden_size=16, max_length=50))
        >>> encoder(torch.randn(2, 5, 8), torch.zeros(encoder.initial_size, 2, 16))[0].shape
        torch.Size([2, 5, 16])
    """

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__(sizes)
        hidden_size = sizes.hidden_size
        self.position = positions(sizes)
        block = nn.TransformerEncoderLayer(
            *(hidden_size, sizes.num_heads, 4 * hidden_size, sizes.block_dropout_prob, "gelu"),
            batch_first=True,
            norm_first=True,
        )
        self.blocks = nn.TransformerEncoder(
            block, sizes.num_layers, norm=nn.LayerNorm(hidden_size), enable_nested_tensor=False
        ).apply(start_small)

    def read(self, tokens: Tensor) -> Tensor:
        """The hidden state at each of ``tokens``, from it and those before it, ``[B, 1 + L, H]`` both."""
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=tokens.device, dtype=tokens.dtype)
        hidden: Tensor = self.blocks(tokens + self.position.weight[:length], mask=mask, is_causal=True)
        return hidden


TRACKERS.register_lazy("lru", "recbole_llm_interest.model.linear_recurrence:LinearRecurrentEncoder")
TRACKERS.register_lazy("hstu", "recbole_llm_interest.model.hstu:HSTUEncoder")
TRACKERS.register_lazy("ligr", "recbole_llm_interest.model.ligr:GatedTransformerEncoder")


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


def identity_linear(input_size: int, output_size: int) -> nn.Linear:
    """A linear map ``[..., D] -> [..., H]`` that starts as the identity, cut or padded with zeros."""
    layer = nn.Linear(input_size, output_size)
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def start_small(layer: nn.Module) -> None:
    """Draw small weights, and set biases to zero, of a linear or an attention layer, ``[...]``; leave others alone.

    Blocks then add little to the tokens at first. With torch's own weights, they add several times as much.
    """
    if isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, std=SMALL_STD)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.MultiheadAttention):
        nn.init.normal_(layer.in_proj_weight, std=SMALL_STD)


def positions(sizes: EncoderSizes) -> nn.Embedding:
    """What tells a token's place to attention, by its number from the oldest; small beside the tokens at first."""
    embedding = nn.Embedding(sizes.max_length + 1, sizes.hidden_size)
    nn.init.normal_(embedding.weight, std=SMALL_STD)
    return embedding


def in_heads(tokens: Tensor, num_heads: int) -> Tensor:
    """Tokens ``[B, T, H]`` cut into heads, ``[B, num_heads, T, H / num_heads]``."""
    return tokens.reshape(*tokens.shape[:2], num_heads, -1).transpose(1, 2)


def latest(events: Tensor, count: int) -> Tensor:
    """The last ``count`` of events ``[B, L, D]``, or all if there are fewer; ``torch.export`` can trace it."""
    surplus = torch.sym_max(events.shape[1] - count, 0)  # type: ignore[no-untyped-call]
    return events[:, surplus:]
