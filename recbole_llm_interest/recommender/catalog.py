"""The catalog of items that can be recommended: items are added and removed while it is in use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_llm_interest.content.features import Content
from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.model.scoring import ScoringRule
from recbole_llm_interest.recommender.growable_tensor import GrowableTensor
from recbole_llm_interest.recommender.inputs import Id, read_id
from recbole_llm_interest.recommender.neighbourhood import Neighbourhood

#: items of one block: scores of a block, and of few users, stay in a processor's cache
BLOCK_ITEMS = 2**16


@dataclass(frozen=True)
class Block:
    """A block of items, ready to be scored.

    Attributes:
        rows: in the catalog, ascending, ``[n]``.
        matrix: their item factors, ``[D, n]``: a processor multiplies by it at twice the speed of ``[n, D]``.

    Example:
        >>> block = Block(torch.tensor([2, 5]), torch.eye(3)[:, :2])
        >>> block.columns(torch.tensor([5, 4]))
        (tensor([1, 1]), tensor([ True, False]))
    """

    rows: Tensor
    matrix: Tensor

    def columns(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The column of each of ``rows`` in this block, and whether it is in it, ``[...] -> [...], [...]``."""
        column = torch.searchsorted(self.rows, rows.contiguous()).clamp(max=len(self.rows) - 1)
        return column, self.rows[column] == rows

    def in_parts(self, size: int) -> Iterator[Block]:
        """Blocks of ``size`` of these items each, without a copy.

        Example:
            >>> [part.rows.tolist() for part in Block(torch.tensor([2, 5, 6]), torch.eye(3)).in_parts(2)]
            [[2, 5], [6]]
        """
        for rows, matrix in zip(torch.split(self.rows, size), torch.split(self.matrix, size, dim=1), strict=True):
            yield Block(rows, matrix)


@dataclass(frozen=True)
class NewItem:
    """An item that came after the model was trained.

    Attributes:
        representation: ``I``, ``[D]``.
        content: its features as encoded, one row each.
        conditioned: the same as the model sees them, ``[F]`` by modality.
        text: what is known of it in words.
        label: the same at its shortest.
        is_apart: whether it is in a pool and nowhere else, and so is no other's neighbour.

    Example:
        >>> NewItem(torch.zeros(16), {}, {}, text="A film about tides").is_apart
        False
    """

    representation: Tensor
    content: Content
    conditioned: Mapping[str, Tensor]
    text: str = ""
    label: str = ""
    is_apart: bool = False


class Catalog:
    """Every item that can be recommended, by row; row 0 is the padding.

    Args:
        tokens: the items' names, by row.
        representations: ``[N, D]``.
        rule: the scoring rule.
        neighbourhoods: by modality, in the order of the model's; none where neighbours have no say.
        texts: what is known of items in words, by token.
        labels: the same at its shortest, as a title.
        categories: of the items that the model was trained on, such as genres, by token.

    Example:
        >>> catalog = recommender.items
        >>> "i1" in catalog, len(catalog), catalog.find(["i2"]).shape
        (True, 8, torch.Size([1]))
    """

    def __init__(
        self,
        tokens: Sequence[str],
        representations: Tensor,
        *,
        rule: ScoringRule = ScoringRule(1.0),  # noqa: B008  (immutable)
        neighbourhoods: Mapping[str, Neighbourhood] | None = None,
        texts: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        categories: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.tokens = list(tokens)
        self.tokens[0] = ""
        self.rows = {token: row for row, token in enumerate(self.tokens) if row}
        self.all_rows = dict(self.rows)  # with those that were removed
        self.texts = dict(texts or {})
        self.labels = dict(labels or {})
        self.categories = dict(categories or {})
        self.removed = torch.zeros(1, dtype=torch.long)  # with the padding
        self.added: dict[int, NewItem] = {}
        self._rule = rule
        self._representations = GrowableTensor(representations)
        self._neighbourhoods = dict(neighbourhoods or {})
        self._blocks = [
            self._rule.item_factors(part).T.contiguous() for part in torch.split(representations, BLOCK_ITEMS)
        ]

    def __len__(self) -> int:
        """How many items there are to recommend."""
        return len(self.rows)

    def __contains__(self, token: Id) -> bool:
        """Whether there is an item of this ID to recommend: ``"i1" in recommender.items``."""
        return read_id(token) in self.rows

    @property
    def representations(self) -> Tensor:
        """``I`` of every item, ``[N, D]``."""
        return self._representations.all

    def neighbours(self, rows: Tensor) -> Tensor:
        """The nearest neighbours of these rows by content, ``[...] -> [..., M, K]``; 0 for none."""
        return torch.stack([near.neighbours[rows] for near in self._neighbourhoods.values()], dim=-2).long()

    def blocks(self) -> Iterator[Block]:
        """All items, removed ones too, in blocks."""
        start = 0
        for matrix in self._blocks:
            yield Block(torch.arange(start, start + matrix.shape[1], device=matrix.device), matrix)
            start += matrix.shape[1]

    def blocks_of(self, rows: Tensor) -> Iterator[Block]:
        """The items of these rows, ``[n]``, ascending, in blocks."""
        for part in torch.split(rows, BLOCK_ITEMS):
            yield Block(part, self.factors(part).T)

    def factors(self, rows: Tensor) -> Tensor:
        """Item factors of these rows, ``[...] -> [..., D]``."""
        return self._rule.item_factors(self.representations[rows])

    def find(self, tokens: Sequence[str], removed_too: bool = False) -> Tensor:
        """The rows of items, ``[n]``; with ``removed_too``, removed ones have a row: events before may hold them.

        Raises:
            RequestError: an item is unknown; the message names the first.
        """
        rows = self.all_rows if removed_too else self.rows
        try:
            return torch.tensor([rows[token] for token in tokens], dtype=torch.long)
        except KeyError as error:
            raise RequestError(
                f"unknown item {error.args[0]!r}: it is not among the {len(self)} items; add_item adds one"
            ) from None

    def add(self, token: str, item: NewItem) -> int:
        """Add one item, and return its row.

        Raises:
            RequestError: there is an item of that name.
        """
        if token in self.rows:
            raise RequestError(f"item {token!r} is there already: remove it first")
        row = len(self.tokens)
        self.tokens.append(token)
        self.rows[token] = self.all_rows[token] = row
        self.added[row] = item
        if item.text:
            self.texts[token], self.labels[token] = item.text, item.label
        self._representations.append(item.representation[None])
        factor = self._rule.item_factors(item.representation[None]).T
        if self._blocks[-1].shape[1] < BLOCK_ITEMS:
            self._blocks[-1] = torch.cat([self._blocks[-1], factor], dim=1)
        else:
            self._blocks.append(factor.contiguous())
        for modality, near in self._neighbourhoods.items():
            near.add(item.conditioned.get(modality), item.is_apart)
        return row

    def remove(self, token: str) -> None:
        """Let an item be recommended no more. Histories that hold it still count it.

        Raises:
            RequestError: there is none of that name.
        """
        row = self.find([token])
        del self.rows[token]
        self.removed = torch.cat([self.removed, row])
