"""The history's own bias on the logits: learned terms for its items and for their neighbours.

Neighbours are found by content, or by transitions in training histories.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm_interest.content.transitions import FOLDS, STRENGTHS, Transitions

#: buckets of the lag (how many events ago), each twice as wide as the one before
_LAG_BUCKETS = 6
#: the same for neighbours, which are looked up only as far back as these buckets reach
_NEIGHBOUR_LAG_BUCKETS = 4
#: buckets of a neighbour's rank
_RANK_BUCKETS = 6


class ItemBias(NamedTuple):
    """A bias on a few items' scores, sparse over the catalog.

    Attributes:
        items: item ids, ``[T, K]``; 0 for none. The biases of an item that occurs twice add up.
        bias: ``[K]``, or ``[T, K]``; the entries of item 0 have no meaning. Cosine scores are divided by the
            temperature after it is added.

    Example:
        >>> bias = ItemBias(torch.tensor([[7, 3, 7]]), torch.tensor([0.5, 0.25, 1.0]))
        >>> bias.of(torch.tensor([7]))
        tensor([1.5000])
    """

    items: Tensor
    bias: Tensor

    def of(self, item: Tensor) -> Tensor:
        """The bias of one item for each history, ``[T] -> [T]``."""
        return self.bias.where(self.items == item[:, None], 0.0).sum(dim=1)

    def renumbered(self, index_of: Tensor) -> ItemBias:
        """The bias with each item's index among candidates, ``[N]``, in place of its id."""
        return self._replace(items=index_of[self.items])


class Neighbours(NamedTuple):
    """Neighbours of items by each of several sources, the nearest first.

    Attributes:
        items: ids of the neighbours, ``[..., M, K]``; 0 for none.
        strengths: bucket of each neighbour's strength, ``[..., M, K]``; None for sources that have ranks alone.

    Example:
        >>> nearest = Neighbours(torch.tensor([[[4, 6]]]))  # of one event by one source
        >>> nearest.each(lambda values: values[..., :1])
        (tensor([[[4]]]), None)
    """

    items: Tensor
    strengths: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor | None]:
        """Both tables, ``[..., M, K]``, as ``change`` makes them."""
        return change(self.items), None if self.strengths is None else change(self.strengths)


class RepeatBias(nn.Module):
    """Learned bias on the items of the history, by how many events ago they were chosen.

    RecBole's sequential evaluation ranks the items of the history among all others, and content alone would score
    them high, since they resemble themselves. The bias learns, once for all items, whether users repeat. The idea of a
    repeat mode is RepeatNet's (Ren et al., AAAI 2019).

    Example:
        >>> repeat = RepeatBias()
        >>> _ = repeat.bias.data.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
        >>> repeat.after(torch.tensor([[8, 5, 9]])).bias.tolist()  # item 9 was the last, 5 and 8 are in the next bucket
        [2.0, 2.0, 1.0]
    """

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(_LAG_BUCKETS))

    def forward(self, item_seq: Tensor, row: Tensor, position: Tensor) -> ItemBias:
        """The bias after the events at ``position`` of the rows ``row``, ``[T]`` each, of ``item_seq``, ``[B, L]``."""
        length = item_seq.shape[1]
        ends_at = F.pad(item_seq, (length - 1, 0)).unfold(1, length, 1)  # [B, L, L], one window an event
        return self.after(ends_at[row, position])

    def after(self, item_seq: Tensor) -> ItemBias:
        """The bias after the last events of ``item_seq``, ``[T, L]``, padded in front."""
        lag = torch.arange(item_seq.shape[1] - 1, -1, -1, device=item_seq.device)
        return ItemBias(item_seq, _take(self.bias[:, None], _bucket(lag, _LAG_BUCKETS)).squeeze(1))


class NeighbourBias(nn.Module):
    """Learned bias on the nearest neighbours of the history's items, by rank, by lag and, where known, by strength.

    Neighbours by content are found on frozen features, so that an item needs no training event to be one; those by
    transitions have a strength, which ranks alone lose. The bias has a few dozen weights in all. For each bucket of
    older events, half as many neighbours count.

    Args:
        sources: number of sources of neighbours M, such as modalities; each has weights of its own.
        count: neighbours of an item that are known from each source, K.
        strengths: number of buckets of strength; 0 for neighbours without.

    Attributes:
        reach: how many events back neighbours are looked up.

    Example:
        >>> neighbours = Neighbours(torch.tensor([[[[4, 6]]]]))  # of one event by one source: [T, R, M, K]
        >>> NeighbourBias(sources=1, count=2).after(neighbours).items
        tensor([[4, 6]])
    """

    reach = 2**_NEIGHBOUR_LAG_BUCKETS - 1

    def __init__(self, sources: int, count: int, strengths: int = 0) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(sources, _NEIGHBOUR_LAG_BUCKETS, _RANK_BUCKETS))
        self.strength_bias = None
        if strengths:
            self.strength_bias = nn.Parameter(torch.zeros(sources, _NEIGHBOUR_LAG_BUCKETS, strengths))
        lags = _bucket(torch.arange(self.reach), _NEIGHBOUR_LAG_BUCKETS)
        ranks = _bucket(torch.arange(count), _RANK_BUCKETS)
        counts = lags[:, None] + ranks < _RANK_BUCKETS  # [reach, K], of which each row is true up to some rank
        # as Python numbers: an exported program cannot branch on the content of a tensor
        self._counted: list[int] = counts.sum(dim=1).tolist()
        lag, rank = counts.nonzero(as_tuple=True)
        self.register_buffer("bucket", lags[lag] * _RANK_BUCKETS + ranks[rank], persistent=False)
        # the first of the strengths' weights for each source and column, [M, K']
        lag_of_source = torch.arange(sources)[:, None] * _NEIGHBOUR_LAG_BUCKETS + lags[lag]
        self.register_buffer("first_strength", lag_of_source * strengths, persistent=False)

    def forward(self, neighbours: Neighbours, row: Tensor, position: Tensor) -> ItemBias:
        """The bias after the events at ``position`` of the rows ``row``, ``[T]`` each, of histories ``[B, L]``.

        Args:
            neighbours: of each event's item, ``[B, L, M, K]``.
            row: of each target, ``[T]``.
            position: of each target, ``[T]``.
        """
        length = neighbours.items.shape[1]
        reach = min(self.reach, length)

        def at_targets(values: Tensor) -> Tensor:
            events = F.pad(values, (0, 0, 0, 0, reach - 1, 0))  # none before the first of each history
            by_lag = [events[:, reach - 1 - lag :][:, :length] for lag in range(reach)]
            after_each = self._counted_neighbours(by_lag)  # [B, L, M K']
            return after_each.flatten(0, 1).index_select(0, row * length + position)

        return self._item_bias(*neighbours.each(at_targets), reach=reach)

    def after(self, neighbours: Neighbours) -> ItemBias:
        """The bias after the last events of histories, from their neighbours ``[T, R, M, K]``, padded in front."""
        reach = min(self.reach, neighbours.items.shape[1])

        def at_the_end(values: Tensor) -> Tensor:
            return self._counted_neighbours([values[:, -1 - lag] for lag in range(reach)])

        return self._item_bias(*neighbours.each(at_the_end), reach=reach)

    def _counted_neighbours(self, by_lag: list[Tensor]) -> Tensor:
        """Those of the neighbours at each lag, ``[..., M, K]`` each, that count: ``[..., M K']``."""
        nearest = [neighbours[..., :count] for neighbours, count in zip(by_lag, self._counted, strict=False)]
        return torch.cat(nearest, dim=-1).flatten(-2)

    def _item_bias(self, items: Tensor, strengths: Tensor | None, reach: int) -> ItemBias:
        columns = sum(self._counted[:reach])
        bias = _take(self.bias.flatten(1).T, self.get_buffer("bucket")[:columns]).T.flatten()
        if self.strength_bias is not None and strengths is not None:
            bucket = self.get_buffer("first_strength")[:, :columns].flatten() + strengths
            bias = bias + _take(self.strength_bias.flatten()[:, None], bucket).squeeze(-1)
        return ItemBias(items, bias)


class TransitionNeighbours(nn.Module):
    """Looks up neighbours by transitions: in training those counted without the history's user, else those of all.

    Args:
        transitions: counted; or, for a model that is not trained any more, only the table of all users.

    Example:
        >>> items, strengths = torch.zeros(1, 3, 1), torch.zeros(1, 3, 1)
        >>> items[0, 2] = 1
        >>> neighbours = TransitionNeighbours(Transitions(items.int(), strengths.byte()))
        >>> neighbours(torch.tensor([[2, 7]])).items.tolist()  # item 7 came after training
        [[[[1]], [[0]]]]
    """

    def __init__(self, transitions: Transitions) -> None:
        super().__init__()
        self.register_buffer("items", transitions.items, persistent=False)
        self.register_buffer("strengths", transitions.strengths, persistent=False)

    def forward(self, item_seq: Tensor, user: Tensor | None = None) -> Neighbours:
        """The neighbours of items, ``[B, L] -> [B, L, 1, K]``, counted without the users ``[B]`` if these are given."""
        tables = self.get_buffer("items"), self.get_buffer("strengths")
        rows = item_seq.where(item_seq < tables[0].shape[1], 0)
        if user is None:
            return Neighbours(*(table[-1][rows][..., None, :].long() for table in tables))
        fold = (user % FOLDS)[:, None]
        return Neighbours(*(table[fold, rows][..., None, :].long() for table in tables))


class HistoryBias(nn.Module):
    """The biases of a history, for training at every position and for scoring at its end.

    Args:
        repeat: bias on the history's items; None for none.
        neighbour: bias on their neighbours by content; None for none.
        transitions: neighbours by transitions, which also have a bias; None for none.

    Example:
        >>> history_bias = HistoryBias(RepeatBias(), None)
        >>> item_seq, last = torch.tensor([[5, 9, 0]]), torch.tensor([1])
        >>> history_bias.after(item_seq, last, neighbours_of=lambda items: items).items
        tensor([[0, 5, 9]])
    """

    def __init__(
        self, repeat: RepeatBias | None, neighbour: NeighbourBias | None, transitions: Transitions | None = None
    ) -> None:
        super().__init__()
        self.repeat = repeat
        self.neighbour = neighbour
        self.transition = self.transitions = None
        if transitions is not None:
            self.transition = NeighbourBias(1, transitions.items.shape[2], STRENGTHS)
            self.transitions = TransitionNeighbours(transitions)

    def forward(
        self,
        item_seq: Tensor,
        neighbours_of: Callable[[Tensor], Tensor],
        row: Tensor,
        position: Tensor,
        user: Tensor | None = None,
    ) -> ItemBias | None:
        """The bias after the events at ``position`` of the rows ``row``, ``[T]`` each; None if there is none.

        Args:
            item_seq: ``[B, L]``.
            neighbours_of: looks up the neighbours of items by content, ``[B, L] -> [B, L, M, K]``.
            row: of each target, ``[T]``.
            position: of each target, ``[T]``.
            user: whose histories they are, ``[B]``; their own transitions do not count. None for histories in another
                than the true order, in which no transition counts.
        """
        parts = []
        if self.repeat is not None:
            parts.append(self.repeat(item_seq, row, position))
        if self.neighbour is not None:
            parts.append(self.neighbour(Neighbours(neighbours_of(item_seq)), row, position))
        if self.transition is not None and self.transitions is not None and user is not None:
            parts.append(self.transition(self.transitions(item_seq, user), row, position))
        return _concatenated(parts)

    def after(self, item_seq: Tensor, last: Tensor, neighbours_of: Callable[[Tensor], Tensor]) -> ItemBias | None:
        """The bias after the events at ``last``, ``[B]``, of ``item_seq``, ``[B, L]``; None if there is none."""
        return _concatenated(list(self.parts(item_seq, last, neighbours_of).values()))

    def parts(self, item_seq: Tensor, last: Tensor, neighbours_of: Callable[[Tensor], Tensor]) -> dict[str, ItemBias]:
        """The biases after the events at ``last``, by what they are on: an explanation names them.

        Args:
            item_seq: ``[B, L]``.
            last: index of each history's last event, ``[B]``.
            neighbours_of: looks up the neighbours of items by content, ``[B, R] -> [B, R, M, K]``.
        """
        parts = {}
        if self.repeat is not None:
            parts["repeat"] = self.repeat.after(_last_events(item_seq, last, item_seq.shape[1]))
        recent = _last_events(item_seq, last, NeighbourBias.reach)
        if self.neighbour is not None:
            parts["neighbour"] = self.neighbour.after(Neighbours(neighbours_of(recent)))
        if self.transition is not None and self.transitions is not None:
            parts["transition"] = self.transition.after(self.transitions(recent))
        return parts


def _concatenated(parts: list[ItemBias]) -> ItemBias | None:
    if not parts:
        return None
    items, bias = zip(*parts, strict=True)
    if any(part.dim() > 1 for part in bias):
        bias = tuple(part.bias.expand_as(part.items) for part in parts)
    return ItemBias(torch.cat(items, dim=1), torch.cat(bias, dim=-1))


def _last_events(item_seq: Tensor, last: Tensor, count: int) -> Tensor:
    """The ``count`` events of ``item_seq``, ``[B, L]``, up to the one at ``last``, ``[B]``, padded in front."""
    place = last[:, None] - torch.arange(count - 1, -1, -1, device=last.device)
    return item_seq.gather(1, place.clamp(min=0)).where(place >= 0, 0)


def _take(weights: Tensor, bucket: Tensor) -> Tensor:
    """The weights of buckets, ``[buckets, M], [K] -> [K, M]``; the gradient, unlike that of an index, sorts nothing."""
    return F.embedding(bucket, weights)


def _bucket(distance: Tensor, buckets: int) -> Tensor:
    """The bucket of a distance: 0, 1 and 2, 3 to 6, 7 to 14, … up to the last bucket, which has no end."""
    starts = 2 ** torch.arange(1, buckets, device=distance.device)
    return (distance[..., None] + 1 >= starts).sum(dim=-1)
