"""The catalog of a recommender in use, to which items and pools are added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_llm_interest.recommender import inputs
from recbole_llm_interest.recommender.catalog_updates import CatalogUpdates
from recbole_llm_interest.recommender.inputs import Id, Ids
from recbole_llm_interest.recommender.trained import Trained


class OpenCatalog:
    """The items that a recommender chooses from. They may change while it is in use.

    Attributes:
        items: the catalog; ``"i1" in recommender.items`` tells whether an item can be recommended.
        pools: ids of each pool's items, by the pool's name.

    Args:
        trained: the model with its items.

    Example:
        >>> recommender.remove_item("i1")
        >>> "i1" in recommender.items
        False
    """

    def __init__(self, trained: Trained) -> None:
        self._changes = CatalogUpdates(trained)
        self.items = self._changes.items
        self.pools = self._changes.pools

    def label(self, item: Id) -> str:
        """The title of an item; its id where it has none."""
        return self.items.labels.get(inputs.read_id(item), inputs.read_id(item))

    def add_item(self, item: Id, content: Mapping[str, Any]) -> None:
        """Add an item by its content. It can be recommended, and be part of histories, at once.

        Args:
            item: its id.
            content: ``text``, paths of ``image`` and ``audio`` files, features, or columns that become the text.

        Raises:
            RequestError: the catalog has an item of that id, or the content cannot be used.
            EncoderError: an encoder cannot be loaded.

        Example:
            >>> recommender.add_item("i9", {"title": "A film about whales"})
            >>> "i9" in recommender.items
            True
        """
        self._changes.add_item(inputs.read_id(item), content)

    def add_pool(self, name: str, items: Mapping[Any, Mapping[str, Any]] | Ids) -> None:
        """Name a pool of items, such as ads, which ``recommend`` takes as ``candidates``.

        Args:
            name: of the pool; it replaces a former one of that name.
            items: ids of items of the catalog; or the content of new items by id, which are recommended from this pool
                alone. They are no item's neighbours by content, and count in no other answer.

        Raises:
            RequestError: an item is unknown, a new one is already in the catalog, or its content cannot be used.
            EncoderError: an encoder cannot be loaded.

        Example:
            >>> recommender.add_pool("ads", {"ad1": {"title": "Chess lessons"}, "ad2": {"title": "Fresh bread"}})
            >>> len(recommender.recommend(recommender.start(), k=2, candidates="ads"))
            2
        """
        self._changes.add_pool(name, items)

    def remove_item(self, item: Id) -> None:
        """Recommend an item no more. Histories keep it."""
        self.items.remove(inputs.read_id(item))
