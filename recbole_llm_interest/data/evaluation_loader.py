"""Evaluation by event, for every RecBole model: one row for each tested event, with the items seen before it.

RecBole evaluates sequential models by event and keeps seen items among the candidates, and general models by user, for
whom it can filter them. Here all models have the same rows and the same candidates.
"""

from __future__ import annotations

from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm_interest.data.event_histories import has_histories, own_events, seen_items
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.settings import EvaluationSettings, read_settings

#: attribute of a batch with the indices of rows and seen items, where both kinds of candidates are evaluated
SEEN_ITEMS = "seen_items"
#: attribute of a batch with the items that were shown beside each row's own; the model does not read it
SHOWN_ITEMS = "shown_items"


def is_evaluated_by_event(config: Config) -> bool:
    """Return whether every model's tested events are rows of their own: leave-one-out, a split by time, split files.

    Other splits, and general models with ``repeatable: False``, are evaluated as RecBole does.
    """
    if not config["repeatable"]:
        return False
    if config["benchmark_filename"] is not None or config["time_split"] is not None:
        return True
    arguments = config["eval_args"]
    return arguments["order"] == "TO" and "LS" in (arguments["split"] or {})


def has_both_candidates(config: Config, phase: str) -> bool:
    """Return whether ``valid`` or ``test`` is evaluated with seen items kept and filtered."""
    is_full = config["eval_args"]["mode"][phase] == "full"
    return is_full and is_evaluated_by_event(config) and read_settings(EvaluationSettings, config).seen_items == "both"


def check_seen_items(config: Config) -> None:
    """Check that seen items can be filtered if they have to be.

    Raises:
        SettingsError: they are to be filtered, and RecBole evaluates in its own way.
    """
    if read_settings(EvaluationSettings, config).seen_items != "filtered":
        return
    if not is_evaluated_by_event(config) or set(config["eval_args"]["mode"].values()) != {"full"}:
        raise SettingsError(
            "seen_items=filtered needs full ranking of leave-one-out, time_split or benchmark_filename, and "
            "repeatable=True: eval_args and repeatable say otherwise"
        )


def evaluation_loader(config: Config, dataset: Any, sampler: Any, shuffle: bool = False) -> FullSortEvalDataLoader:
    """Return the loader for full ranking: by event where it applies, else RecBole's.

    Args:
        config: RecBole's settings.
        dataset: validation or test data.
        sampler: RecBole's sampler.
        shuffle: is not supported by either; it is in RecBole's signature.
    """
    by_event = is_evaluated_by_event(config) and has_histories(dataset)
    return (EventDataLoader if by_event else FullSortEvalDataLoader)(config, dataset, sampler, shuffle=shuffle)


class EventDataLoader(FullSortEvalDataLoader):
    """Batches of tested events in the order of the data set's rows.

    With ``seen_items: filtered``, the items that were seen before an event are where RecBole's trainer looks for those
    that are no candidates. With ``both``, they are in the batch's attribute ``SEEN_ITEMS``. Items that were
    shown beside the row's own are in ``SHOWN_ITEMS``.

    Args:
        config: RecBole's settings.
        dataset: validation or test data with ``has_histories``.
        sampler: is not used; it is in RecBole's signature.
        shuffle: is not supported; it is in RecBole's signature.
    """

    def __init__(self, config: Config, dataset: Any, sampler: Any, shuffle: bool = False) -> None:
        self.logger = getLogger()
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        self.sample_size = len(dataset)
        self._candidates = read_settings(EvaluationSettings, config).seen_items
        # RecBole's word for batches of events; the base class overwrites it after it has asked for the batch size
        self.is_sequential = True
        super(FullSortEvalDataLoader, self).__init__(config, dataset, sampler, shuffle=False)
        self.is_sequential = True

    def collate_fn(self, index: list[int]) -> tuple[Interaction, tuple[Tensor, Tensor] | None, Tensor, Tensor]:
        """Return what the model reads of a batch's rows, the seen items to remove, and each row's item.

        Args:
            index: the batch's rows.

        Returns:
            A batch of ``B`` rows; indices of rows and seen items, ``[S]`` each, or None; indices of rows, and their own
            items, ``[B]`` each.
        """
        dataset = self._dataset
        if isinstance(dataset, SequentialDataset):
            batch = rows = dataset[np.array(index)]
        else:  # as RecBole: the user, and nothing of the event
            rows = dataset.inter_feat[index]
            batch = dataset.join(Interaction({self.uid_field: rows[self.uid_field]}))
        seen = None if self._candidates == "kept" else seen_items(dataset, rows)
        batch = self.transform(dataset, batch)
        if self._candidates == "both":
            setattr(batch, SEEN_ITEMS, seen)
            seen = None
        if getattr(dataset, "event_shown", None) is not None:
            setattr(batch, SHOWN_ITEMS, dataset.event_shown[own_events(rows)])
        return batch, seen, torch.arange(len(rows)), rows[self.iid_field]
