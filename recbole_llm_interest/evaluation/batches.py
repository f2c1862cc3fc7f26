"""Bounds what an evaluation holds in memory at once, for every model and whatever the catalogue."""

from __future__ import annotations

from typing import Any

from recbole.data.dataloader import FullSortEvalDataLoader, NegSampleEvalDataLoader
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import get_model

from recbole_llm_interest.settings import EvaluationSettings, read_settings


def bound_batches() -> None:
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
        # without negatives, each event has one score, and no row of them
        if loader is FullSortEvalDataLoader or self.neg_sample_args["distribution"] != "none":
            self.step = min(self.step, rows_at_once(self.config, self._dataset, loader is FullSortEvalDataLoader))

    loader._init_batch_size_and_step = _init_batch_size_and_step


def rows_at_once(config: Any, dataset: Any, full_sort: bool = True) -> int:
    """How many rows of scores, each with one for every item, fit into ``eval_scores_mb``; one at least.

    A model that can't rank all items by itself gets a copy of the history beside each score from RecBole, which counts
    too.
    """
    bytes_a_score = 4
    if full_sort and get_model(config["model"]).full_sort_predict is AbstractRecommender.full_sort_predict:
        row = dataset[[0]]
        bytes_a_score += sum(row[field].nbytes for field in row)
    return max(
        int(read_settings(EvaluationSettings, config).eval_scores_mb * 2**20) // (bytes_a_score * dataset.item_num), 1
    )
