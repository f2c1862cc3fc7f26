"""Encodes an item, or a user, from its content features and its ID, whatever of them is missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from recbole_llm_interest.content.features import Content
from recbole_llm_interest.content.neighbours import cached_neighbours
from recbole_llm_interest.model.frozen_features import FrozenFeatures
from recbole_llm_interest.model.fusion import FUSIONS
from recbole_llm_interest.model.projections import PROJECTIONS

#: rows that are encoded in one block without gradients: a row takes several times its final size on the way
_BLOCK_ROWS = 2**16
#: nearest neighbours by each modality whose IDs start that of a new item
_NEAREST = 8
#: the name of the learned ID embedding among the modalities
ID = "id"


class EntityEncoder(nn.Module):
    """Projects each modality's frozen features to a common width and fuses them, for a table of items or users.

    A modality that an entity lacks is replaced by a learned vector, never by zeros. In training, modalities are also
    dropped at random, so that the model learns to do without them.

    N is the number of entities with the padding, M the number of modalities (the ID embedding counts as one), D
    ``embedding_size``.

    Args:
        content: features by modality, ``N`` rows each; row 0 is padding.
        embedding_size: width of each modality's projection.
        fusion: name of one of ``FUSIONS``.
        projection: name of one of ``PROJECTIONS``.
        modality_dropout: probability to drop an entity's modality in training.
        with_id: ``[N]``, the entities whose ID has a learned embedding; None for content alone.
        sparse_id: whether the gradient of the ID embedding is sparse.
        id_init_std: standard deviation of ID embeddings at the start; None for ``embedding_size ** -0.5``.
        neighbours: how many nearest neighbours are looked up in each modality; or the neighbours themselves.
        neighbour_cache: folder in which neighbours are cached; None for no cache.

    Attributes:
        modalities: their names, sorted; the ID is last.
        neighbours: each entity's nearest neighbours by each modality's features, nearest first, ``[N, M, K]`` without
            the ID; 0 for none.
        output_size: width of a representation.

    Raises:
        ValueError: there is neither content nor an ID.

    Example:
        >>> import torch
        >>> from recbole_llm_interest.content.features import Features
        >>> has_text = torch.tensor([False, True, True, False])  # row 0 is padding, item 3 lacks a text
        >>> encoder = EntityEncoder({"text": Features(torch.randn(4, 8), has_text)}, embedding_size=16)
        >>> encoder(torch.tensor([1, 3])).shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        content: Content,
        *,
        embedding_size: int,
        fusion: str = "gated",
        projection: str = "mlp",
        modality_dropout: float = 0.0,
        with_id: Tensor | None = None,
        sparse_id: bool = False,
        id_init_std: float | None = None,
        neighbours: int | Tensor = 0,
        neighbour_cache: Path | None = None,
    ) -> None:
        super().__init__()
        self.modality_dropout = modality_dropout
        self.modalities = [*sorted(content), *([ID] if with_id is not None else [])]
        if not self.modalities:
            raise ValueError("there is nothing to encode: neither content nor IDs")
        self.features = nn.ModuleDict({name: FrozenFeatures(content[name]) for name in sorted(content)})
        self.projections = nn.ModuleDict()
        for name, features in self.features.items():
            known = content[name].present.nonzero().squeeze(1)[:_BLOCK_ROWS]
            self.projections[name] = PROJECTIONS[projection](features(known), embedding_size)
        present = [content[name].present for name in sorted(content)]
        self.id_embedding = None
        self._id_init_std = id_init_std or embedding_size**-0.5
        if with_id is not None:
            self.id_embedding = self._new_ids(with_id, embedding_size, sparse_id)
            present.append(with_id)
        self.register_buffer("present", torch.stack(present, dim=1), persistent=False)  # [N, M]
        self.missing = nn.Parameter(torch.empty(len(self.modalities), embedding_size).normal_(std=0.02))
        self.combine = FUSIONS[fusion](len(self.modalities), embedding_size)
        self.output_size: int = self.combine.output_size
        self._neighbour_cache = neighbour_cache
        if not isinstance(neighbours, Tensor):
            neighbours = self._find_neighbours(neighbours, neighbour_cache)
        self.register_buffer("neighbours", neighbours, persistent=False)
        self.register_load_state_dict_post_hook(EntityEncoder._condition_again)  # type: ignore[no-untyped-call]

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """Representations of ``rows``, ``[B, output_size]``, or of all rows, ``[N, output_size]``."""
        parts, _ = self.parts(rows)
        representation, _ = self.combine(parts)
        return representation

    def table(self, rows: Tensor | None = None) -> Tensor:
        """Representations of ``rows``, ``[C]``, the first of which is padding, or of all rows: ``[C, D]``.

        The padding is zero. Without gradients, rows are encoded in blocks.
        """
        if torch.is_grad_enabled():
            table = self(rows)
            return torch.cat([table.new_zeros(1, table.shape[1]), table[1:]])
        present = self.get_buffer("present")
        rows = torch.arange(len(present), device=present.device) if rows is None else rows
        table = torch.cat([self(block) for block in torch.split(rows, _BLOCK_ROWS)])
        table[0] = 0.0
        return table

    def neighbours_of(self, rows: Tensor) -> Tensor:
        """The nearest neighbours of ``rows``, ``[...] -> [..., M, K]``, see ``neighbours``."""
        return self.get_buffer("neighbours")[rows].long()

    def parts(self, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Each modality's projection, or the learned vector, ``[B, M, D]``; and which are present, ``[B, M]``."""
        present = self.get_buffer("present")
        chosen: Tensor | slice = slice(None) if rows is None else rows
        parts = [self.projections[name](self.features[name](chosen)) for name in self.modalities if name != ID]
        if self.id_embedding is not None:
            parts.append(self.id_embedding.weight if rows is None else self.id_embedding(rows))
        present = present[chosen]
        if self.training and self.modality_dropout:
            present = present & (torch.rand_like(present, dtype=torch.float) >= self.modality_dropout)
        return self._with_missing(parts, present), present

    @torch.no_grad()
    def start_ids(self, is_trained: Tensor) -> int:
        """Start the IDs that are in use and were not trained, and return their number.

        An ID starts as the mean of those of the item's nearest neighbours by content. Without such, it is random, as in
        any training: the direction of a zero vector would be undefined.

        Args:
            is_trained: rows whose ID was trained, ``[N]``.
        """
        if self.id_embedding is None:
            return 0
        weight, with_id = self.id_embedding.weight, self.get_buffer("present")[:, -1]
        known = is_trained.to(weight.device) & with_id
        rows = (with_id & ~known).nonzero().squeeze(1)
        for block in torch.split(rows, _BLOCK_ROWS // _NEAREST):
            near = self.neighbours_of(block)[..., :_NEAREST].flatten(1)
            is_known = known[near].to(weight.dtype)[..., None]
            mean = (weight[near] * is_known).sum(dim=1) / is_known.sum(dim=1).clamp(min=1.0)
            random = torch.empty_like(mean).normal_(std=self._id_init_std)
            weight[block] = mean.where(is_known.any(dim=1), random)
        return len(rows)

    def encode(self, content: Content) -> Tensor:
        """Representations of entities that are not in the table, ``[B, output_size]``."""
        parts, _ = self.parts_of(content)
        representation, _ = self.combine(parts)
        return representation

    def encode_conditioned(self, values: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """The same from conditioned features, ``[B, K]``, and masks, ``[B]``, by modality."""
        parts, _ = self._parts_of(values, present)
        representation, _ = self.combine(parts)
        return representation

    def parts_of(self, content: Content) -> tuple[Tensor, Tensor]:
        """What ``parts`` returns, ``[B, M, D]`` and ``[B, M]``, for entities that are not in the table: without IDs."""
        return self._parts_of(self.condition(content), {name: one.present for name, one in content.items()})

    def _parts_of(self, values: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        device = self.missing.device
        nowhere = torch.zeros(len(next(iter(present.values()))), dtype=torch.bool, device=device)
        absent = self.missing.new_zeros(len(nowhere), self.missing.shape[1])
        parts = [self.projections[name](values[name]) if name in values else absent for name in self.modalities]
        masks = [present[name].to(device) if name in present else nowhere for name in self.modalities]
        is_present = torch.stack(masks, dim=1)
        return self._with_missing(parts, is_present), is_present

    def condition(self, content: Content) -> dict[str, Tensor]:
        """Conditioned features of entities that are not in the table, ``[B, K]`` by modality."""
        return {name: self.features[name].condition(features) for name, features in content.items()}  # type: ignore[operator]

    @torch.no_grad()
    def weights(self, rows: Tensor | None = None) -> Tensor:
        """Each modality's weight in the representations of ``rows``, ``[B, M]`` in the order of ``modalities``.

        The weights of an entity sum to one over the modalities that it has; the others are zero.
        """
        parts, present = self.parts(rows)
        _, weights = self.combine(parts)
        weights = weights.where(present, 0.0)
        return weights / weights.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)

    def drop_modality(self, modality: str, rows: Tensor | None = None) -> None:
        """Treat ``rows``, ``[B]``, or all rows, as lacking a modality from now on.

        Raises:
            ValueError: there is no such modality.
        """
        present = self.get_buffer("present").clone()
        present[slice(None) if rows is None else rows, self.modalities.index(modality)] = False
        self.set_present(present)

    def set_present(self, present: Tensor) -> None:
        """Set which entities have which modality, ``[N, M]``."""
        self.get_buffer("present").copy_(present)
        self._find_neighbours_again()

    @property
    def content(self) -> Content:
        """The table's features by modality, as encoded, with their conditioning."""
        return {name: features.encoded for name, features in self.features.items()}  # type: ignore[misc]

    @property
    def encoded_sizes(self) -> dict[str, int]:
        """Width of each modality's features, as encoded."""
        return {name: int(features.encoded_size) for name, features in self.features.items()}  # type: ignore[arg-type]

    def _new_ids(self, with_id: Tensor, size: int, is_sparse: bool) -> nn.Embedding:
        """ID embeddings; of rows without, ``[N]``, they are zero, so that a warm start can tell which were trained."""
        ids = nn.Embedding(len(with_id), size, sparse=is_sparse)
        nn.init.normal_(ids.weight, std=self._id_init_std)
        with torch.no_grad():
            ids.weight[~with_id] = 0.0
        return ids

    def _with_missing(self, parts: list[Tensor], present: Tensor) -> Tensor:
        return torch.where(present[..., None], torch.stack(parts, dim=1), self.missing)

    def _find_neighbours(self, count: int, cache: Path | None = None) -> Tensor:
        present = self.get_buffer("present")
        neighbours = [
            cached_neighbours(self.features[name](slice(None)), present[:, column], count, cache)
            for column, name in enumerate(self.modalities)
            if name != ID
        ]
        if not neighbours:
            return present.new_zeros(len(present), 0, count, dtype=torch.int32)
        return torch.stack(neighbours, dim=1)

    def _find_neighbours_again(self, cache: Path | None = None) -> None:
        self.neighbours = self._find_neighbours(self.get_buffer("neighbours").shape[-1], cache)

    def _condition_again(self, *_: object) -> None:
        changed = [features.condition_again() for features in self.features.values()]  # type: ignore[operator]
        if any(changed):
            self._find_neighbours_again(self._neighbour_cache)
