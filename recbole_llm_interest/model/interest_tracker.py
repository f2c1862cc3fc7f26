"""Tracks a user's interest through time: ``h_t = LSTM(I_t, h_{t-1})``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recbole_llm_interest.model.event_window import EventWindow
from recbole_llm_interest.model.sequence_encoders import (
    TRACKERS,
    AttentionReadout,
    EncoderSizes,
    identity_linear,
    latest,
)


class InterestState(NamedTuple):
    """The tracker's state of B users between two events.

    Attributes:
        carried: state of the sequence encoder, ``[S, B, H]``.
        past: hidden states after the events so far, ``[B, T, H]``; T is 0 without an attention readout.
        user: representations of the users, ``[B, U]``; None if the tracker has no user content.
        recent: the last events, ``[B, k, D]``; None without a window of events.

    Example:
        >>> state = InterestState(torch.zeros(2, 3, 16), torch.zeros(3, 0, 16), None)  # three users of an LSTM
        >>> state.carried.shape[1]
        3
    """

    carried: Tensor
    past: Tensor
    user: Tensor | None
    recent: Tensor | None = None

    def select(self, users: Tensor) -> InterestState:
        """The state of some users, ``[b]``."""
        return InterestState(
            self.carried[:, users],
            self.past[users],
            None if self.user is None else self.user[users],
            None if self.recent is None else self.recent[users],
        )

    @staticmethod
    def concat(states: Sequence[InterestState]) -> InterestState:
        """The state of the users of several, which have equal sizes."""
        users = [state.user for state in states if state.user is not None]
        recent = [state.recent for state in states if state.recent is not None]
        return InterestState(
            torch.cat([state.carried for state in states], dim=1),
            torch.cat([state.past for state in states]),
            torch.cat(users) if users else None,
            torch.cat(recent) if recent else None,
        )


class InterestTracker(nn.Module):
    """Reads events one by one; the user's representation sets the first state and is gated into every interest.

    It offers two equivalent interfaces. ``forward`` reads whole histories, for training and evaluation. ``step``
    reads one event, for live updates, at a cost that does not depend on the length of the history (with attention:
    only up to ``max_length`` events).

    Args:
        input_size: width D of an item and of the interest.
        hidden_size: width H of a hidden state.
        num_layers: layers of the sequence encoder.
        dropout_prob: dropout between layers.
        user_size: width U of a user's representation; None without user content.
        encoder: name of one of ``TRACKERS``.
        num_heads: attention heads of a layer.
        block_dropout_prob: dropout within the layers of encoders that are residual.
        max_length: number of most recent events that attention can see.
        attention_readout: whether the interest also attends to all hidden states so far.
        last_item_skip: whether there is a linear skip connection from the last item to the interest.
        event_window: events before each one that it sees before the encoder reads it; 0 for none.

    Example:
        >>> import torch
        >>> tracker = InterestTracker(input_size=8, hidden_size=16, num_layers=1, dropout_prob=0.0, user_size=None)
        >>> items = torch.randn(2, 5, 8)
        >>> whole = tracker(items, tracker.neutral_state(2))
        >>> state = tracker.neutral_state(2)
        >>> for item in items.unbind(dim=1):
        ...     interest, state = tracker.step(item, state)
        >>> torch.allclose(interest, whole[:, -1], atol=1e-6)
        True
    """

    def __init__(
        self,
        *,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        dropout_prob: float,
        user_size: int | None,
        encoder: str = "lstm",
        num_heads: int = 2,
        block_dropout_prob: float = 0.2,
        max_length: int = 50,
        attention_readout: bool = False,
        last_item_skip: bool = False,
        event_window: int = 0,
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.max_length = max_length
        sizes = EncoderSizes(
            *(input_size, hidden_size, num_layers, dropout_prob, block_dropout_prob, num_heads, max_length)
        )
        self.window = EventWindow(input_size, event_window) if event_window else None
        self.encoder = TRACKERS[encoder](sizes)
        linear = identity_linear if self.encoder.is_residual else nn.Linear
        self.output = linear(hidden_size, input_size)
        self.readout = AttentionReadout(hidden_size, input_size) if attention_readout else None
        self.skip = nn.Linear(input_size, input_size, bias=False) if last_item_skip else None
        self.user_to_state = nn.Linear(user_size, self.encoder.initial_size * hidden_size) if user_size else None
        self.profile = ProfileGate(hidden_size, user_size, input_size) if user_size else None

    def neutral_state(self, batch_size: int) -> InterestState:
        """The state of ``batch_size`` users before the first event, without user content: zeros."""
        weight = self.output.weight
        return InterestState(
            weight.new_zeros(self.encoder.initial_size, batch_size, self.hidden_size),
            weight.new_zeros(batch_size, 0, self.hidden_size),
            None,
            None if self.window is None else self.window.nothing(batch_size),
        )

    def initial_state(self, user: Tensor) -> InterestState:
        """The state before the first event, from users' representations ``[B, U]``.

        Raises:
            ValueError: the tracker was built without user content.
        """
        if self.user_to_state is None:
            raise ValueError("this tracker has no user_size: start from neutral_state")
        state = torch.tanh(self.user_to_state(user)).view(user.shape[0], -1, self.hidden_size)
        neutral = self.neutral_state(user.shape[0])  # not len(): torch.export would take it for a constant
        return neutral._replace(carried=state.transpose(0, 1).contiguous(), user=user)

    def forward(self, items: Tensor, state: InterestState) -> Tensor:
        """Interest after each of ``items``, ``[B, L, D] -> [B, L, D]``; trailing padding has no effect."""
        return self.read(items, state)[0]

    def step(self, item: Tensor, state: InterestState) -> tuple[Tensor, InterestState]:
        """Interest after one more item of each user, ``[B, D] -> [B, D]``, and the new state."""
        interest, state = self.read(item[:, None], state)
        return interest[:, 0], state

    def read(self, items: Tensor, state: InterestState, at_most: int | None = None) -> tuple[Tensor, InterestState]:
        """Interest after each of ``items``, ``[B, L, D] -> [B, L, D]``, and the state after the last one.

        Args:
            items: in order.
            state: before them.
            at_most: only so many of the last items are encoded, ``[B, at_most, D]``; None for all.

        Raises:
            ValueError: the tracker has a window, and the state no recent events.
        """
        recent = state.recent
        if self.window is not None:
            if recent is None:
                raise ValueError("the tracker has a window of events: start from neutral_state")
            items, recent = self.window(items, recent)
        if at_most is not None:
            items = items[:, -at_most:]
        hidden, carried = self.encoder(items, state.carried)
        interest = self.output(hidden)
        past = state.past
        if self.readout is not None:
            past = latest(torch.cat([past, hidden], dim=1), self.max_length)
            interest = interest + self.readout(hidden, past)
        if self.skip is not None:
            interest = interest + self.skip(items)
        if self.profile is not None and state.user is not None:
            interest = interest + self.profile(hidden, state.user)
        return interest, InterestState(carried, past, state.user, recent)


class ProfileGate(nn.Module):
    """Adds a user's projected profile to the interest, gated by the profile and the hidden state.

    Args:
        hidden_size: width H of a hidden state.
        user_size: width U of a user's representation.
        output_size: width D of the interest.

    Example:
        >>> gate = ProfileGate(hidden_size=16, user_size=4, output_size=8)
        >>> gate(torch.zeros(2, 5, 16), torch.zeros(2, 4)).shape
        torch.Size([2, 5, 8])
    """

    def __init__(self, hidden_size: int, user_size: int, output_size: int) -> None:
        super().__init__()
        self.profile = nn.Linear(user_size, output_size)
        self.gate_by_user = nn.Linear(user_size, output_size)
        self.gate_by_history = nn.Linear(hidden_size, output_size, bias=False)

    def forward(self, hidden: Tensor, user: Tensor) -> Tensor:
        """The gated profile, ``[B, L, D]``, from hidden states ``[B, L, H]`` and users ``[B, U]``."""
        gate = torch.sigmoid(self.gate_by_history(hidden) + self.gate_by_user(user)[:, None])
        return gate * self.profile(user)[:, None]
