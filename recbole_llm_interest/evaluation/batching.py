"""Bounds what an evaluation holds in memory at once, for every model and whatever the catalogue."""

from __future__ import annotations

from typing import Any

from recbole.data.dataloader import FullSortEvalDataLoader, NegSampleEvalDataLoader
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import get_model

from recbole_llm_interest.settings import EvaluationSettings, read_settings


def limit_evaluation_batches() -> None:
    """Cut RecBole's batches so that their scores fit into ``eval_scores_mb``.

    RecBole's ``eval_batch_size`` counts histories where all items are ranked, each of which has a score for every item:
    4096 times a million is 16 GB. Called once, at registration.
    """
    for loader in (FullSortEvalDataLoader, NegSampleEvalDataLoader):
        _bound(loader)


def _bound(loader: Any) -> None:
    original = loader._init_batch_size_and_step

    def _init_batch_size_and_step(self: Any) -> None:
        original(self)
        is_full = loader is FullSortEvalDataLoader
        # without negatives, each event has one score, and no row of them
        if is_full or self.neg_sample_args["distribution"] != "none":
            room = read_settings(EvaluationSettings, self.config).eval_scores_mb * 2**20
            self.step = max(int(min(self.step, room / _bytes_a_row(self.config, self._dataset, is_full))), 1)

    loader._init_batch_size_and_step = _init_batch_size_and_step


def _bytes_a_row(config: Any, dataset: Any, is_full: bool) -> int:
    """What the scores of one history take, with one for every item.

    A model that can't rank all items by itself gets a copy of the history from RecBole beside each score.
    """
    bytes_a_score = 4
    if is_full and get_model(config["model"]).full_sort_predict is AbstractRecommender.full_sort_predict:
        row = dataset[[0]]
        bytes_a_score += sum(row[field].nbytes for field in row)
    return int(bytes_a_score * dataset.item_num)
