"""Follows a user's interest through time: ``h_t = LSTM(I_t, h_{t-1})``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: hidden and cell state of the LSTM, ``[num_layers, B, H]`` each
InterestState = tuple[Tensor, Tensor]


class InterestTracker(nn.Module):
    """An LSTM (Hochreiter and Schmidhuber, 1997) whose first state comes from who the user is.

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
        self.user_to_state = nn.Linear(user_size, 2 * num_layers * hidden_size) if user_size else None
        self.output = nn.Linear(hidden_size, input_size)

    def neutral_state(self, batch_size: int) -> InterestState:
        """The state of ``batch_size`` users of whom nothing is known: zeros."""
        zeros = self.output.weight.new_zeros(self.num_layers, batch_size, self.hidden_size)
        return zeros, zeros

    def initial_state(self, user: Tensor) -> InterestState:
        """The state before the first event, from users' representations ``[B, U]``.

        Raises:
            ValueError: the tracker was built for users without content.
        """
        if self.user_to_state is None:
            raise ValueError("this tracker has no user_size: start from neutral_state")
        state = torch.tanh(self.user_to_state(user)).view(len(user), 2, self.num_layers, self.hidden_size)
        hidden, cell = state.permute(1, 2, 0, 3).contiguous()
        return hidden, cell

    def forward(self, items: Tensor, state: InterestState) -> Tensor:
        """Interest after each event of ``items``, both ``[B, L, D]``. What is padded behind the end changes nothing."""
        hidden, _ = self.lstm(items, state)
        return self.output(hidden)

    def step(self, item: Tensor, state: InterestState) -> tuple[Tensor, InterestState]:
        """Interest after one more event of each user, ``[B, D]``, and the new state."""
        hidden, state = self.lstm(item[:, None], state)
        return self.output(hidden[:, 0]), state
