"""One modality's frozen features, as the model sees them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from recbole_llm_interest.content.features import Conditioning, Features


class FrozenFeatures(nn.Module):
    """One modality's conditioned features. The conditioning is saved with the model, the features are not.

    A checkpoint therefore conditions new content exactly as it conditioned the training content.

    Args:
        features: ``[N, K]`` as encoded, and their conditioning.

    Attributes:
        encoded: the features as encoded.
        encoded_size: their width.
        output_size: width of the conditioned features.

    Example:
        >>> import torch
        >>> features = Features(torch.arange(6.0).view(3, 2), torch.tensor([False, True, True]))
        >>> FrozenFeatures(features)(torch.tensor([2]))
        tensor([[4., 5.]])
    """

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.encoded = features
        if features.conditioning is not None:
            self.register_buffer("mean", features.conditioning.mean.clone())
            self.register_buffer("weight", features.conditioning.weight.clone())
        values = features.conditioned()
        self.encoded_size = features.values.shape[1]
        self.output_size = values.shape[1]
        self.register_buffer("values", values, persistent=False)

    def forward(self, rows: Tensor | slice) -> Tensor:
        """Conditioned features of ``rows``, ``[B] -> [B, output_size]``."""
        return self.get_buffer("values")[rows]

    def condition(self, features: Features) -> Tensor:
        """Condition features that are not in the table, ``[B, encoded_size] -> [B, output_size]``."""
        conditioned = replace(features, conditioning=self.encoded.conditioning).conditioned()
        return conditioned.to(self.get_buffer("values").device)

    def condition_again(self) -> bool:
        """Recompute the table with the conditioning just loaded from a checkpoint; return whether it changed."""
        before = self.encoded.conditioning
        if before is None:
            return False
        fitted = Conditioning(self.get_buffer("mean").cpu(), self.get_buffer("weight").cpu())
        if torch.equal(fitted.mean, before.mean) and torch.equal(fitted.weight, before.weight):
            return False
        self.encoded = replace(self.encoded, conditioning=fitted)
        self.values = self.encoded.conditioned().to(self.get_buffer("values").device)
        return True

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenFeatures:
        """A copy that shares the tensors that are never written to: RecBole copies the model to count its FLOPs."""
        for frozen in (self.encoded, self.get_buffer("values")):
            memo[id(frozen)] = frozen
        clone = type(self).__new__(type(self))
        memo[id(self)] = clone
        clone.__dict__ = copy.deepcopy(self.__dict__, memo)
        return clone
