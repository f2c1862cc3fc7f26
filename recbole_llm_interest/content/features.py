"""Features of items or users, one row each, with a mask of the rows that have content."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """A fitted conditioning, ``(x - mean) @ weight``, which also applies to later items and users.

    Attributes:
        mean: ``[D]``.
        weight: ``[D, K]``.
    """

    mean: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Features:
    """Features of one modality, in the order of RecBole's internal IDs; row 0 is the padding.

    Attributes:
        values: ``[N, D]``, without conditioning; rows without content are zero and must not be used.
        present: bool, ``[N]``; rows with content.
        conditioning: applied before the model reads the features; None for none.

    Raises:
        ValueError: the shapes of ``values`` and ``present`` do not match.

    Example:
        >>> features = Features(torch.ones(3, 4), torch.tensor([False, True, True]))
        >>> features.conditioned().shape
        torch.Size([3, 4])
    """

    values: Tensor
    present: Tensor
    conditioning: Conditioning | None = None

    def __post_init__(self) -> None:
        if self.values.shape[:1] != self.present.shape or self.present.dtype != torch.bool:
            raise ValueError(f"values {tuple(self.values.shape)} do not match present {tuple(self.present.shape)}")

    def conditioned(self) -> Tensor:
        """Return the values with conditioning, ``[N, K]``; rows without content are zero."""
        if self.conditioning is None:
            return self.values
        mean, weight = self.conditioning.mean, self.conditioning.weight
        conditioned = self.values.new_zeros(len(self.values), weight.shape[1])
        rows = self.values[self.present].double()
        conditioned[self.present] = ((rows - mean.double()) @ weight.double()).float()
        return conditioned

    def shuffled(self, source: Tensor) -> Features:
        """Return the features with row ``source[i]``, ``[N]``, as row ``i``; the mask is permuted, too."""
        return replace(self, values=self.values[source], present=self.present[source])

    def random(self, generator: torch.Generator) -> Features:
        """Return standard normal numbers, ``[N, K]``, instead of the conditioned features."""
        values = torch.randn(self.conditioned().shape, generator=generator)
        return Features(values.where(self.present[:, None], 0.0), self.present)


#: features by modality
Content = dict[str, Features]


def control(content: Content, kind: str, seed: int) -> Content:
    """Return the content of a control experiment, which shows whether results depend on content.

    Args:
        content: features by modality, each ``[N, D]``.
        kind: ``shuffled`` permutes rows, all modalities in the same way; ``random`` replaces features with random
            numbers; ``none`` returns the content unchanged.
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
