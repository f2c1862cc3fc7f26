"""Retrieval without training: items whose texts are near to what is known before the choice, such as a message."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from torch import Tensor
from torch.nn.functional import normalize

from recbole_llm_interest.baselines.counting import CountingModel, Events
from recbole_llm_interest.content.event_fields import content_field
from recbole_llm_interest.errors import DataError

#: a word of a text
_WORD = re.compile(r"\w+")
_CONTEXT = content_field("context")


class BM25(CountingModel[Any]):
    """Ranks items by the words that their texts share with the context, weighted by BM25.

    Source: S. Robertson and H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009; by bm25s.

    Args:
        config: RecBole's configuration.
        dataset: the training split, with ``item_texts`` and ``side_information``.

    Raises:
        DataError: events have no context, items no texts, or bm25s is not installed.
    """

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        _check_context(config, dataset, any(map(_WORD.search, dataset.item_texts)))
        self.item_texts: list[str] = dataset.item_texts
        contexts = dataset.side_information["context"].catalogue
        blobs = contexts.contents.blobs["text"]
        self.contexts = [getattr(blobs.get(token), "text", "") for token in contexts.tokens]

    def count(self, events: Events) -> Any:
        """Index the words of the items' texts.

        Raises:
            DataError: bm25s is not installed.
        """
        try:
            import bm25s
        except ImportError as error:
            raise DataError("BM25 needs the package bm25s: pip install 'recbole_llm_interest[bm25]'") from error
        index = bm25s.BM25()
        index.index([_words(text) for text in self.item_texts], show_progress=False)
        return index

    def score(self, interaction: Interaction) -> Tensor:
        """Return the weights of the words that contexts share with items, ``[B, N]``."""
        scores = np.zeros((len(interaction), self.n_items), dtype=np.float32)
        for row, content in enumerate(interaction[_CONTEXT].tolist()):
            if words := _words(self.contexts[content]):
                scores[row] = self.counts.get_scores(words)
        return torch.from_numpy(scores).to(self.device)


class NearestText(CountingModel[tuple[Tensor, Tensor]]):
    """Ranks items by the cosine of their text's features and the context's, by the same encoder.

    Args:
        config: RecBole's configuration.
        dataset: the training split, with ``item_content`` and ``context_inputs``.

    Raises:
        DataError: events have no context, items no texts, or both are features of different encoders.
    """

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        items, contexts = (content.get("text") for content in (dataset.item_content, dataset.context_inputs.content))
        _check_context(config, dataset, items is not None)
        if items is None or contexts is None or items.values.shape[1] != contexts.values.shape[1]:
            raise DataError(
                f"{config['model']} compares features of one encoder: encode items and contexts by the same"
            )
        self.features = contexts.values, items.values

    def count(self, events: Events) -> tuple[Tensor, Tensor]:
        """Features of contexts and items, of length 1, ``[M, D]`` and ``[N, D]``."""
        contexts, items = (normalize(values.float(), dim=1) for values in self.features)
        return contexts, items

    def score(self, interaction: Interaction) -> Tensor:
        """Return 1 + cosine, ``[B, N]``, which is not negative; 0 where one of them has no text."""
        contexts, items = self.counts
        of_context = contexts[interaction[_CONTEXT].cpu()]
        both = of_context.any(dim=1)[:, None] & items.any(dim=1)
        return (1 + of_context @ items.T).where(both, 0.0).to(self.device)


def _check_context(config: Config, dataset: Any, has_texts: bool) -> None:
    context = dataset.side_information.get("context")
    if context is None or not context.catalogue.contents.blobs["text"] or not has_texts:
        missing = "texts of items" if context is not None and has_texts is False else "context_fields"
        raise DataError(
            f"{config['model']} compares texts of items with what is known before the choice, and "
            f"{config['dataset']!r} has no {missing}: docs/your_data.md explains how to add both"
        )


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
