"""Conditions frozen features before the model reads them: whitening, scaling or principal components.

Sentence vectors of a language model occupy a narrow cone, so any two items have a high cosine similarity. Whitening
them is a cheap and effective remedy (WhitenRec, arXiv 2402.17152). A conditioning is fitted once, on the rows that have
content. It reads no interactions, so nothing can leak from the test split; that of events' content is fitted on the
content of training events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_llm_interest.content.features import Conditioning, Features
from recbole_llm_interest.settings import Registry

#: directions whose variance is below this fraction of the mean variance are not scaled up to unit variance
_VARIANCE_FLOOR = 1e-3


@dataclass(frozen=True)
class ConditioningOptions:
    """Settings of the conditionings.

    Attributes:
        groups: blocks of columns, for ``group_zca``.
        size: components, for ``pca``.
    """

    groups: int = 4
    size: int = 64


#: fits the weight ``[D, K]`` on centered rows with content, ``[P, D]`` in float64
WeightFit = Callable[[Tensor, ConditioningOptions], Tensor]
#: None leaves features unchanged
CONDITIONINGS: Registry[WeightFit | None] = Registry("feature conditioning", "feature_conditioning")
CONDITIONINGS.register("none")(None)


def fit_conditioning(features: Features, kind: str, groups: int = 4, size: int = 64) -> Conditioning | None:
    """Fit a conditioning on the rows that have content.

    Args:
        features: values of shape ``[N, D]``; at least one row has content.
        kind: a name in ``CONDITIONINGS``.
        groups: blocks of columns, for ``group_zca``.
        size: components, for ``pca``.

    Returns:
        The fitted conditioning; None for ``none``.

    Raises:
        SettingsError: ``kind`` is not registered.
    """
    fit_weight = CONDITIONINGS[kind]
    if fit_weight is None:
        return None
    rows = features.values[features.present].double()
    mean = rows.mean(dim=0)
    weight = fit_weight(rows - mean, ConditioningOptions(groups, size))
    return Conditioning(mean.float(), weight.float())


@CONDITIONINGS.register("standardize")
def standardize(centered: Tensor, options: ConditioningOptions) -> Tensor:
    """Scale each column to unit variance.

    Returns the weight, ``[D, D]``, of rows ``[P, D]``.
    """
    return torch.diag(_inverse_root(centered.square().mean(dim=0)))


@CONDITIONINGS.register("pca")
def pca(centered: Tensor, options: ConditioningOptions) -> Tensor:
    """Project onto the leading principal components, each with unit variance.

    Returns the weight, ``[D, K]``, of rows ``[P, D]``.
    """
    variance, directions = torch.linalg.eigh(_covariance(centered))  # ascending
    leading = min(options.size, centered.shape[1])
    return (directions * _inverse_root(variance))[:, -leading:].flip(1)


@CONDITIONINGS.register("zca")
def zca(centered: Tensor, options: ConditioningOptions) -> Tensor:
    """Whiten to an identity covariance by the symmetric transform, which keeps each column close to its original.

    Returns the weight, ``[D, D]``, of rows ``[P, D]``.
    """
    return _symmetric_whitening(_covariance(centered))


@CONDITIONINGS.register("group_zca")
def group_zca(centered: Tensor, options: ConditioningOptions) -> Tensor:
    """Apply ZCA within each block of columns, so that correlations between blocks are kept.

    Returns the weight, ``[D, D]``, of rows ``[P, D]``.
    """
    groups = min(options.groups, centered.shape[1])
    blocks = [_symmetric_whitening(_covariance(block)) for block in centered.tensor_split(groups, dim=1)]
    return torch.block_diag(*blocks)  # type: ignore[no-untyped-call]


@CONDITIONINGS.register("shrinkage")
def shrinkage(centered: Tensor, options: ConditioningOptions) -> Tensor:
    """Apply ZCA with a covariance shrunk towards a multiple of the identity (Ledoit and Wolf, 2004).

    Returns the weight, ``[D, D]``, of rows ``[P, D]``.
    """
    from sklearn.covariance import ledoit_wolf

    if len(centered) == 1:  # has no variance to shrink; scikit-learn would log a warning
        return centered.new_zeros(centered.shape[1], centered.shape[1])
    covariance, _ = ledoit_wolf(centered.numpy(), assume_centered=True)
    return _symmetric_whitening(torch.from_numpy(covariance))


def _covariance(centered: Tensor) -> Tensor:
    """Return the covariance, ``[D, D]``, of centered rows, ``[P, D]``."""
    return centered.T @ centered / len(centered)


def _symmetric_whitening(covariance: Tensor) -> Tensor:
    """Return ``covariance ** -0.5``, ``[D, D]``, with a floor on the variances."""
    variance, directions = torch.linalg.eigh(covariance)
    return (directions * _inverse_root(variance)) @ directions.T


def _inverse_root(variance: Tensor) -> Tensor:
    """Return ``variance ** -0.5``, ``[D]``, with a floor; variances within rounding error of zero give zero."""
    floor = variance.mean() * _VARIANCE_FLOOR
    rounding_error = variance.max() * len(variance) * torch.finfo(variance.dtype).eps
    return torch.where(variance > rounding_error, variance.clamp(min=floor).rsqrt(), 0.0)
