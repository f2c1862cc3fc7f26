"""Follows a user's interest through time: ``h_t = LSTM(I_t, h_{t-1})``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class InterestState(NamedTuple):
    """What the tracker knows of ``B`` users between two events.

    Attributes:
        hidden: ``[num_layers, B, H]``.
        cell: ``[num_layers, B, H]``.
        user: who they are, ``[B, U]``; None where the tracker does not know users by content.
    """

    hidden: Tensor
    cell: Tensor
    user: Tensor | None


class InterestTracker(nn.Module):
    """An LSTM (Hochreiter and Schmidhuber, 1997) that starts from who the user is, and keeps asking.

    The user's representation sets the first state, and stands in a gate at every step: interest is what the history
    says plus as much of the profile as the gate, which sees both, lets through.

    It has two equal faces: ``forward`` reads whole histories, for training and evaluation; ``step`` reads one
    event, in constant time, for live updates.

    Args:
        input_size: width ``D`` of an item and of the interest.
        hidden_size: width ``H`` of the state.
        num_layers: LSTM layers.
        dropout_prob: dropout between layers.
        user_size: width ``U`` of a user's representation; None where users are not known by content.
    """

    def __init__(
        self, *, input_size: int, hidden_size: int, num_layers: int, dropout_prob: float, user_size: int | None
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.lstm = nn.LSTM(
            input_size, hidden_size, num_layers, batch_first=True, dropout=dropout_prob if num_layers > 1 else 0.0
        )
        self.output = nn.Linear(hidden_size, input_size)
        self.user_to_state = nn.Linear(user_size, 2 * num_layers * hidden_size) if user_size else None
        self.profile = ProfileGate(hidden_size, user_size, input_size) if user_size else None

    def neutral_state(self, batch_size: int) -> InterestState:
        """The state of ``batch_size`` users where users are not known by content: zeros."""
        zeros = self.output.weight.new_zeros(self.num_layers, batch_size, self.hidden_size)
        return InterestState(zeros, zeros, None)

    def initial_state(self, user: Tensor) -> InterestState:
        """The state before the first event, from users' representations ``[B, U]``.

        Raises:
            ValueError: the tracker was built for users without content.
        """
        if self.user_to_state is None:
            raise ValueError("this tracker has no user_size: start from neutral_state")
        state = torch.tanh(self.user_to_state(user)).view(len(user), 2, self.num_layers, self.hidden_size)
        hidden, cell = state.permute(1, 2, 0, 3).contiguous()
        return InterestState(hidden, cell, user)

    def forward(self, items: Tensor, state: InterestState) -> Tensor:
        """Interest after each event of ``items``, both ``[B, L, D]``. What is padded behind the end changes nothing."""
        hidden, _ = self.lstm(items, (state.hidden, state.cell))
        return self._interest(hidden, state.user)

    def step(self, item: Tensor, state: InterestState) -> tuple[Tensor, InterestState]:
        """Interest after one more event of each user, ``[B, D]``, and the new state."""
        hidden, (last, cell) = self.lstm(item[:, None], (state.hidden, state.cell))
        return self._interest(hidden, state.user)[:, 0], InterestState(last, cell, state.user)

    def _interest(self, hidden: Tensor, user: Tensor | None) -> Tensor:
        interest = self.output(hidden)
        if self.profile is None or user is None:
            return interest
        return interest + self.profile(hidden, user)


class ProfileGate(nn.Module):
    """How much of a user's profile belongs in the interest right now.

    Args:
        hidden_size: width ``H`` of the tracker's state.
        user_size: width ``U`` of a user's representation.
        output_size: width ``D`` of the interest.
    """

    def __init__(self, hidden_size: int, user_size: int, output_size: int) -> None:
        super().__init__()
        self.profile = nn.Linear(user_size, output_size)
        self.gate_by_user = nn.Linear(user_size, output_size)
        self.gate_by_history = nn.Linear(hidden_size, output_size, bias=False)

    def forward(self, hidden: Tensor, user: Tensor) -> Tensor:
        """The profile's part of the interest, ``[B, L, D]``, from hidden states ``[B, L, H]`` and users ``[B, U]``."""
        gate = torch.sigmoid(self.gate_by_history(hidden) + self.gate_by_user(user)[:, None])
        return gate * self.profile(user)[:, None]
