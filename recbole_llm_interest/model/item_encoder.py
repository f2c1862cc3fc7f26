"""Encodes an item or user from its content and ID."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from recbole_llm_interest.content.features import Content
from recbole_llm_interest.content.neighbours import cached_neighbours
from recbole_llm_interest.model.frozen_features import FrozenFeatures
from recbole_llm_interest.model.fusion import FUSIONS, ID


class ContentFusion(nn.Module):
    """Projects each modality's frozen features into one space and combines them there.

    A row that lacks a modality gets a learnt vector in its place, never zeros: absence is information. In training,
    modalities are also taken away at random, so that the model learns to do without. A projection is a two-layer
    MLP, which beats a linear one on conditioned features (WhitenRec, arXiv 2402.17152). The features themselves are
    neither trained nor saved with the model.

    In shapes, N is the rows, M the modalities (the ID embedding counts as one), D ``embedding_size``.

    Args:
        content: features by modality, ``N`` rows each; row 0 is padding.
        embedding_size: width of each modality's projection.
        fusion: which of ``FUSIONS`` combines them.
        projection: ``mlp`` or ``linear``, how features reach the common space.
        modality_dropout: probability by which a row's modality is taken away in training.
        with_id: ``[N]``, the rows whose ID has a learnt embedding that takes part; None for content alone.
        sparse_id: whether the ID embedding's gradient holds only the rows that were asked for.
        neighbours: how many nearest neighbours of each row are looked up in each modality; or those that were found
            before.
        neighbour_cache: the folder in which those of many rows are kept; None for nowhere.

    Attributes:
        neighbours: the rows' nearest neighbours by each modality's features, the nearest first, ``[N, M, neighbours]``
            (without the ID); 0 where there are none.
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
        neighbours: int | Tensor = 0,
        neighbour_cache: Path | None = None,
    ) -> None:
        super().__init__()
        self.modality_dropout = modality_dropout
        self.modalities = [*sorted(content), *([ID] if with_id is not None else [])]
        if not self.modalities:
            raise ValueError("there is nothing to fuse: neither content nor IDs")
        self.features = nn.ModuleDict()
        self.projections = nn.ModuleDict()
        present = []
        for modality in sorted(content):
            features = FrozenFeatures(content[modality])
            self.features[modality] = features
            present.append(content[modality].present)
            linear = nn.Linear(features.output_size, embedding_size)
            self.projections[modality] = (
                linear
                if projection == "linear"
                else nn.Sequential(linear, nn.GELU(), nn.Linear(embedding_size, embedding_size))
            )
        self.id_embedding = None
        if with_id is not None:
            self.id_embedding = nn.Embedding(len(with_id), embedding_size, sparse=sparse_id)
            nn.init.normal_(self.id_embedding.weight, std=embedding_size**-0.5)
            present.append(with_id)
        self.register_buffer("present", torch.stack(present, dim=1), persistent=False)  # [N, M]
        self.missing = nn.Parameter(torch.empty(len(self.modalities), embedding_size).normal_(std=0.02))
        self.combine = FUSIONS[fusion](len(self.modalities), embedding_size)
        self.output_size: int = self.combine.output_size
        if not isinstance(neighbours, Tensor):
            neighbours = self._neighbours(neighbours, neighbour_cache)
        self.register_buffer("neighbours", neighbours, persistent=False)
        self.register_load_state_dict_post_hook(ContentFusion._condition_again)  # type: ignore[no-untyped-call]

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """Representations of ``rows``, ``[B, output_size]``, or of all rows, ``[N, output_size]``."""
        parts, _ = self.parts(rows)
        representation, _ = self.combine(parts)
        return representation

    @torch.no_grad()
    def weights(self, rows: Tensor | None = None) -> Tensor:
        """How much each modality has to say in each row's representation, ``[N, M]`` in the order of ``modalities``.

        A row's weights sum to one over the modalities that it has; the others' are zero.
        """
        parts, present = self.parts(rows)
        _, weights = self.combine(parts)
        weights = weights.where(present, 0.0)
        return weights / weights.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)

    def take_away(self, modality: str, rows: Tensor | None = None) -> None:
        """Treat ``rows``, or all rows, as lacking a modality from now on.

        Raises:
            ValueError: there is no such modality.
        """
        present = self.get_buffer("present").clone()
        present[slice(None) if rows is None else rows, self.modalities.index(modality)] = False
        self.set_present(present)

    def set_present(self, present: Tensor) -> None:
        """Say anew which rows have which modality, ``[N, M]``."""
        self.get_buffer("present").copy_(present)
        self._look_up_again()

    def parts(self, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Each modality's part, or the learnt vector in its place, ``[B, M, D]``; and which are real, ``[B, M]``."""
        present = self.get_buffer("present")
        chosen: Tensor | slice = slice(None) if rows is None else rows
        parts = [self.projections[name](self.features[name](chosen)) for name in self.modalities if name != ID]
        if self.id_embedding is not None:
            parts.append(self.id_embedding.weight if rows is None else self.id_embedding(rows))
        present = present[chosen]
        if self.training and self.modality_dropout:
            present = present & (torch.rand_like(present, dtype=torch.float) >= self.modality_dropout)
        return self._filled(parts, present), present

    def of(self, content: Content) -> Tensor:
        """Representations of rows that are not in the table, ``[B, output_size]``; see ``parts_of``."""
        parts, _ = self.parts_of(content)
        representation, _ = self.combine(parts)
        return representation

    @property
    def content(self) -> Content:
        """The rows' features by modality, as they were encoded, and how they are conditioned."""
        return {name: features.encoded for name, features in self.features.items()}  # type: ignore[misc]

    @property
    def encoded_sizes(self) -> dict[str, int]:
        """How wide each modality's features are, before they are conditioned."""
        return {name: int(features.encoded_size) for name, features in self.features.items()}  # type: ignore[arg-type]

    def condition(self, content: Content) -> dict[str, Tensor]:
        """Features of rows that are not in the table, as the model sees them, ``[B, K]`` by modality."""
        return {name: self.features[name].condition(features) for name, features in content.items()}  # type: ignore[operator]

    def parts_of(self, content: Content) -> tuple[Tensor, Tensor]:
        """What ``parts`` gives, of rows that are not in the table, from their content; none of them has an ID."""
        rows = len(next(iter(content.values())).present)
        absent = self.missing.new_zeros(rows, self.missing.shape[1])
        nowhere = torch.zeros(rows, dtype=torch.bool)
        conditioned = self.condition(content)
        parts = [self.projections[name](conditioned[name]) if name in content else absent for name in self.modalities]
        there = [content[name].present if name in content else nowhere for name in self.modalities]
        present = torch.stack(there, dim=1).to(absent.device)
        return self._filled(parts, present), present

    def _filled(self, parts: list[Tensor], present: Tensor) -> Tensor:
        return torch.where(present[..., None], torch.stack(parts, dim=1), self.missing)

    def _neighbours(self, count: int, cache: Path | None = None) -> Tensor:
        present = self.get_buffer("present")
        found = [
            cached_neighbours(self.features[name](slice(None)), present[:, column], count, cache)
            for column, name in enumerate(self.modalities)
            if name != ID
        ]
        return torch.stack(found, dim=1) if found else present.new_zeros(len(present), 0, count, dtype=torch.int32)

    def _look_up_again(self) -> None:
        self.neighbours = self._neighbours(self.get_buffer("neighbours").shape[-1])

    def _condition_again(self, *_: object) -> None:
        changed = [features.condition_again() for features in self.features.values()]  # type: ignore[operator]
        if any(changed):
            self._look_up_again()
