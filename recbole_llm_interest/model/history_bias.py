"""The history's own bias on the logits: learned terms for its items and for their neighbours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor, nn

from recbole_llm_interest.content.event_fields import content_field
from recbole_llm_interest.content.transitions import STRENGTHS, Transitions
from recbole_llm_interest.model.event_neighbours import EventNeighbourLookup
from recbole_llm_interest.model.item_bias import ItemBias, concatenated, last_events
from recbole_llm_interest.model.neighbour_bias import NeighbourBias, Neighbours, TransitionNeighbours
from recbole_llm_interest.model.repeat_bias import RepeatBias


class Histories(NamedTuple):
    """Histories as their bias reads them.

    Attributes:
        item_seq: ``[B, L]``.
        events: looks up the representations of these items, ``[B, L, D]``, of which the direction counts.
        neighbours_of: looks up the neighbours of items by content, ``[..., R] -> [..., R, M, K]``.
        event_codes: looks up codes of the neighbours of these events by their own content, without the users ``[B]``:
            ``[B, L, M, K]``; None where ``after`` alone is used, or nothing is known of the events.
        recent_codes: likewise over all users, of the events up to those at ``last``, ``[B]``, as many as are asked for,
            padded in front: ``[B, count, M, K]``.

    Example:
        >>> Histories(torch.tensor([[5, 9]]), lambda: torch.randn(1, 2, 4), lambda items: items).item_seq.tolist()
        [[5, 9]]
    """

    item_seq: Tensor
    events: Callable[[], Tensor]
    neighbours_of: Callable[[Tensor], Tensor]
    event_codes: Callable[[Tensor], Tensor] | None = None
    recent_codes: Callable[[Tensor, int], Tensor] | None = None


class HistoryBias(nn.Module):
    """The biases of a history, for training at every position and for scoring at its end.

    Args:
        repeat: bias on the history's items; None for none.
        neighbour: bias on their neighbours by content; None for none.
        transitions: neighbours by transitions, which also have a bias; None for none.
        event_neighbours: looks up the neighbours of events by their content, which have one, too; None for none.

    Example:
        >>> history_bias = HistoryBias(RepeatBias(), None)
        >>> histories = Histories(torch.tensor([[5, 9, 0]]), lambda: torch.randn(1, 3, 4), lambda items: items)
        >>> history_bias.after(histories, last=torch.tensor([1]), interest=torch.randn(1, 4)).items
        tensor([[0, 5, 9]])
    """

    def __init__(
        self,
        repeat: RepeatBias | None,
        neighbour: NeighbourBias | None,
        transitions: Transitions | None = None,
        event_neighbours: EventNeighbourLookup | None = None,
    ) -> None:
        super().__init__()
        self.repeat = repeat
        self.neighbour = neighbour
        self.transition = self.transitions = None
        if transitions is not None:
            self.transition = NeighbourBias(1, transitions.items.shape[2], STRENGTHS)
            self.transitions = TransitionNeighbours(transitions)
        self.event_neighbours = event_neighbours
        self.event = None if event_neighbours is None else NeighbourBias(*event_neighbours.shape, STRENGTHS)

    def histories(
        self,
        item_seq: Tensor,
        events: Callable[[], Tensor],
        neighbours_of: Callable[[Tensor], Tensor],
        features: Mapping[str, Tensor],
    ) -> Histories:
        """Histories ``[B, L]`` of a batch, of whose events the features ``[B, L]`` by name are known."""
        lookup = self.event_neighbours
        if lookup is None:
            return Histories(item_seq, events, neighbours_of)
        rows = features[content_field("event")]
        return Histories(
            item_seq,
            events,
            neighbours_of,
            lambda user: lookup(rows, user),
            lambda last, count: lookup(last_events(rows, last, count)),
        )

    def forward(
        self,
        histories: Histories,
        row: Tensor,
        position: Tensor,
        interest: Tensor,
        user: Tensor | None,
        index_of: Tensor,
    ) -> ItemBias | None:
        """The bias after the events at ``position`` of the rows ``row``, ``[T]`` each; None if there is none.

        Args:
            histories: padded behind the end.
            row: of each target, ``[T]``.
            position: of each target, ``[T]``.
            interest: after each of those events, ``[T, D]``.
            user: whose histories they are, ``[B]``; their own transitions and contents do not count. None for histories
                in another than the true order, in which no transition and no content of events counts.
            index_of: index of each item among the candidates, ``[N]``, by which the result names items.
        """
        item_seq, events, neighbours_of, event_codes, _ = histories
        parts = []
        if self.repeat is not None:
            parts.append(self.repeat(item_seq, events, interest, row, position))
        if self.neighbour is not None:
            parts.append(self.neighbour(Neighbours(neighbours_of(item_seq)), row, position))
        if self.transition is not None and self.transitions is not None and user is not None:
            parts.append(self.transition(self.transitions(item_seq, user), row, position))
        if self.event is not None and event_codes is not None and user is not None:
            parts.append(self.event(EventNeighbourLookup.decode(event_codes(user)), row, position))
        bias = concatenated(parts)
        return None if bias is None else bias.renumbered(index_of)

    def after(self, histories: Histories, last: Tensor, interest: Tensor) -> ItemBias | None:
        """The bias after the events at ``last``, ``[B]``, with the interest then, ``[B, D]``; None if there is none."""
        return concatenated(list(self.parts(histories, last, interest).values()))

    def parts(self, histories: Histories, last: Tensor, interest: Tensor) -> dict[str, ItemBias]:
        """The biases after the events at ``last``, by what they are on: an explanation names them.

        Args:
            histories: padded behind the end.
            last: index of each history's last event, ``[B]``.
            interest: after these events, ``[B, D]``.
        """
        item_seq, events, neighbours_of, _, recent_codes = histories
        parts = {}
        if self.repeat is not None:
            length = item_seq.shape[1]
            whole = last_events(item_seq, last, length)
            parts["repeat"] = self.repeat.after(whole, lambda: last_events(events(), last, length), interest)
        recent = last_events(item_seq, last, NeighbourBias.reach)
        if self.neighbour is not None:
            parts["neighbour"] = self.neighbour.after(Neighbours(neighbours_of(recent)))
        if self.transition is not None and self.transitions is not None:
            parts["transition"] = self.transition.after(self.transitions(recent))
        if self.event is not None and recent_codes is not None:
            codes = recent_codes(last, NeighbourBias.reach)
            parts["event"] = self.event.after(EventNeighbourLookup.decode(codes))
        return parts
