"""Splits evaluation batches, for every model, so that the memory of their scores is bounded."""

from __future__ import annotations

from typing import Any

from recbole.data.dataloader import FullSortEvalDataLoader, NegSampleEvalDataLoader
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import get_model

from recbole_llm_interest.settings import EvaluationSettings, read_settings

_BYTES_PER_SCORE = 4  # float32


def limit_evaluation_batches() -> None:
    """Patch RecBole's evaluation loaders to split batches whose scores exceed ``eval_scores_mb``.

    RecBole's ``eval_batch_size`` counts histories, and full ranking scores every item for each history: 4096 histories
    and a million items take 16 GB. Called once, at registration.
    """
    for loader in (FullSortEvalDataLoader, NegSampleEvalDataLoader):
        _limit_batches(loader)


def _limit_batches(loader: Any) -> None:
    original = loader._init_batch_size_and_step

    def _init_batch_size_and_step(self: Any) -> None:
        original(self)
        is_full = loader is FullSortEvalDataLoader
        # without negatives, there is one score per event instead of one per item
        if is_full or self.neg_sample_args["distribution"] != "none":
            limit = read_settings(EvaluationSettings, self.config).eval_scores_mb * 2**20
            self.step = max(int(min(self.step, limit / _bytes_per_history(self.config, self._dataset, is_full))), 1)

    loader._init_batch_size_and_step = _init_batch_size_and_step


def _bytes_per_history(config: Any, dataset: Any, is_full: bool) -> int:
    """Return the memory of one history's scores, one for each item.

    For a model without ``full_sort_predict``, RecBole repeats the history for each item.
    """
    bytes_per_item = _BYTES_PER_SCORE
    if is_full and get_model(config["model"]).full_sort_predict is AbstractRecommender.full_sort_predict:
        row = dataset[[0]]
        bytes_per_item += sum(row[field].nbytes for field in row)
    return int(bytes_per_item * dataset.item_num)
