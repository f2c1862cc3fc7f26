"""Why an item scores as it does for a user: what of the item, and what of the user, makes the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_llm_interest.model.fusion import AttentionFusion, ContentFusion, GatedSum, LateFusion


@dataclass(frozen=True)
class Part:
    """A part of a score.

    Attributes:
        name: what it comes from.
        points: how much of the score that is, or what the score loses without it; may be negative.
        share: of all parts' points, regardless of their sign; the shares of one list sum to one, unless all points are 0.
        time: of an event; None where there is none.
    """

    name: str
    points: float
    share: float
    time: float | None = None


@dataclass(frozen=True)
class Explanation:
    """What makes an item's score.

    Attributes:
        item: its token.
        score: what ``recommend`` gives it.
        of_item: by modality, ID, and what the history adds for having held it or what is like it.
        is_exact: whether those points sum to the score, as they do for every fusion but ``concat``; there, they are
            what the score loses when the modality is taken away.
        of_user: the profile and the events, the most influential first, by what the score loses without each. Events
            long ago are one part.
    """

    item: str
    score: float
    of_item: list[Part]
    is_exact: bool
    of_user: list[Part]


def shares(parts: Sequence[tuple[str, float, float | None]]) -> list[Part]:
    """Names, points and times as parts with their shares, the largest first; where all are 0, so are the shares."""
    total = sum(abs(points) for _, points, _ in parts) or 1.0
    found = [Part(name, points, abs(points) / total, time) for name, points, time in parts]
    return sorted(found, key=lambda part: -part.share)


def modality_vectors(fusion: ContentFusion, parts: Tensor) -> Tensor | None:
    """Each modality's part of a representation, ``[M, D]``, of which it is the sum; None where it is no sum.

    Args:
        fusion: what made the representation.
        parts: each modality's part before the fusion, ``[1, M, D]``.
    """
    combine = fusion.combine
    _, weights = combine(parts)
    count, size = parts.shape[1:]
    if isinstance(combine, (GatedSum, AttentionFusion)):
        return (weights[..., None] * parts)[0] * count
    if isinstance(combine, LateFusion):
        representation, _ = combine(parts)
        return torch.block_diag(*representation[0].view(count, 1, size).unbind())  # type: ignore[no-untyped-call]
    return None


def without(histories: Sequence[Tensor], start: int) -> tuple[Tensor, ...]:
    """Each of several rows, ``[n]``, without one of the events from ``start`` on: ``[n - start, n - 1]`` each."""
    length = len(histories[0])
    left_out = torch.arange(start, length)
    kept = torch.arange(length - 1).expand(len(left_out), -1)
    source = kept + (kept >= left_out[:, None])
    return tuple(history[source] for history in histories)
