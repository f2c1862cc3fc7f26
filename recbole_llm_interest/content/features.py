"""What the content side hands to the model: one row of features per item or user, and which rows are real."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Features of one modality, in the order of RecBole's internal ids (row 0 is its padding).

    Attributes:
        values: ``[N, D]``; a row whose content is missing is zero, and nobody may read it.
        present: ``[N]``, bool; whether the row has content.
    """

    values: Tensor
    present: Tensor

    def __post_init__(self) -> None:
        if self.values.shape[:1] != self.present.shape or self.present.dtype != torch.bool:
            raise ValueError(f"values {tuple(self.values.shape)} do not match present {tuple(self.present.shape)}")


#: modality -> features
Content = dict[str, Features]
