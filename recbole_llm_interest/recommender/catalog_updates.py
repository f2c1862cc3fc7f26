"""Changes of the catalog while it is in use: new items, pools of items, removed items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.recommender.catalog import Catalog, NewItem
from recbole_llm_interest.recommender.inputs import Ids, read_id, read_ids
from recbole_llm_interest.recommender.live_model import neighbourhoods
from recbole_llm_interest.recommender.search import ApproximateIndex
from recbole_llm_interest.recommender.trained import Trained


class CatalogUpdates:
    """Adds items to the catalog and removes them, names pools, and keeps the index complete.

    Attributes:
        items: the catalog.
        pools: ids of each pool's items, by the pool's name.
        pool_only: rows of the items that were added for a pool, and are candidates nowhere else.
        index: approximate index of the catalog; None until one is built.

    Args:
        trained: the model, its items and the reader of their content.

    Example:
        >>> from recbole_llm_interest.recommender.loading import load_trained
        >>> updates = CatalogUpdates(load_trained(checkpoint, {}))
        >>> updates.add_pool("short", ["i1", "i2"])
        >>> len(updates.candidates("short")), updates.count()
        (2, 8)
    """

    def __init__(self, trained: Trained) -> None:
        with torch.no_grad():
            self.items = Catalog(
                trained.tokens,
                trained.model.eval().item_encoder.table(),
                rule=trained.model.scoring_rule,
                neighbourhoods=neighbourhoods(trained.model),
                texts=trained.texts,
                labels=trained.labels,
                categories=trained.categories,
            )
        self.pools: dict[str, list[str]] = {}
        self.pool_only = torch.zeros(0, dtype=torch.long)
        self.index: ApproximateIndex | None = None
        self._trained = trained

    def refuse_unless_unchanged(self) -> None:
        """Refuse to go on if items were added or removed.

        Raises:
            RequestError: they were.
        """
        changed = len(self.items.added) + len(self.items.removed) - 1
        if changed:
            raise RequestError(
                f"{changed} items were added or removed since loading, and a folder holds the model as it was trained: "
                "load it again and save that; items can be added and removed after loading the folder, too"
            )

    @torch.no_grad()
    def add_item(self, item: str, content: Mapping[str, Any], pool_only: bool = False) -> None:
        """Add an item by its content.

        Args:
            item: its id.
            content: as ``Recommender.add_item`` takes it.
            pool_only: whether it is a candidate in pools alone.

        Raises:
            RequestError: the catalog has an item of that id, or the content cannot be used.
            EncoderError: an encoder cannot be loaded.
        """
        if item in self.items:
            raise RequestError(f"item {item!r} is already in the catalog: remove it first")
        if self._trained.item_reader is None:
            raise RequestError("the model knows items by their IDs alone: new items need training")
        encoded = self._trained.item_reader.read(content)
        encoder = self._trained.model.item_encoder
        conditioned = {name: values[0] for name, values in encoder.condition(encoded.content).items()}
        new = NewItem(
            encoder.encode(encoded.content)[0], encoded.content, conditioned, encoded.text, encoded.label, pool_only
        )
        row = torch.tensor([self.items.add(item, new)])
        if pool_only:
            self.pool_only = torch.cat([self.pool_only, row])
        if self.index is not None:
            self.index.add(self.items.factors(row.to(self.items.representations.device)))

    def add_pool(self, name: str, items: Mapping[Any, Mapping[str, Any]] | Ids) -> None:
        """Name a pool of items.

        Args:
            name: of the pool. A former pool of that name is replaced.
            items: ids of items of the catalog; or the content of new items, by id.

        Raises:
            RequestError: an item is unknown, a new item is already in the catalog, or its content cannot be used.
            EncoderError: an encoder cannot be loaded.
        """
        ids = list(map(read_id, items)) if isinstance(items, Mapping) else read_ids(items, "items")
        if isinstance(items, Mapping):
            known = [item for item in ids if item in self.items]
            if known:
                raise RequestError(
                    f"item {known[0]!r} is already in the catalog: give a list of ids for a pool of such items"
                )
            for item, content in zip(ids, items.values(), strict=True):
                self.add_item(item, content, pool_only=True)
        self.items.find(ids)
        self.pools[name] = ids

    def candidates(self, candidates: str | Ids | None) -> Tensor | None:
        """Rows of the items that may be recommended, ascending, ``[n]``; None for all but those of pools alone.

        Args:
            candidates: ids, or a pool's name, or None.

        Raises:
            RequestError: an item or the pool is unknown.
        """
        if candidates is None:
            return None
        if not isinstance(candidates, str):
            ids = read_ids(candidates, "candidates")
        elif candidates in self.pools:
            ids = [item for item in self.pools[candidates] if item in self.items]
        else:
            raise RequestError(f"no pool {candidates!r} (there are {', '.join(self.pools) or 'none'}): see add_pool")
        return torch.unique(self.items.find(ids)).to(self.items.representations.device)

    def count(self) -> int:
        """Number of candidates where neither a pool nor a list of items is given."""
        pool_only = set(self.pool_only.tolist()) - set(self.items.removed.tolist())
        return len(self.items) - len(pool_only)
