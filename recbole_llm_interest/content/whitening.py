"""Conditions frozen features before the model sees them.

A language model's sentence vectors crowd into a narrow cone: every pair of items looks alike. Spreading them is
the cheapest of the techniques known to help (WhitenRec, arXiv 2402.17152). Fitted once, on the rows that have
content; it never sees an interaction, so there is nothing here that a test split could leak into.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_llm_interest.content.features import Conditioning, Features

#: directions that carry less than this share of the mean variance are not blown up to unit variance
_VARIANCE_FLOOR = 1e-3


def fit_conditioning(features: Features, kind: str, groups: int = 4, size: int = 64) -> Conditioning | None:
    """Fit on the rows that are present.

    Args:
        features: ``[N, D]``, at least one row of them present.
        kind: ``none``, which is no conditioning at all;
            ``standardize`` to zero mean and unit variance by column;
            ``zca`` to an identity covariance, rotated back so that each column stays as near as can be to what it was;
            ``group_zca``, the same within each of ``groups`` blocks of columns, which keeps what the blocks share;
            ``shrinkage``, zca of a covariance shrunk towards the identity as far as the number of rows calls for
            (Ledoit and Wolf, 2004);
            ``pca`` to the ``size`` leading principal components, with unit variance each.
        groups: blocks of columns, for ``group_zca``.
        size: components, for ``pca``.
    """
    if kind == "none":
        return None
    rows = features.values[features.present].double()
    mean = rows.mean(dim=0)
    return Conditioning(mean.float(), _weight(rows - mean, kind, groups, size).float())


def _weight(centred: Tensor, kind: str, groups: int, size: int) -> Tensor:
    width = centred.shape[1]
    if kind == "standardize":
        return torch.diag(_inverse_root(centred.square().mean(dim=0)))
    if kind == "group_zca":
        blocks = [_zca(_covariance(block)) for block in centred.tensor_split(min(groups, width), dim=1)]
        return torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    if kind == "shrinkage":
        from sklearn.covariance import ledoit_wolf

        if len(centred) == 1:  # it has no variance to shrink, and scikit-learn says so in a warning
            return centred.new_zeros(width, width)
        covariance, _ = ledoit_wolf(centred.numpy(), assume_centered=True)
        return _zca(torch.from_numpy(covariance))
    if kind == "zca":
        return _zca(_covariance(centred))
    if kind == "pca":
        variance, directions = torch.linalg.eigh(_covariance(centred))  # ascending
        leading = min(size, width)
        return (directions * _inverse_root(variance))[:, -leading:].flip(1)
    raise ValueError(f"no conditioning is called {kind!r}")


def _covariance(centred: Tensor) -> Tensor:
    return centred.T @ centred / len(centred)


def _zca(covariance: Tensor) -> Tensor:
    variance, directions = torch.linalg.eigh(covariance)
    return (directions * _inverse_root(variance)) @ directions.T


def _inverse_root(variance: Tensor) -> Tensor:
    """``variance ** -0.5``, with a floor; what varies by rounding errors only becomes zero."""
    floor = variance.mean() * _VARIANCE_FLOOR
    nothing = variance.max() * len(variance) * torch.finfo(variance.dtype).eps
    return torch.where(variance > nothing, variance.clamp(min=floor).rsqrt(), 0.0)
