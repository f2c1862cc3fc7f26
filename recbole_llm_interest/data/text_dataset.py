"""A sequential data set with the texts of its items as they are written, for models that compare words."""

from __future__ import annotations

import logging

from recbole.config import Config

from recbole_llm_interest.content.blobs import Text
from recbole_llm_interest.content.dataset_files import catalogue_from_config
from recbole_llm_interest.data.event_dataset import EventDataset
from recbole_llm_interest.settings import ContentSettings, read_settings

_logger = logging.getLogger(__name__)


class TextDataset(EventDataset):
    """A sequential data set with item texts, which are those that a text encoder would read.

    Attributes:
        item_texts: by internal item id; empty where an item has none.

    Raises:
        DataError: the interactions or the content cannot be read.
        SettingsError: the text template is invalid.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        texts = catalogue_from_config(config, "item", read_settings(ContentSettings, config)).blobs["text"]
        found = [texts.get(str(token)) for token in self.field2id_token[self.iid_field]]
        found[0] = None  # RecBole's padding: an item may be called [PAD], too
        self.item_texts = [blob.text if isinstance(blob, Text) else "" for blob in found]
        if missing := self.item_texts[1:].count(""):
            _logger.warning(
                "%d of %d items have no text: docs/your_data.md explains how to add it", missing, len(found) - 1
            )
