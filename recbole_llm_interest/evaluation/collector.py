"""Where each tested event's item was ranked: kept by RecBole's evaluator, for every model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from recbole.evaluator import Collector
from torch import Tensor

#: the key under which a metric finds the tested events among what RecBole collected: ``[E, 3]``, a row an event, of
#: its user's and item's internal ids and the item's place in the ranking, 0 where it is not among the first max(topk)
RANKED_EVENTS = "rec.events"
#: the same for how often each item, ``[N]``, and user, ``[U]``, stands in the training events
ITEM_COUNTS, USER_COUNTS = "data.item_counts", "data.user_events"
#: what RecBole would collect by way of a matrix of the batch and all items
_OURS = ("rec.items", "rec.topk", "rec.meanrank")
#: scores of the rows that are copied out at once, one for each positive
_CHUNK_SCORES = 2**22


def collect_ranks(count_events: Callable[[Any], tuple[Tensor, Tensor]]) -> None:
    """Let RecBole's collector keep the places and the training counts, and find hits in little time and memory.

    Called once, at registration.

    Args:
        count_events: how often each item, ``[N]``, and each user, ``[U]``, occurs in a data set of training events.
    """
    collect_data, collect_batch = Collector.data_collect, Collector.eval_batch_collect
    get_data_struct = Collector.get_data_struct

    def data_collect(self: Any, train_data: Any) -> None:
        collect_data(self, train_data)
        if self.register.need(ITEM_COUNTS):
            items, users = count_events(train_data.dataset)
            self.data_struct.set(ITEM_COUNTS, items)
            self.data_struct.set(USER_COUNTS, users)

    def eval_batch_collect(self: Any, scores: Tensor, interaction: Any, positive_u: Tensor, positive_i: Tensor) -> None:
        register = self.register
        self.register = _AllBut(register, _OURS)
        try:
            collect_batch(self, scores, interaction, positive_u, positive_i)
        finally:
            self.register = register
        if positive_u is not None:  # else each event has a score of its own, and nothing is ranked
            _collect_ours(self, scores, interaction, positive_u.to(scores.device), positive_i.to(scores.device))

    def take_data_struct(self: Any) -> Any:
        for key, parts in self.__dict__.pop("parts", {}).items():
            self.data_struct.set(key, torch.cat(parts))
        struct = get_data_struct(self)
        self.last_ranked_events = None
        if RANKED_EVENTS in self.data_struct:
            self.last_ranked_events = struct[RANKED_EVENTS]
            del self.data_struct[RANKED_EVENTS]
        return struct

    Collector.data_collect, Collector.eval_batch_collect = data_collect, eval_batch_collect
    Collector.get_data_struct = take_data_struct


def _collect_ours(collector: Any, scores: Tensor, interaction: Any, positive_u: Tensor, positive_i: Tensor) -> None:
    """Keep what ``_OURS`` names and where each positive was ranked, as one part a batch.

    RecBole joins each batch to all before it, in time that grows with the square of their number.
    """
    collector.parts = parts = getattr(collector, "parts", defaultdict(list))
    best = scores.topk(max(collector.topk), dim=-1).indices  # [B, K]; the same call as RecBole's, so that ties are, too
    hits = best[positive_u] == positive_i[:, None]  # [E, K]
    if collector.register.need("rec.items"):
        parts["rec.items"].append(best)
    if collector.register.need("rec.topk"):
        parts["rec.topk"].append(_hits_by_row(len(scores), hits, positive_u, positive_i))
    if collector.register.need("rec.meanrank"):
        parts["rec.meanrank"].append(_ranks_by_row(scores, positive_u, positive_i))
    if len(interaction) != len(scores):
        return  # sampled candidates: a row of the interaction is a candidate there, not an event
    users = interaction[collector.config["USER_ID_FIELD"]].to(scores.device)[positive_u]
    places = hits.any(dim=1) * (hits.int().argmax(dim=1) + 1)
    parts[RANKED_EVENTS].append(torch.stack([users, positive_i, places], dim=1))


class _AllBut:
    """What RecBole's metrics need, less what is collected here."""

    def __init__(self, register: Any, collected: tuple[str, ...]) -> None:
        self._register = register
        self._collected = collected

    def need(self, key: str) -> bool:
        return key not in self._collected and bool(self._register.need(key))


def _hits_by_row(rows: int, hits: Tensor, positive_u: Tensor, positive_i: Tensor) -> Tensor:
    """What RecBole calls ``rec.topk``: which places are hits, and the number of positive items, ``[B, K + 1]``.

    RecBole spreads a batch's positives out into a matrix of all items, and sums that up: most of an evaluation's time
    in large catalogues. The few positives say the same.
    """
    by_row = hits.new_zeros(rows, hits.shape[1] + 1, dtype=torch.long)
    by_row[:, :-1].index_add_(0, positive_u, hits.long())
    by_row[:, :-1].clamp_(max=1)  # a positive may come twice
    different, _ = _different(positive_u, positive_i)
    by_row[:, -1] = different.bincount(minlength=rows)
    return by_row


def _ranks_by_row(scores: Tensor, positive_u: Tensor, positive_i: Tensor) -> Tensor:
    """What RecBole calls ``rec.meanrank``, ``[B, 3]``.

    It is the sum of the positives' ranks, equals sharing the mean of theirs; the number of items above the last, which
    is what is not a candidate; and the number of positives. RecBole sorts all scores for it; counting is enough.
    """
    rows, items = _different(positive_u, positive_i)
    by_row = scores.new_zeros(len(scores), 3)
    chunk = max(_CHUNK_SCORES // scores.shape[1], 1)
    for row, item in zip(torch.split(rows, chunk), torch.split(items, chunk), strict=True):
        others, own = scores[row], scores[row, item][:, None]
        rank = (others > own).sum(dim=1) + ((others == own).sum(dim=1) + 1) / 2
        by_row[:, 0].index_add_(0, row, rank.to(by_row))
    by_row[:, 1] = (scores > scores.amin(dim=1, keepdim=True)).sum(dim=1)
    by_row[:, 2] = rows.bincount(minlength=len(scores))
    return by_row


def _different(positive_u: Tensor, positive_i: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and items of the positives, each once."""
    rows, items = torch.unique(torch.stack([positive_u, positive_i]), dim=1)
    return rows, items
