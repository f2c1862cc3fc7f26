"""Projections: how one modality's conditioned features become as wide as all parts of a representation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from torch import Tensor, nn

from recbole_llm_interest.settings import Registry

#: principal components of the features that are quantised
_COMPONENTS = 32
#: quantisations of what the ones before them left over, and codes of each (TIGER has three of 256)
_LEVELS, _CODES = 3, 256

#: builds a projection ``[B, K] -> [B, D]`` from features that it can be fitted to, ``[N, K]``, those of the first
#: entities that have the modality, and from D; by the value of the setting ``projection``
PROJECTIONS: Registry[Callable[[Tensor, int], nn.Module]] = Registry("projection", "projection")


@PROJECTIONS.register("mlp")
def mlp(features: Tensor, output_size: int) -> nn.Module:
    """Two layers, ``[B, K] -> [B, D]``: better than one on conditioned features (WhitenRec, arXiv 2402.17152)."""
    return nn.Sequential(nn.Linear(features.shape[1], output_size), nn.GELU(), nn.Linear(output_size, output_size))


@PROJECTIONS.register("linear")
def linear(features: Tensor, output_size: int) -> nn.Module:
    """One layer, ``[B, K] -> [B, D]``."""
    return nn.Linear(features.shape[1], output_size)


@PROJECTIONS.register("semantic_ids")
class SemanticIdProjection(nn.Module):
    """An MLP of the features, and embeddings of their semantic ID, which like items share: added up.

    The semantic ID is the features' residual quantisation (TIGER, arXiv 2305.05065): the nearest of ``_CODES``
    centroids, the one nearest to what that leaves over, and so on, in the features' first principal components.
    Centroids are fitted once, by k-means, and saved with the model, so items that training never saw have a semantic
    ID as well. The embeddings of codes start at zero.

    Args:
        features: to fit the centroids to, ``[N, K]``.
        output_size: D.

    Example:
        >>> import torch
        >>> features = torch.tensor([[1.0, 0.0], [1.1, 0.0], [0.0, 5.0]]).repeat(4, 1)
        >>> projection = SemanticIdProjection(features, output_size=8)
        >>> projection(features).shape, projection.codes(features).shape  # three codes each
        (torch.Size([12, 8]), torch.Size([12, 3]))
    """

    def __init__(self, features: Tensor, output_size: int) -> None:
        super().__init__()
        self.mlp = mlp(features, output_size)
        self.code_embeddings = nn.Parameter(torch.zeros(_LEVELS, _CODES, output_size))
        mean, components, codebooks = _fit(features.double().cpu().numpy())
        self.register_buffer("mean", torch.from_numpy(mean).to(features))  # [K]
        self.register_buffer("components", torch.from_numpy(components).to(features))  # [K, R]
        self.register_buffer("codebooks", torch.from_numpy(codebooks).to(features))  # [_LEVELS, _CODES, R]

    def forward(self, features: Tensor) -> Tensor:
        """Projected features, ``[B, K] -> [B, D]``."""
        codes = self.codes(features)
        embeddings = [table[codes[:, level]] for level, table in enumerate(self.code_embeddings)]
        return self.mlp(features) + torch.stack(embeddings).sum(dim=0)

    @torch.no_grad()
    def codes(self, features: Tensor) -> Tensor:
        """Semantic IDs, ``[B, K] -> [B, _LEVELS]``, the same under autocast: live use has to read what was trained."""
        with torch.autocast(features.device.type, enabled=False):
            residual = (features - self.get_buffer("mean")) @ self.get_buffer("components")
            codes = []
            for codebook in self.get_buffer("codebooks"):
                # the nearest centroid: its distance without what is the same for all
                distance = codebook.square().sum(dim=1) - 2 * residual @ codebook.T
                codes.append(distance.argmin(dim=1))
                residual = residual - codebook[codes[-1]]
            return torch.stack(codes, dim=1)


def _fit(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean ``[K]``, components ``[K, R]`` and codebooks ``[_LEVELS, _CODES, R]`` of features ``[N, K]``."""
    size = features.shape[1]
    codebooks = np.zeros((_LEVELS, _CODES, min(size, _COMPONENTS)))
    mean, components = np.zeros(size), np.eye(size, codebooks.shape[2])
    if len(features) < 2:
        return mean, components, codebooks
    rank = min(codebooks.shape[2], len(features))
    pca = PCA(rank, svd_solver="full" if len(features) < size else "covariance_eigh", random_state=0).fit(features)
    mean, components[:, :rank] = pca.mean_, pca.components_.T
    residual = (features - mean) @ components
    for codebook in codebooks:
        distinct = len(np.unique(residual.round(6), axis=0))
        kmeans = MiniBatchKMeans(min(_CODES, distinct), batch_size=4096, n_init=1, random_state=0).fit(residual)
        # fewer centroids than codes are repeated: the first of equal ones is taken
        codebook[:] = np.resize(kmeans.cluster_centers_, codebook.shape)
        residual = residual - kmeans.cluster_centers_[kmeans.labels_]
    return mean, components, codebooks
