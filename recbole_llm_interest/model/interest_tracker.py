"""Follows a user's interest through time: ``h_t = LSTM(I_t, h_{t-1})``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from recbole_llm_interest.model.sequence_encoders import AttentionReadout, RecurrentEncoder, TransformerEncoder, latest


class InterestState(NamedTuple):
    """What the tracker knows of ``B`` users between two events.

    Attributes:
        carried: what the encoder carries over, ``[S, B, H]``.
        past: states after the events so far, ``[B, T, H]``; ``T`` is 0 where no attention reads them.
        user: who they are, ``[B, U]``; None where the tracker does not know users by content.
    """

    carried: Tensor
    past: Tensor
    user: Tensor | None


class InterestTracker(nn.Module):
    """Reads events one by one, starts from who the user is, and keeps asking.

    The user's representation sets the first state, and stands in a gate at every step: interest is what the history
    says plus as much of the profile as the gate, which sees both, lets through.

    It has two equal faces: ``forward`` reads whole histories, for training and evaluation; ``step`` reads one
    event, for live updates, in a time that does not grow with the history (with attention: not beyond
    ``max_length`` events).

    Args:
        input_size: width ``D`` of an item and of the interest.
        hidden_size: width ``H`` of the state.
        num_layers: layers of the encoder.
        dropout_prob: dropout between layers.
        user_size: width ``U`` of a user's representation; None where users are not known by content.
        encoder: ``lstm``, ``gru`` or ``transformer``.
        num_heads: attention heads of a Transformer.
        max_length: events back to which attention reaches.
        attention_readout: whether interest also reads all states so far.
        last_item_skip: whether the last item also speaks for itself.
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
        max_length: int = 50,
        attention_readout: bool = False,
        last_item_skip: bool = False,
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.max_length = max_length
        self.encoder: RecurrentEncoder | TransformerEncoder
        if encoder == "transformer":
            self.encoder = TransformerEncoder(input_size, hidden_size, num_layers, num_heads, dropout_prob, max_length)
        else:
            cell = {"lstm": nn.LSTM, "gru": nn.GRU}[encoder]
            self.encoder = RecurrentEncoder(cell, input_size, hidden_size, num_layers, dropout_prob)
        self.output = nn.Linear(hidden_size, input_size)
        self.readout = AttentionReadout(hidden_size, input_size) if attention_readout else None
        self.skip = nn.Linear(input_size, input_size, bias=False) if last_item_skip else None
        self.user_to_state = nn.Linear(user_size, self.encoder.initial_size * hidden_size) if user_size else None
        self.profile = ProfileGate(hidden_size, user_size, input_size) if user_size else None

    def neutral_state(self, batch_size: int) -> InterestState:
        """The state of ``batch_size`` users where users are not known by content: zeros."""
        weight = self.output.weight
        return InterestState(
            weight.new_zeros(self.encoder.initial_size, batch_size, self.hidden_size),
            weight.new_zeros(batch_size, 0, self.hidden_size),
            None,
        )

    def initial_state(self, user: Tensor) -> InterestState:
        """The state before the first event, from users' representations ``[B, U]``.

        Raises:
            ValueError: the tracker was built for users without content.
        """
        if self.user_to_state is None:
            raise ValueError("this tracker has no user_size: start from neutral_state")
        state = torch.tanh(self.user_to_state(user)).view(user.shape[0], -1, self.hidden_size)
        neutral = self.neutral_state(user.shape[0])  # len() is a constant where the model is exported
        return neutral._replace(carried=state.transpose(0, 1).contiguous(), user=user)

    def forward(self, items: Tensor, state: InterestState) -> Tensor:
        """Interest after each event of ``items``, both ``[B, L, D]``. What is padded behind the end changes nothing."""
        return self.read(items, state)[0]

    def step(self, item: Tensor, state: InterestState) -> tuple[Tensor, InterestState]:
        """Interest after one more event of each user, ``[B, D]``, and the new state."""
        interest, state = self.read(item[:, None], state)
        return interest[:, 0], state

    def read(self, items: Tensor, state: InterestState) -> tuple[Tensor, InterestState]:
        """Interest after each event of ``items``, both ``[B, L, D]``, and the state after the last one."""
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
        return interest, InterestState(carried, past, state.user)


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
