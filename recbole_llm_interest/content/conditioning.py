"""Conditions frozen features before the model sees them.

A language model's sentence vectors crowd into a narrow cone: every pair of items looks alike. Spreading them is
the cheapest of the techniques known to help (WhitenRec, arXiv 2402.17152). Fitted once, on the rows that have
content; it never sees an interaction, so there is nothing here that a test split could leak into.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_llm_interest.content.features import Features

#: directions that carry less than this share of the mean variance are not blown up to unit variance
_VARIANCE_FLOOR = 1e-3


@dataclass(frozen=True)
class Conditioning:
    """A fitted conditioning, ``(x - mean) @ weight``: what is encoded later is conditioned as the table was.

    Attributes:
        mean: ``[D]``.
        weight: ``[D, K]``.
    """

    mean: Tensor
    weight: Tensor

    def apply(self, features: Features) -> Features:
        """Conditioned features, ``[N, K]``; missing rows stay zero."""
        values = torch.zeros(len(features.present), self.weight.shape[1])
        rows = features.values[features.present].double()
        values[features.present] = ((rows - self.mean) @ self.weight).float()
        return Features(values, features.present)


def fit_conditioning(features: Features, kind: str, groups: int = 4, size: int = 64) -> Conditioning:
    """Fit on the rows that are present.

    Args:
        features: ``[N, D]``, at least one row of them present.
        kind: ``none``;
            ``standardize`` to zero mean and unit variance by column;
            ``zca`` to an identity covariance, rotated back so that each column stays as near as can be to what it was;
            ``group_zca``, the same within each of ``groups`` blocks of columns, which keeps what the blocks share;
            ``shrinkage``, zca of a covariance shrunk towards the identity as far as the number of rows calls for
            (Ledoit and Wolf, 2004);
            ``pca`` to the ``size`` leading principal components, with unit variance each.
        groups: blocks of columns, for ``group_zca``.
        size: components, for ``pca``.
    """
    rows = features.values[features.present].double()
    width = rows.shape[1]
    if kind == "none":
        return Conditioning(rows.new_zeros(width), torch.eye(width, dtype=rows.dtype))
    mean = rows.mean(dim=0)
    centred = rows - mean
    if kind == "standardize":
        return Conditioning(mean, torch.diag(_inverse_root(centred.square().mean(dim=0))))
    if kind == "group_zca":
        blocks = [_zca(_covariance(block)) for block in centred.tensor_split(min(groups, width), dim=1)]
        return Conditioning(mean, torch.block_diag(*blocks))  # type: ignore[no-untyped-call]
    if kind == "shrinkage":
        from sklearn.covariance import ledoit_wolf

        if len(rows) == 1:  # it has no variance to shrink, and scikit-learn says so in a warning
            return Conditioning(mean, torch.zeros(width, width, dtype=rows.dtype))
        covariance, _ = ledoit_wolf(centred.numpy(), assume_centered=True)
        return Conditioning(mean, _zca(torch.from_numpy(covariance)))
    if kind == "zca":
        return Conditioning(mean, _zca(_covariance(centred)))
    if kind == "pca":
        variance, directions = torch.linalg.eigh(_covariance(centred))  # ascending
        leading = min(size, width)
        return Conditioning(mean, (directions * _inverse_root(variance))[:, -leading:].flip(1))
    raise ValueError(f"no conditioning is called {kind!r}")


def _covariance(centred: Tensor) -> Tensor:
    return centred.T @ centred / len(centred)


def _zca(covariance: Tensor) -> Tensor:
    variance, directions = torch.linalg.eigh(covariance)
    return (directions * _inverse_root(variance)) @ directions.T


def _inverse_root(variance: Tensor) -> Tensor:
    """``variance ** -0.5``, with a floor; columns that do not vary at all become zero."""
    floor = variance.mean() * _VARIANCE_FLOOR
    return torch.where(variance > 0, variance.clamp(min=floor).rsqrt(), 0.0)
