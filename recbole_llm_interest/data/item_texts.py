"""Vectors of items' texts that are the same for every model of a comparison, whatever it reads."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from recbole_llm_interest.content.content_files import ContentFiles, as_token
from recbole_llm_interest.content.text_template import as_text, text_columns
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.atomic_files import AtomicFormat

_logger = logging.getLogger(__name__)


def item_text_vectors(dataset: Any) -> csr_matrix | None:
    """Return TF-IDF vectors of the words of items' texts, of unit length, ``[N, D]``; None if no item has a word.

    A text is the values of all columns, whichever of them a model reads: a measure must not depend on the model.

    Args:
        dataset: any RecBole data set.
    """
    id_field = dataset.config["ITEM_ID_FIELD"]
    try:
        by_token = _texts(dataset.config, id_field)
    except DataError as error:
        _logger.warning("metrics of diversity by content are left out: %s", error)
        return None
    tokens = dataset.field2id_token[id_field]
    texts = ["", *(by_token.get(str(token), "") for token in tokens[1:])]  # the first is RecBole's padding
    try:
        return csr_matrix(TfidfVectorizer().fit(filter(None, texts)).transform(texts))
    except ValueError:  # no text has a word
        return None


def _texts(config: Any, id_field: str) -> dict[str, str]:
    """Return the text of each item that has a row, by token.

    Raises:
        DataError: the file cannot be read.
    """
    layout = AtomicFormat.from_config(config)
    files = ContentFiles(Path(config["data_path"]), config["dataset"], "item", id_field, layout, strict=False)
    if files.path is None:
        return {}
    return {
        as_token(row[id_field]): " ".join(as_text(row[column]) for column in text_columns(row, id_field))
        for row in files.rows()
    }
