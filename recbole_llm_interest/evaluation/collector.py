"""Collects the rank of each tested event's item, and the counts of training events, in RecBole's evaluator."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from recbole.evaluator import Collector
from recbole.evaluator.evaluator import Evaluator
from torch import Tensor

#: key of the tested events in RecBole's ``DataStruct``, ``[E, 3]``: internal ids of user and item, and the item's rank,
#: which is 0 for items that are not among the first ``max(topk)``
RANKED_EVENTS = "rec.events"
#: keys of the numbers of training events of each item, ``[N]``, and each user, ``[U]``
ITEM_COUNTS, USER_COUNTS = "data.item_events", "data.user_events"
#: key of the scores of each tested event's item and of those that were shown beside it, ``[E, 1 + S]``, padded with NaN
SHOWN_SCORES = "rec.shown_scores"
#: keys that RecBole fills through a matrix of all items for each batch, and this module without it
_REPLACED_KEYS = ("rec.items", "rec.topk", "rec.meanrank")
#: before the names of metrics of candidates without the user's seen items, where both kinds are evaluated
FILTERED = "filtered_"
#: number of scores that ``_meanrank`` copies at once
_CHUNK_SCORES = 2**22


def collect_ranks(count_events: Callable[[Any], tuple[Tensor, Tensor]], seen_items: str, shown_items: str) -> None:
    """Patch RecBole's collector to keep ranks and training counts, and to find hits in less time and memory.

    If a batch has seen items, the same scores are collected a second time without them, and the evaluator adds the
    second values under names that begin with ``FILTERED``. Called once, at registration.

    Args:
        count_events: returns how often each item, ``[N]``, and each user, ``[U]``, occurs in a data set.
        seen_items: attribute of a batch with indices of rows and items, ``[S]`` each.
        shown_items: attribute of a batch with the items that were shown beside each row's own, ``[B, S]``, padded
            with 0.
    """
    _count_training_events(count_events)
    _collect_batches(seen_items, shown_items)
    _join_batches()
    _evaluate_both_kinds()


def _count_training_events(count_events: Callable[[Any], tuple[Tensor, Tensor]]) -> None:
    collect_data = Collector.data_collect

    def data_collect(self: Any, train_data: Any) -> None:
        collect_data(self, train_data)
        if self.register.need(ITEM_COUNTS):
            items, users = count_events(train_data.dataset)
            self.data_struct.set(ITEM_COUNTS, items)
            self.data_struct.set(USER_COUNTS, users)

    Collector.data_collect = data_collect


def _collect_batches(seen_items: str, shown_items: str) -> None:
    collect_batch = Collector.eval_batch_collect

    def eval_batch_collect(self: Any, scores: Tensor, interaction: Any, positive_u: Tensor, positive_i: Tensor) -> None:
        register = self.register
        self.register = _RegisterWithout(register, _REPLACED_KEYS)
        try:
            collect_batch(self, scores, interaction, positive_u, positive_i)
        finally:
            self.register = register
        if positive_u is None:  # each event is scored by itself and nothing is ranked
            return
        positive_u, positive_i = positive_u.to(scores.device), positive_i.to(scores.device)
        shown = getattr(interaction, shown_items, None)
        _collect(self, "", scores, interaction, positive_u, positive_i, shown)
        if (seen := getattr(interaction, seen_items, None)) is not None:
            scores[tuple(index.to(scores.device) for index in seen)] = -torch.inf
            _collect(self, FILTERED, scores, interaction, positive_u, positive_i, shown)

    Collector.eval_batch_collect = eval_batch_collect


def _collect(
    collector: Any,
    kind: str,
    scores: Tensor,
    interaction: Any,
    positive_u: Tensor,
    positive_i: Tensor,
    shown: Tensor | None,
) -> None:
    """Append what the metrics need of a batch, of one kind of candidates; see ``_collect_ranks``.

    Args:
        collector: RecBole's collector.
        kind: "" or ``FILTERED``.
        scores: ``[B, N]``.
        interaction: the batch.
        positive_u: row of each positive in ``scores``, ``[E]``.
        positive_i: item of each positive, ``[E]``.
        shown: items that were shown beside each row's own, ``[B, S]``, padded with 0; None without any.
    """
    batches = _batches(collector, kind)
    _collect_ranks(collector, batches, scores, interaction, positive_u, positive_i)
    if shown is not None and collector.register.need(SHOWN_SCORES):
        shown = shown.to(scores.device)[positive_u]
        others = scores[positive_u[:, None], shown].where(shown > 0, torch.nan)
        batches[SHOWN_SCORES].append(torch.cat([scores[positive_u, positive_i][:, None], others], dim=1))


def _join_batches() -> None:
    """Make RecBole's collector return what was collected of both kinds, and keep the ranked events of both."""
    get_data_struct = Collector.get_data_struct

    def get_joined_data_struct(self: Any) -> Any:
        joined: dict[str, dict[str, Tensor]] = {
            kind: {key: torch.cat(parts).cpu() for key, parts in batches.items()}
            for kind, batches in self.__dict__.pop("batches", {}).items()
        }
        struct = get_data_struct(self)
        self.last_ranked_events, self.last_filtered_events = (
            joined.get(kind, {}).get(RANKED_EVENTS) for kind in ("", FILTERED)
        )
        struct.filtered = _with_values(struct, joined[FILTERED]) if FILTERED in joined else None
        return _with_values(struct, joined.get("", {}))

    Collector.get_data_struct = get_joined_data_struct


def _evaluate_both_kinds() -> None:
    original = Evaluator.evaluate

    def evaluate(self: Any, dataobject: Any) -> Any:
        result = original(self, dataobject)
        if (filtered := getattr(dataobject, "filtered", None)) is not None:
            result.update({f"{FILTERED}{name}": value for name, value in original(self, filtered).items()})
        return result

    Evaluator.evaluate = evaluate


class _RegisterWithout:
    """RecBole's register of what the metrics need, without some keys."""

    def __init__(self, register: Any, excluded: tuple[str, ...]) -> None:
        self._register = register
        self._excluded = excluded

    def need(self, key: str) -> bool:
        return key not in self._excluded and bool(self._register.need(key))


def _batches(collector: Any, kind: str) -> dict[str, list[Tensor]]:
    """Return what an evaluation has collected so far of one kind of candidates: "" or ``FILTERED``.

    RecBole concatenates each batch to those before it, which takes time that is quadratic in the number of batches.
    """
    if "batches" not in vars(collector):
        collector.batches = {}
    batches: dict[str, list[Tensor]] = collector.batches.setdefault(kind, defaultdict(list))
    return batches


def _with_values(struct: Any, values: dict[str, Tensor]) -> Any:
    """Return a copy of RecBole's ``DataStruct`` with further values."""
    extended = copy.copy(struct)
    extended._data_dict = {**struct._data_dict, **values}
    return extended


def _collect_ranks(
    collector: Any,
    batches: dict[str, list[Tensor]],
    scores: Tensor,
    interaction: Any,
    positive_u: Tensor,
    positive_i: Tensor,
) -> None:
    """Append a batch's values of ``_REPLACED_KEYS`` and ``RANKED_EVENTS`` to ``batches``.

    Args:
        collector: RecBole's collector.
        batches: what the batches before had, by key.
        scores: ``[B, N]``.
        interaction: the batch.
        positive_u: row of each positive in ``scores``, ``[E]``.
        positive_i: item of each positive, ``[E]``.
    """
    best = scores.topk(max(collector.topk), dim=-1).indices  # [B, K]; the same call as RecBole's: ties break alike
    hits = best[positive_u] == positive_i[:, None]  # [E, K]
    hits &= (scores[positive_u, positive_i] > -torch.inf)[:, None]  # an item that is no candidate is a miss
    if collector.register.need("rec.items"):
        batches["rec.items"].append(best)
    if collector.register.need("rec.topk"):
        batches["rec.topk"].append(_topk(len(scores), hits, positive_u, positive_i))
    if collector.register.need("rec.meanrank"):
        batches["rec.meanrank"].append(_meanrank(scores, positive_u, positive_i))
    if len(interaction) != len(scores):
        return  # sampled candidates: a row of the interaction is a candidate, not an event
    users = interaction[collector.config["USER_ID_FIELD"]].to(scores.device)[positive_u]
    ranks = hits.any(dim=1) * (hits.int().argmax(dim=1) + 1)
    batches[RANKED_EVENTS].append(torch.stack([users, positive_i, ranks], dim=1))


def _topk(rows: int, hits: Tensor, positive_u: Tensor, positive_i: Tensor) -> Tensor:
    """Return RecBole's ``rec.topk``: the ranks that are hits, and the number of positive items, ``[B, K + 1]``.

    RecBole expands a batch's positives into a matrix of all items and sums it, which takes most of an evaluation's time
    for large catalogs. The positives alone are enough.
    """
    by_row = hits.new_zeros(rows, hits.shape[1] + 1, dtype=torch.long)
    by_row[:, :-1].index_add_(0, positive_u, hits.long())
    by_row[:, :-1].clamp_(max=1)  # a positive may occur twice
    distinct, _ = _distinct(positive_u, positive_i)
    by_row[:, -1] = distinct.bincount(minlength=rows)
    return by_row


def _meanrank(scores: Tensor, positive_u: Tensor, positive_i: Tensor) -> Tensor:
    """Return RecBole's ``rec.meanrank``, ``[B, 3]``, by counting where RecBole sorts.

    Its columns are the sum of the positives' ranks, where equal scores share their mean rank; the number of candidates;
    and the number of positives. Items that are not candidates have the lowest score.
    """
    rows, items = _distinct(positive_u, positive_i)
    by_row = scores.new_zeros(len(scores), 3)
    by_row[:, 1] = (scores > scores.amin(dim=1, keepdim=True)).sum(dim=1)
    chunk = max(_CHUNK_SCORES // scores.shape[1], 1)
    for row, item in zip(torch.split(rows, chunk), torch.split(items, chunk), strict=True):
        others, own = scores[row], scores[row, item][:, None]
        rank = (others > own).sum(dim=1) + ((others == own).sum(dim=1) + 1) / 2
        rank = rank.to(by_row).minimum(by_row[row, 1])  # a positive that is no candidate is the last one
        by_row[:, 0].index_add_(0, row, rank)
    by_row[:, 2] = rows.bincount(minlength=len(scores))
    return by_row


def _distinct(positive_u: Tensor, positive_i: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and items of the positives without duplicates."""
    rows, items = torch.unique(torch.stack([positive_u, positive_i]), dim=1)
    return rows, items
