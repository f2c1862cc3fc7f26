"""Fusions: how the projections of an entity's modalities and its ID embedding become one representation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm_interest.settings import Registry


class Fusion(nn.Module):
    """Combines M parts of width D; subclasses are registered in ``FUSIONS``.

    Args:
        modalities: number of parts M; a learned ID embedding counts as one.
        embedding_size: width D of each part.

    Attributes:
        output_size: width of the representation.

    Example:
        >>> class Mean(Fusion):
        ...     def forward(self, parts):
        ...         return parts.mean(dim=1), torch.full(parts.shape[:2], 1 / parts.shape[1])
        >>> Mean(modalities=2, embedding_size=3)(torch.ones(4, 2, 3))[0].shape
        torch.Size([4, 3])
    """

    def __init__(self, modalities: int, embedding_size: int) -> None:
        super().__init__()
        self.output_size = embedding_size

    #: whether its weights belong to one modality each, by name ``[M, ...]``, or to all: others may join then
    may_grow = False

    def forward(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Representations ``[N, output_size]`` and weights ``[N, M]`` of parts ``[N, M, D]``."""
        raise NotImplementedError

    def contributions(self, parts: Tensor) -> Tensor | None:
        """Each part's term in the representations, ``[N, M, D] -> [N, M, output_size]``; None if it is no sum."""
        return None


#: fusions by the value of the setting ``fusion``
FUSIONS: Registry[type[Fusion]] = Registry("fusion", "fusion")


class _WeightedSum(Fusion):
    """The base of fusions that are M times a weighted sum of the parts; the weights of an entity sum to one."""

    may_grow = True

    def forward(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Representations ``[N, D]`` and weights ``[N, M]`` of parts ``[N, M, D]``."""
        weights = self._weights(parts)
        return (weights[..., None] * parts).sum(dim=1) * parts.shape[1], weights

    def contributions(self, parts: Tensor) -> Tensor:
        """Each part's term in the weighted sum, ``[N, M, D] -> [N, M, D]``."""
        return self._weights(parts)[..., None] * parts * parts.shape[1]

    def _weights(self, parts: Tensor) -> Tensor:
        """``[N, M, D] -> [N, M]``."""
        raise NotImplementedError


@FUSIONS.register("gated")
class GatedFusion(_WeightedSum):
    """A weighted sum; the weights are a softmax over one learned gate a part, equal at the start.

    Example:
        >>> fusion = GatedFusion(modalities=2, embedding_size=3)
        >>> representation, weights = fusion(torch.ones(1, 2, 3))
        >>> representation.tolist(), weights.tolist()
        ([[2.0, 2.0, 2.0]], [[0.5, 0.5]])
    """

    def __init__(self, modalities: int, embedding_size: int) -> None:
        super().__init__(modalities, embedding_size)
        self.gate = nn.Parameter(torch.zeros(modalities, embedding_size))
        self.gate_bias = nn.Parameter(torch.zeros(modalities))

    def _weights(self, parts: Tensor) -> Tensor:
        return _gate_weights(parts, self.gate, self.gate_bias)


@FUSIONS.register("attention")
class AttentionFusion(_WeightedSum):
    """A weighted sum; a learned query attends to a hidden layer of each part (Yang et al., NAACL 2016).

    Example:
        >>> representation, weights = AttentionFusion(modalities=2, embedding_size=3)(torch.ones(1, 2, 3))
        >>> weights.tolist()  # equal parts have equal weights
        [[0.5, 0.5]]
    """

    def __init__(self, modalities: int, embedding_size: int) -> None:
        super().__init__(modalities, embedding_size)
        self.key = nn.Linear(embedding_size, embedding_size)
        self.query = nn.Parameter(torch.empty(embedding_size).normal_(std=embedding_size**-0.5))

    def _weights(self, parts: Tensor) -> Tensor:
        return (torch.tanh(self.key(parts)) @ self.query).softmax(dim=-1)


@FUSIONS.register("concat")
class ConcatFusion(Fusion):
    """A two-layer MLP over the concatenated parts.

    Example:
        >>> fusion = ConcatFusion(modalities=2, embedding_size=3)
        >>> fusion(torch.ones(4, 2, 3))[0].shape, fusion.contributions(torch.ones(4, 2, 3))
        (torch.Size([4, 3]), None)
    """

    def __init__(self, modalities: int, embedding_size: int) -> None:
        super().__init__(modalities, embedding_size)
        self.hidden = nn.Linear(modalities * embedding_size, embedding_size)
        self.output = nn.Linear(embedding_size, embedding_size)

    def forward(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Representations ``[N, D]`` and weights ``[N, M]``, shares of the hidden layer, of parts ``[N, M, D]``."""
        blocks = self.hidden.weight.view(-1, *parts.shape[1:])  # [D, M, D]
        share = torch.einsum("nmd,hmd->nmh", parts, blocks)
        representation = self.output(F.gelu(share.sum(dim=1) + self.hidden.bias))
        return representation, F.normalize(share.norm(dim=-1), p=1, dim=-1)


@FUSIONS.register("late")
class LateFusion(Fusion):
    """Concatenates the parts, each at unit length times the root of its weight.

    The cosine of such a representation with an interest of the same width is a weighted sum of one cosine a modality:
    the item's gate and the length of the interest in that modality's block give the weights.

    Example:
        >>> fusion = LateFusion(modalities=2, embedding_size=3)
        >>> fusion(torch.ones(4, 2, 3))[0].shape
        torch.Size([4, 6])
    """

    def __init__(self, modalities: int, embedding_size: int) -> None:
        super().__init__(modalities, embedding_size)
        self.output_size = modalities * embedding_size
        self.gate = nn.Parameter(torch.zeros(modalities, embedding_size))
        self.gate_bias = nn.Parameter(torch.zeros(modalities))

    def forward(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Representations ``[N, M * D]`` and weights ``[N, M]`` of parts ``[N, M, D]``."""
        weights = _gate_weights(parts, self.gate, self.gate_bias)
        return (weights.sqrt()[..., None] * F.normalize(parts, dim=-1)).flatten(1), weights

    def contributions(self, parts: Tensor) -> Tensor:
        """Each part's block of the representation, zero elsewhere, ``[N, M, D] -> [N, M, M * D]``."""
        count, size = parts.shape[1:]
        own_block = torch.eye(count, device=parts.device).repeat_interleave(size, dim=1)
        return own_block * self(parts)[0][:, None]


def _gate_weights(parts: Tensor, gate: Tensor, bias: Tensor) -> Tensor:
    """Softmax over one gate a part, ``[N, M, D], [M, D], [M] -> [N, M]``."""
    return ((parts * gate).sum(dim=-1) + bias).softmax(dim=-1)
