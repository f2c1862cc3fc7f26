"""Conditions frozen features before the model sees them.

A language model's sentence vectors crowd into a narrow cone: every pair of items looks alike. Spreading them is
the cheapest of the techniques known to help (WhitenRec, arXiv 2402.17152). Fitted once, on the rows that have
content; it never sees an interaction, so there is nothing here that a test split could leak into.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_llm_interest.content.features import Features

#: directions that carry less than this share of the mean variance are not blown up to unit variance
_VARIANCE_FLOOR = 1e-3


def condition(features: Features, kind: str) -> Features:
    """Features of the same shape, conditioned as ``kind`` says.

    Args:
        features: ``[N, D]``.
        kind: ``none``; ``standardize`` to zero mean and unit variance by column; ``zca`` to an identity covariance,
            rotated back so that each column stays as near as can be to what it was.
    """
    if kind == "none":
        return features
    rows = features.values[features.present].double()
    centred = rows - rows.mean(dim=0)
    if kind == "standardize":
        variance = centred.square().mean(dim=0)
        conditioned = centred * _inverse_root(variance)
    elif kind == "zca":
        variance, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
        conditioned = centred @ (directions * _inverse_root(variance)) @ directions.T
    else:
        raise ValueError(f"no conditioning is called {kind!r}")
    values = torch.zeros_like(features.values)
    values[features.present] = conditioned.float()
    return Features(values, features.present)


def _inverse_root(variance: Tensor) -> Tensor:
    """``variance ** -0.5``, with a floor; columns that do not vary at all become zero."""
    floor = variance.mean() * _VARIANCE_FLOOR
    return torch.where(variance > 0, variance.clamp(min=floor).rsqrt(), 0.0)
