"""How often items and users occur in what a model learns from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def count_training_events(dataset: Any) -> tuple[Tensor, Tensor]:
    """How often each item and each user stands in the training events of any RecBole data set, ``[N]`` and ``[U]``.

    Sequential data sets have a row for each event that is predicted; the first event of a user, which is none, is
    found in the history of the row after it.
    """
    users, items = dataset.inter_feat[dataset.uid_field], dataset.inter_feat[dataset.iid_field]
    length_field = getattr(dataset, "item_list_length_field", None)
    if length_field is not None:
        is_first = torch.ones_like(users, dtype=torch.bool)
        is_first[1:] = users[1:] != users[:-1]
        rows = dataset[is_first.nonzero().squeeze(1)]
        follows_the_first = rows[length_field] == 1
        users = torch.cat([users, rows[dataset.uid_field][follows_the_first]])
        items = torch.cat([items, rows[f"{dataset.iid_field}{dataset.config['LIST_SUFFIX']}"][follows_the_first, 0]])
    return (
        torch.bincount(items, minlength=dataset.num(dataset.iid_field)),
        torch.bincount(users, minlength=dataset.num(dataset.uid_field)),
    )
