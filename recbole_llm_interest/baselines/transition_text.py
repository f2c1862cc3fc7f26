"""Transition counts over one and two steps, and the words that titles share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.config import Config
from recbole.data.interaction import Interaction
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize
from torch import Tensor

from recbole_llm_interest.baselines.counting import CountingModel, Events
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.settings import TransitionTextSettings, read_settings

Matrix = Any  # of scipy or numpy, whose products are alike
#: up to so many items, transitions are a dense matrix where a share of its entries is not zero
_DENSE_ITEMS, _DENSE_SHARE = 8192, 0.05
#: a word of a text
_WORD = r"\w+"


@dataclass(frozen=True)
class TransitionsAndWords:
    """What training events and item texts say.

    Attributes:
        transitions: share of transitions from an item that lead to another one, ``[N, N]``; rows add up to 1 or 0.
        words: TF-IDF weights of the items' words, ``[N, V]``, of length 1; None without a weight of texts.
    """

    transitions: Matrix
    words: Matrix | None


class TransitionText(CountingModel[TransitionsAndWords]):
    """An untrained heuristic: item transitions over one and two steps, and similar texts.

    With ``H`` the history, whose latest event weighs 1 and each one before it ``history_decay`` times the next one,
    ``P`` the transitions and ``S`` the cosines of the items' TF-IDF vectors, the scores are
    ``H P + hop_weight H P P + text_weight H S``. A transition to the next item counts 1, its reverse
    ``reverse_weight``, and one over an item between them ``two_apart_weight``.

    Heuristics of this kind match trained models on many data sets: arXiv 2605.07125.

    Args:
        config: RecBole's configuration, with those weights.
        dataset: the training split, with ``training_events()`` and ``item_texts``.

    Raises:
        DataError: no item's text has a word, and ``text_weight`` is above 0.
    """

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.settings = read_settings(TransitionTextSettings, config)
        self.item_texts: list[str] = dataset.item_texts
        if self.settings.text_weight and not any(re.search(_WORD, text) for text in self.item_texts):
            raise DataError(
                f"TransitionText reads item texts, and {config['dataset']!r} has none: docs/your_data.md explains how "
                "to add them, or set text_weight=0"
            )

    def count(self, events: Events) -> TransitionsAndWords:
        """Count transitions and words."""
        return TransitionsAndWords(self._transitions(events), self._words() if self.settings.text_weight else None)

    def _words(self) -> Matrix:
        vectorizer = TfidfVectorizer(token_pattern=_WORD, dtype=np.float32)
        return vectorizer.fit(filter(None, self.item_texts)).transform(self.item_texts)

    def _transitions(self, events: Events) -> Matrix:
        shape = (self.n_items, self.n_items)
        total = sparse.csr_array(shape, dtype=np.float32)
        for apart, weight in ((1, 1.0), (2, self.settings.two_apart_weight)):
            is_pair = events.sequences[apart:] == events.sequences[:-apart]
            pairs = events.items[:-apart][is_pair], events.items[apart:][is_pair]
            total += sparse.csr_array((np.full(len(pairs[0]), weight, dtype=np.float32), pairs), shape=shape)
        total += self.settings.reverse_weight * total.T
        transitions = normalize(total, norm="l1")
        is_dense = self.n_items <= _DENSE_ITEMS and transitions.nnz > _DENSE_SHARE * self.n_items**2
        return transitions.toarray() if is_dense else transitions

    def score(self, interaction: Interaction) -> Tensor:
        """Return the weighted sum of the three parts, ``[B, N]``."""
        settings = self.settings
        history = self._weighted_history(interaction)
        one_step = history @ self.counts.transitions
        scores = _dense(one_step) + settings.hop_weight * _dense(one_step @ self.counts.transitions)
        if self.counts.words is not None:
            words = _dense(history @ self.counts.words)  # [B, V]
            scores += settings.text_weight * (self.counts.words @ words.T).T
        return torch.from_numpy(scores).to(self.device)

    def _weighted_history(self, interaction: Interaction) -> sparse.csr_array:
        """Return the weights of each history's items, ``[B, N]``; an item that occurs twice has the sum."""
        items, ago = (values.cpu().numpy() for values in self.histories(interaction))
        row, column = np.nonzero(ago >= 0)
        weight = np.float32(self.settings.history_decay) ** ago[row, column].astype(np.float32)
        return sparse.csr_array((weight, (row, items[row, column])), shape=(len(items), self.n_items))


def _dense(matrix: Matrix) -> NDArray[np.float32]:
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)
