"""Neighbours of events by content: the items at whose training events users had similar content, such as like words."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from recbole_llm_interest.content.features import Content
from recbole_llm_interest.content.transitions import FOLDS, STRENGTHS
from recbole_llm_interest.errors import SettingsError

#: items at most: a state has codes as numbers of 24 bits
MAX_ITEMS = 2**24 // STRENGTHS
#: cosines in memory at once
_BLOCK = 2**24
#: steps between the cosines 0 and 1, so that rounding errors decide no rank; and buckets of strength between them
_COSINE_STEPS, _BUCKETS = 1e5, 10
#: distance from the mean, relative to the length of features, below which it is rounding; and the shortest length
_LEAST_APART, _TINY = 1e-4, 1e-12
#: seconds after which a progress bar is shown
_PATIENCE = 5.0


class ItemProfiles(NamedTuple):
    """What the content at items' events was like: the mean of its directions.

    Attributes:
        mean: of the features of all events, from which directions are taken, ``[F]``.
        items: of each item, at unit length, ``[N, F]``; zero for an item none of whose events had content.

    Example:
        >>> profiles = ItemProfiles(torch.zeros(2), torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        >>> profiles.nearest(torch.tensor([[3.0, 0.0]]), count=2).tolist()  # item 1, in the bucket of cosines near 1
        [[8, 0]]
    """

    mean: Tensor
    items: Tensor

    @classmethod
    def of_items(cls, mean: Tensor, directions: Tensor, counts: Tensor) -> ItemProfiles:
        """The profiles of N items.

        Args:
            mean: of the features, ``[F]``.
            directions: of distinct contents, ``[C, F]``.
            counts: how many events of an item had each content, sparse, ``[N, C]``.
        """
        return cls(mean, F.normalize(torch.sparse.mm(counts, directions), dim=-1))

    def nearest(self, values: Tensor, count: int) -> Tensor:
        """Codes of the nearest items to features, ``[B, F] -> [B, count]``; 0 where no more are near.

        Of items that are equally near, which those with equal profiles are, the first ones count.
        """
        num_items = len(self.items)
        steps = (directions(values, self.mean) @ self.items.T * _COSINE_STEPS).round().long()
        order = steps * num_items + torch.arange(num_items - 1, -1, -1, device=steps.device)
        best = order.topk(count, dim=1).values
        cosine = torch.div(best, num_items, rounding_mode="floor")
        item = num_items - 1 - (best - cosine * num_items)
        strength = ((1 - cosine / _COSINE_STEPS) * _BUCKETS).floor().clamp(0, STRENGTHS - 1).long()
        return (item * STRENGTHS + strength).where(cosine > 0, 0)


class EventNeighbours(NamedTuple):
    """Neighbours of distinct contents by each modality, the nearest first, found over several groups of users.

    Table ``f`` of the first ``FOLDS`` is found without the events of users of fold ``f``, and has those contents alone
    that users of this fold had; the last one is found over all users. In training, a history is given the table without
    its own user: otherwise the content of the event that is to be predicted would be part of its item's profile.

    Attributes:
        codes: ``[FOLDS + 1, C, M, K]``, int32: the row of an item times ``STRENGTHS``, plus the bucket of its
            similarity, of which 0 is the highest; 0 for none.
        profiles: of the items by modality, over all users; contents that come later are compared with them.

    Example:
        >>> from recbole_llm_interest.content.features import Features
        >>> texts = Features(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([False, True, True]))
        >>> rows, items, users = torch.tensor([1, 2]), torch.tensor([5, 6]), torch.tensor([1, 2])
        >>> found = find_event_neighbours({"text": texts}, rows, items, users, num_items=7, count=1)
        >>> (found.codes[-1] // STRENGTHS).flatten().tolist()
        [0, 5, 6]
    """

    codes: Tensor
    profiles: dict[str, ItemProfiles]

    @classmethod
    def of_profiles(cls, profiles: dict[str, ItemProfiles], count: int) -> EventNeighbours:
        """Profiles alone, for contents that come: the table ``[1, 1, M, count]`` has no content."""
        return cls(torch.zeros(1, 1, len(profiles), count, dtype=torch.int32), profiles)


def find_event_neighbours(
    content: Content, rows: Tensor, items: Tensor, users: Tensor, *, num_items: int, count: int
) -> EventNeighbours:
    """Find the items whose events had content near each of the distinct contents.

    Args:
        content: features of C distinct contents by modality, of which row 0 is none.
        rows: of the contents of training events, ``[E]``.
        items: of these events, ``[E]``.
        users: of these events, ``[E]``.
        num_items: with the padding, N.
        count: neighbours of a content by each modality; fewer if there are fewer items.

    Raises:
        SettingsError: there are too many items for exact search.
    """
    if num_items > MAX_ITEMS:
        raise SettingsError(f"event_neighbours={count}: {num_items} items are too many for it: set event_neighbours=0")
    count = min(count, num_items - 1)
    size = len(next(iter(content.values())).present)
    codes = torch.zeros(FOLDS + 1, size, len(content), count, dtype=torch.int32)
    profiles: dict[str, ItemProfiles] = {}
    total = len(content) * (FOLDS + 1) * size
    with tqdm(total=total, desc="Neighbours of events' content", delay=_PATIENCE, leave=False) as progress:
        for column, (name, features) in enumerate(content.items()):
            has_content = features.present[rows]
            events, of_items, fold = rows[has_content], items[has_content], users[has_content] % FOLDS
            mean = _mean(features.values, events)
            of_contents = directions(features.values, mean)
            for number in range(FOLDS + 1):
                others = fold != number
                counts = _counts(of_items[others], events[others], (num_items, size))
                profile = ItemProfiles.of_items(mean, of_contents, counts)
                wanted = torch.unique(events[~others]) if number < FOLDS else features.present.nonzero().squeeze(1)
                for block in torch.split(wanted, max(_BLOCK // num_items, 1)):
                    codes[number, block, column] = profile.nearest(features.values[block], count).int()
                progress.update(size)
            profiles[name] = profile  # over all users
    return EventNeighbours(codes, profiles)


def directions(values: Tensor, mean: Tensor) -> Tensor:
    """Directions of features from their mean, ``[..., F] -> [..., F]``; zero where nothing but rounding is left."""
    apart = values - mean
    lengths = torch.linalg.vector_norm(apart, dim=-1, keepdim=True)
    is_known = lengths > _LEAST_APART * torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    return (apart / lengths.clamp(min=_TINY)).where(is_known, 0.0)


def _mean(values: Tensor, rows: Tensor) -> Tensor:
    """The mean of the features ``[C, F]`` at events, ``[E] -> [F]``."""
    shares = torch.bincount(rows, minlength=len(values)).to(values.dtype) / max(len(rows), 1)
    return shares @ values


def _counts(items: Tensor, contents: Tensor, shape: tuple[int, int]) -> Tensor:
    """How many events ``[E]`` of an item had each content, sparse, ``[N, C]``."""
    return torch.sparse_coo_tensor(torch.stack([items, contents]), torch.ones(len(items)), shape).coalesce()
