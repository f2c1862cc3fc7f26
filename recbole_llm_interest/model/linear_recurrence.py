"""The tracker ``lru``: a linear recurrence, which reads a history in parallel and an event in constant time."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm_interest.model.sequence_encoders import EncoderSizes, SequenceEncoder, identity_linear, start_small

#: bounds of what a channel keeps of itself from one event to the next, at the start
_KEEPS = (0.8, 0.99)
#: the longest history that an exported program reads, in doublings
_EXPORTED_DOUBLINGS = 16


class LinearRecurrentEncoder(SequenceEncoder):
    """Linear recurrent units with feed-forward layers, as in LRURec (Yue et al., WSDM 2024).

    Args:
        sizes: widths, layers and dropout within layers.

    Example:
        >>> encoder = LinearRecurrentEncoder(EncoderSizes(input_size=8, hidden_size=16))
        >>> hidden, state = encoder(torch.randn(2, 5, 8), torch.zeros(encoder.initial_size, 2, 16))
        >>> hidden.shape, state.shape
        (torch.Size([2, 5, 16]), torch.Size([2, 2, 16]))
    """

    is_residual = True

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.input = identity_linear(sizes.input_size, sizes.hidden_size)
        self.norm = nn.LayerNorm(sizes.hidden_size)
        self.blocks = nn.ModuleList(LinearRecurrentBlock(sizes) for _ in range(sizes.num_layers)).apply(start_small)
        self.initial_size = 2 * sizes.num_layers

    def forward(self, events: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states ``[B, L, H]`` after each of ``events``, ``[B, L, D]``, and the state ``[S, B, H]`` then."""
        hidden = self.norm(self.input(events))
        states = []
        for block, before in zip(self.blocks, torch.split(state, 2), strict=True):
            hidden, after = block(hidden, before)
            states.append(after)
        return hidden, torch.cat(states)


class LinearRecurrentBlock(nn.Module):
    """A linear recurrence and a feed-forward layer, each added to its input and normalised.

    Args:
        sizes: width and dropout.

    Example:
        >>> block = LinearRecurrentBlock(EncoderSizes(input_size=16, hidden_size=16))
        >>> block(torch.randn(2, 5, 16), torch.zeros(2, 2, 16))[0].shape
        torch.Size([2, 5, 16])
    """

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        width, inner = sizes.hidden_size, 4 * sizes.hidden_size
        self.dropout = nn.Dropout(sizes.block_dropout_prob)
        self.recurrence = LinearRecurrence(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, inner), nn.GELU(), self.dropout, nn.Linear(inner, width))
        self.recurrence_norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, events: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """What follows from ``events``, ``[B, L, H]`` both, and the state, ``[2, B, H]``, before and after."""
        read, after = self.recurrence(events, state)
        hidden = self.recurrence_norm(events + self.dropout(read))
        return self.feed_forward_norm(hidden + self.dropout(self.feed_forward(hidden))), after


class LinearRecurrence(nn.Module):
    r"""A diagonal recurrence of complex numbers, :math:`h_t = \lambda h_{t-1} + \gamma B x_t`, and a linear readout.

    :math:`\lambda = \exp(-e^\nu + i e^\theta)` stays within the unit circle, and :math:`\gamma = \sqrt{1-|\lambda|^2}`
    keeps the size of a state whatever :math:`\lambda` is (Orvieto et al., ICML 2023). A complex number is a column of
    the real and one of the imaginary parts, since not every runtime of exported programs has complex ones.

    Args:
        hidden_size: width H of events and results, and the number of complex channels.

    Example:
        >>> recurrence = LinearRecurrence(hidden_size=16)
        >>> read, state = recurrence(torch.randn(2, 5, 16), torch.zeros(2, 2, 16))
        >>> read.shape, state.shape
        (torch.Size([2, 5, 16]), torch.Size([2, 2, 16]))
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        least, most = (bound**2 for bound in _KEEPS)
        self.decay_log = nn.Parameter((-0.5 * torch.empty(hidden_size).uniform_(least, most).log()).log())
        self.phase_log = nn.Parameter(torch.empty(hidden_size).uniform_(0.01, 2 * math.pi).log())
        self.input = nn.Linear(hidden_size, 2 * hidden_size)
        self.output = nn.Linear(2 * hidden_size, hidden_size)

    def forward(self, events: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """What is read after each of ``events``, ``[B, L, H]`` both, and the state, ``[2, B, H]``, before and after."""
        gain = torch.sqrt(-torch.expm1(-2 * self.decay_log.exp())).repeat(2)
        before = state.transpose(0, 1).flatten(1)
        states = self._scan(torch.cat([before[:, None], gain * self.input(events)], dim=1))
        after = torch.stack(states[:, -1].chunk(2, dim=-1))
        return self.output(states[:, 1:]), after

    def _scan(self, driven: Tensor) -> Tensor:
        """The states after each of so many inputs, ``[B, T, 2 * H]`` both, in as many steps as T can be doubled.

        After k steps, a state holds the last ``2 ** k`` inputs.
        """
        length = driven.shape[1]
        # a traced program cannot count on a length; steps that reach beyond it add zeros
        doublings = _EXPORTED_DOUBLINGS if torch.compiler.is_exporting() else (length - 1).bit_length()
        for stride in (2**doubling for doubling in range(doublings)):
            earlier = F.pad(driven, (0, 0, stride, 0))[:, :length]
            driven = driven + self._decayed(earlier, stride)
        return driven

    def _decayed(self, states: Tensor, events: int) -> Tensor:
        """States ``[B, T, 2 * H]`` as many events later: times a power of lambda."""
        size, angle = torch.exp(-events * self.decay_log.exp()), events * self.phase_log.exp()
        real, imaginary = states.chunk(2, dim=-1)
        turned = torch.cat([-imaginary, real], dim=-1)
        return (size * angle.cos()).repeat(2) * states + (size * angle.sin()).repeat(2) * turned
