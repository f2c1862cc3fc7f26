"""Counts the events that a model learns from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def count_training_events(dataset: Any) -> tuple[Tensor, Tensor]:
    """Count the training events of each item and each user in any RecBole data set.

    A sequential data set has one row for each predicted event. The first event of a user is not predicted; it is the
    only event in the history of the user's first row.

    Args:
        dataset: the training part of a data set.

    Returns:
        Counts by internal item id, ``[N]``, and by internal user id, ``[U]``.
    """
    users, items = dataset.inter_feat[dataset.uid_field], dataset.inter_feat[dataset.iid_field]
    length_field = getattr(dataset, "item_list_length_field", None)
    if length_field is not None:
        is_first = torch.ones_like(users, dtype=torch.bool)
        is_first[1:] = users[1:] != users[:-1]
        rows = dataset[is_first.nonzero().squeeze(1)]
        follows_first_event = rows[length_field] == 1
        item_lists = rows[f"{dataset.iid_field}{dataset.config['LIST_SUFFIX']}"]
        users = torch.cat([users, rows[dataset.uid_field][follows_first_event]])
        items = torch.cat([items, item_lists[follows_first_event, 0]])
    return (
        torch.bincount(items, minlength=dataset.num(dataset.iid_field)),
        torch.bincount(users, minlength=dataset.num(dataset.uid_field)),
    )
