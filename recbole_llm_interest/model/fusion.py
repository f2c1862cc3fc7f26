"""Fuses what is known of an item or user into one representation, with whatever is missing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_llm_interest.content.features import Content


class ContentFusion(nn.Module):
    """Projects each modality's frozen features into one space and adds them up.

    A row that lacks a modality gets a learnt vector in its place, never zeros: absence is information. The
    projection is a two-layer MLP, which beats a linear one on conditioned features (WhitenRec, arXiv 2402.17152).
    The features themselves are neither trained nor saved with the model.

    Args:
        content: features by modality, ``N`` rows each.
        output_size: width ``D`` of the representation.
    """

    def __init__(self, content: Content, *, output_size: int) -> None:
        super().__init__()
        self.modalities = sorted(content)
        self.projections = nn.ModuleDict()
        self.missing = nn.ParameterDict()
        for modality in self.modalities:
            features = content[modality]
            self.register_buffer(f"{modality}_features", features.values, persistent=False)
            self.register_buffer(f"{modality}_present", features.present, persistent=False)
            self.projections[modality] = nn.Sequential(
                nn.Linear(features.values.shape[1], output_size),
                nn.GELU(),
                nn.Linear(output_size, output_size),
            )
            self.missing[modality] = nn.Parameter(torch.empty(output_size).normal_(std=0.02))

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """Representations of ``rows``, ``[B, D]``, or of all rows, ``[N, D]``."""
        parts = []
        for modality in self.modalities:
            features, present = self.get_buffer(f"{modality}_features"), self.get_buffer(f"{modality}_present")
            if rows is not None:
                features, present = features[rows], present[rows]
            projected = self.projections[modality](features)
            parts.append(torch.where(present[:, None], projected, self.missing[modality]))
        return torch.stack(parts).sum(dim=0)
