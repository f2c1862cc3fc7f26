"""Fuses what is known of an item or user into one representation, with whatever is missing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: the name under which a learnt ID embedding takes part beside the modalities
ID = "id"


class GatedSum(nn.Module):
    """A sum whose weights each part's own gate decides; equal weights at the start."""

    def __init__(self, modalities: int, embedding_size: int) -> None:
        super().__init__()
        self.output_size = embedding_size
        self.gate = nn.Parameter(torch.zeros(modalities, embedding_size))
        self.gate_bias = nn.Parameter(torch.zeros(modalities))

    def forward(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Parts ``[N, M, D]`` to representations ``[N, D]`` and weights ``[N, M]``."""
        weights = ((parts * self.gate).sum(dim=-1) + self.gate_bias).softmax(dim=-1)
        return (weights[..., None] * parts).sum(dim=1) * parts.shape[1], weights


class AttentionFusion(nn.Module):
    """A learnt query attends to what a hidden layer makes of each part (Yang et al., NAACL 2016)."""

    def __init__(self, modalities: int, embedding_size: int) -> None:
        super().__init__()
        self.output_size = embedding_size
        self.key = nn.Linear(embedding_size, embedding_size)
        self.query = nn.Parameter(torch.empty(embedding_size).normal_(std=embedding_size**-0.5))

    def forward(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Parts ``[N, M, D]`` to representations ``[N, D]`` and weights ``[N, M]``."""
        weights = (torch.tanh(self.key(parts)) @ self.query).softmax(dim=-1)
        return (weights[..., None] * parts).sum(dim=1) * parts.shape[1], weights


class ConcatMLP(nn.Module):
    """The parts side by side through a two-layer MLP."""

    def __init__(self, modalities: int, embedding_size: int) -> None:
        super().__init__()
        self.output_size = embedding_size
        self.hidden = nn.Linear(modalities * embedding_size, embedding_size)
        self.output = nn.Linear(embedding_size, embedding_size)

    def forward(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Parts ``[N, M, D]`` to representations ``[N, D]`` and weights ``[N, M]``, by what each adds when hidden."""
        blocks = self.hidden.weight.view(-1, *parts.shape[1:])  # [D, M, D]
        share = torch.einsum("nmd,hmd->nmh", parts, blocks)
        representation = self.output(F.gelu(share.sum(dim=1) + self.hidden.bias))
        return representation, F.normalize(share.norm(dim=-1), p=1, dim=-1)


class LateFusion(nn.Module):
    """Each modality keeps a space of its own, and its own score for the next item.

    The parts stand side by side at unit length, times the root of the item's weight for each. The cosine of such a
    representation with an interest of the same width is a weighted sum of one cosine a modality, where the item's
    gate and the interest's length in that modality's space give the weights.
    """

    def __init__(self, modalities: int, embedding_size: int) -> None:
        super().__init__()
        self.output_size = modalities * embedding_size
        self.gate = nn.Parameter(torch.zeros(modalities, embedding_size))
        self.gate_bias = nn.Parameter(torch.zeros(modalities))

    def forward(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Parts ``[N, M, D]`` to representations ``[N, M * D]`` and weights ``[N, M]``."""
        weights = ((parts * self.gate).sum(dim=-1) + self.gate_bias).softmax(dim=-1)
        return (weights.sqrt()[..., None] * F.normalize(parts, dim=-1)).flatten(1), weights


FUSIONS: dict[str, type[GatedSum] | type[AttentionFusion] | type[ConcatMLP] | type[LateFusion]] = {
    "gated": GatedSum,
    "attention": AttentionFusion,
    "concat": ConcatMLP,
    "late": LateFusion,
}
