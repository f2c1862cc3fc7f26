"""What the content side hands to the model: one row of features per item or user, and which rows are real."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """A fitted conditioning, ``(x - mean) @ weight``: what comes later is conditioned as the table was.

    Attributes:
        mean: ``[D]``.
        weight: ``[D, K]``.
    """

    mean: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Features:
    """Features of one modality, in the order of RecBole's internal ids (row 0 is its padding).

    Attributes:
        values: ``[N, D]``, as encoded; a row whose content is missing is zero, and nobody may read it.
        present: ``[N]``, bool; whether the row has content.
        conditioning: what is done to them before the model sees them; None for nothing.
    """

    values: Tensor
    present: Tensor
    conditioning: Conditioning | None = None

    def __post_init__(self) -> None:
        if self.values.shape[:1] != self.present.shape or self.present.dtype != torch.bool:
            raise ValueError(f"values {tuple(self.values.shape)} do not match present {tuple(self.present.shape)}")

    def conditioned(self) -> Tensor:
        """The values as the model sees them, ``[N, K]``; missing rows are zero."""
        if self.conditioning is None:
            return self.values
        mean, weight = self.conditioning.mean, self.conditioning.weight
        conditioned = self.values.new_zeros(len(self.values), weight.shape[1])
        rows = self.values[self.present].double()
        conditioned[self.present] = ((rows - mean.double()) @ weight.double()).float()
        return conditioned

    def shuffled(self, source: Tensor) -> Features:
        """The features of row ``source[i]`` in row ``i``, ``[N]``: content, or the lack of it, at the wrong place."""
        return replace(self, values=self.values[source], present=self.present[source])

    def random(self, generator: torch.Generator) -> Features:
        """Independent standard normal numbers instead of content, as many as the model sees of that."""
        values = torch.randn(self.conditioned().shape, generator=generator)
        return Features(values.where(self.present[:, None], 0.0), self.present)


#: modality -> features
Content = dict[str, Features]


def control(content: Content, kind: str, seed: int) -> Content:
    """What a test of whether content matters gets instead of it.

    Args:
        content: of items or users.
        kind: ``shuffled``, rows permuted, the same way for all modalities, so that what belongs together stays so;
            ``random``, numbers instead of features; ``none``, content as it is.
        seed: of the permutation or the numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    if kind == "random":
        return {modality: features.random(generator) for modality, features in content.items()}
    if kind == "shuffled" and content:
        rows = len(next(iter(content.values())).present)
        source = torch.cat([torch.zeros(1, dtype=torch.long), torch.randperm(rows - 1, generator=generator) + 1])
        return {modality: features.shuffled(source) for modality, features in content.items()}
    return content
