"""Neighbours of events by content: the items at whose training events users had similar content, such as like words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from recbole_llm_interest.content.features import Content, Features
from recbole_llm_interest.content.neighbour_files import NeighbourSearch
from recbole_llm_interest.content.neighbours import BLOCK, SIMILARITY_STEPS
from recbole_llm_interest.content.transitions import FOLDS, STRENGTHS
from recbole_llm_interest.errors import SettingsError

#: items at most: a state has codes as numbers of 24 bits
MAX_ITEMS = 2**24 // STRENGTHS
#: buckets of strength between the cosines 0 and 1
_BUCKETS = 10
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
        steps = (directions(values, self.mean) @ self.items.T * SIMILARITY_STEPS).round().long()
        order = steps * num_items + torch.arange(num_items - 1, -1, -1, device=steps.device)
        best = order.topk(count, dim=1).values
        cosine = torch.div(best, num_items, rounding_mode="floor")
        item = num_items - 1 - (best - cosine * num_items)
        strength = ((1 - cosine / SIMILARITY_STEPS) * _BUCKETS).floor().clamp(0, STRENGTHS - 1).long()
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
    content: Content,
    rows: Tensor,
    items: Tensor,
    users: Tensor,
    *,
    num_items: int,
    count: int,
    cache: Path | None = None,
) -> EventNeighbours:
    """Find the items whose events had content near each of the distinct contents.

    Args:
        content: features of C distinct contents by modality, of which row 0 is none.
        rows: of the contents of training events, ``[E]``.
        items: of these events, ``[E]``.
        users: of these events, ``[E]``.
        num_items: with the padding, N.
        count: neighbours of a content by each modality; fewer if there are fewer items.
        cache: folder of files of neighbours; None to search without one.

    Raises:
        SettingsError: there are too many items for exact search.
        StorageError: the file cannot be written.
    """
    if num_items > MAX_ITEMS:
        raise SettingsError(f"event_neighbours={count}: {num_items} items are too many for it: set event_neighbours=0")
    count = min(count, num_items - 1)
    folds = users % FOLDS
    searches = {name: _Search.of_events(features, rows, items, folds, num_items) for name, features in content.items()}
    shape = (FOLDS + 1, len(next(iter(content.values())).present), len(content), count)
    features = [part for one in content.values() for part in (one.values, one.present)]
    inputs: list[Tensor | int] = [rows, items, folds, *features, _BUCKETS, int(SIMILARITY_STEPS)]
    run = partial(_find_codes, [*searches.values()], shape)
    search = NeighbourSearch("event_neighbours", shape[1], inputs, shape, limit=num_items * STRENGTHS, run=run)
    return EventNeighbours(
        search.find(cache), {name: of_modality.profiles(FOLDS) for name, of_modality in searches.items()}
    )


def _find_codes(searches: Sequence[_Search], shape: tuple[int, int, int, int]) -> Tensor:
    """Codes of the neighbours that the searches of M modalities find, ``[FOLDS + 1, C, M, K]``."""
    codes = torch.zeros(shape, dtype=torch.int32)
    steps = [(column, fold) for column in range(shape[2]) for fold in range(shape[0])]
    for column, fold in tqdm(steps, desc="Neighbours of events' content", delay=_PATIENCE, leave=False):
        searches[column].write_codes(codes[fold, :, column], fold)
    return codes


class _Search(NamedTuple):
    """The training events that have content of one modality.

    Attributes:
        features: of C distinct contents.
        mean: of the features of all events, ``[F]``.
        apart: directions of the contents from this mean, ``[C, F]``.
        rows: of the events' contents, ``[E]``.
        items: of the events, ``[E]``.
        folds: of the events' users, ``[E]``.
        num_items: with the padding.
    """

    features: Features
    mean: Tensor
    apart: Tensor
    rows: Tensor
    items: Tensor
    folds: Tensor
    num_items: int

    @classmethod
    def of_events(cls, features: Features, rows: Tensor, items: Tensor, folds: Tensor, num_items: int) -> _Search:
        has_content = features.present[rows]
        rows = rows[has_content]
        shares = torch.bincount(rows, minlength=len(features.values)).to(features.values.dtype) / max(len(rows), 1)
        mean = shares @ features.values
        apart = directions(features.values, mean)
        return cls(features, mean, apart, rows, items[has_content], folds[has_content], num_items)

    def profiles(self, fold: int) -> ItemProfiles:
        """Those of the items without the events of a fold; ``FOLDS`` for all events."""
        others = self.folds != fold
        places = torch.stack([self.items[others], self.rows[others]])
        shape = (self.num_items, len(self.apart))
        counts = torch.sparse_coo_tensor(places, torch.ones(places.shape[1]), shape, check_invariants=True).coalesce()
        return ItemProfiles.of_items(self.mean, self.apart, counts)

    def write_codes(self, codes: Tensor, fold: int) -> None:
        """Write the neighbours of the contents that users of a fold had, or of all, ``[C, K]``."""
        profiles = self.profiles(fold)
        all_rows = self.features.present.nonzero().squeeze(1)
        wanted = torch.unique(self.rows[self.folds == fold]) if fold < FOLDS else all_rows
        for block in torch.split(wanted, max(BLOCK // self.num_items, 1)):
            codes[block] = profiles.nearest(self.features.values[block], codes.shape[1]).int()


def directions(values: Tensor, mean: Tensor) -> Tensor:
    """Directions of features from their mean, ``[..., F] -> [..., F]``; zero where nothing but rounding is left."""
    apart = values - mean
    lengths = torch.linalg.vector_norm(apart, dim=-1, keepdim=True)
    is_known = lengths > _LEAST_APART * torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    return (apart / lengths.clamp(min=_TINY)).where(is_known, 0.0)
