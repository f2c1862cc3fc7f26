"""What the content side hands to the model: one row of features per item or user, and which rows are real."""

from __future__ import annotations

from dataclasses import dataclass

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


#: modality -> features
Content = dict[str, Features]
