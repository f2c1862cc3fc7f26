"""Names for where an interest lies: groups of like items, called by the words that are typical of them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.cluster.vq import kmeans2
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from torch import Tensor

#: groups at most, and items from which they are found
_GROUPS = 20
_SAMPLE = 5000
_STARTS = 20
_WORDS = 3
#: a word says something of a group if it is that much more common there
_LIFT = 2.0
#: and if this share of the group's texts has it
_COMMON = 0.08
_TYPICAL = 3


@dataclass(frozen=True)
class Interest:
    """A group of items, and how likely the next event is one of them.

    Attributes:
        name: the words that are typical of the group's texts; its most typical items where there are none.
        weight: the probability, by the softmax over all items' scores, that the next item is of this group.
        items: the group's most typical items.
    """

    name: str
    weight: float
    items: tuple[str, ...]


class InterestMap:
    """Groups of items whose representations are alike (spherical k-means), with names.

    The groups are found once, from the items that there are then; an item that comes later belongs to the nearest.

    Attributes:
        names: of the groups.
        typical: rows of the items nearest to each group's centre.

    Args:
        representations: of all items, ``[N, D]``; row 0 is nobody.
        tokens: their names, by row.
        texts: what is known of them in words, by token.
        labels: the same at its shortest.
    """

    def __init__(
        self, representations: Tensor, tokens: Sequence[str], texts: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        factors = F.normalize(representations[1:].float(), dim=-1).cpu()
        count = max(min(_GROUPS, round(len(factors) ** 0.5)), 1)
        chosen = torch.randperm(len(factors), generator=torch.Generator().manual_seed(0))[:_SAMPLE]
        self._centres = _centres(factors[chosen], count)
        self._group = torch.cat([torch.zeros(1, dtype=torch.long), self._nearest(factors)])
        self.typical = self._typical(factors)
        self.names = self._names(tokens, texts, labels)

    def group(self, representations: Tensor) -> Tensor:
        """Which group each item is of, ``[N]``, given ``I`` of all, also of those that came later, ``[N, D]``."""
        later = representations[len(self._group) :]
        if len(later):
            nearest = self._nearest(F.normalize(later.float(), dim=-1).cpu())
            self._group = torch.cat([self._group, nearest])
        return self._group

    def _nearest(self, factors: Tensor) -> Tensor:
        return (factors @ self._centres.T).argmax(dim=1)

    def _typical(self, factors: Tensor) -> list[list[int]]:
        typical = []
        for group, centre in enumerate(self._centres):
            rows = (self._group[1:] == group).nonzero().squeeze(1)
            best = (factors[rows] @ centre).topk(min(_TYPICAL, len(rows))).indices
            typical.append((rows[best] + 1).tolist())
        return typical

    def _names(self, tokens: Sequence[str], texts: Mapping[str, str], labels: Mapping[str, str]) -> list[str]:
        words_of_groups = [Counter[str]() for _ in self._centres]
        sizes = Counter(self._group[1:].tolist())
        for token, group in zip(tokens[1:], self._group[1:].tolist(), strict=False):
            words_of_groups[group].update(set(re.findall(r"[^\W\d_]{3,}", texts.get(token, "").lower())))
        everywhere = sum(words_of_groups, Counter[str]())
        names: list[str] = []
        for group, words in enumerate(words_of_groups):
            # what the group's texts say and others don't: each word's part of the divergence between the two
            telling = {}
            for word, count in words.items():
                share = count / sizes[group]
                lift = share * (len(tokens) - 1) / everywhere[word]
                if share >= _COMMON and lift >= _LIFT and word not in ENGLISH_STOP_WORDS:
                    telling[word] = share * math.log(lift)
            name = ", ".join(sorted(telling, key=lambda word: (-telling[word], word))[:_WORDS])
            items = ", ".join(labels.get(tokens[row], tokens[row]) for row in self.typical[group])
            names.append(f"{name} ({items})" if name in names else name or items or "nothing")
        return names


def _centres(factors: Tensor, count: int) -> Tensor:
    """Centres of groups, ``[count, D]``: the best of a few starts, of which any may end with two groups in one."""
    values = factors.double().numpy()
    starts = [torch.from_numpy(kmeans2(values, count, minit="++", seed=start)[0]).float() for start in range(_STARTS)]
    unit = [F.normalize(centres, dim=-1) for centres in starts]
    return max(unit, key=lambda centres: float((factors @ centres.T).amax(dim=1).sum()))
