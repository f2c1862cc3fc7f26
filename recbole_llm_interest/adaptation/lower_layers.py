"""States of the frozen lower layers, computed once: each training step then runs the adapted layers alone.

This is what makes adaptation affordable without a GPU (IISAN, arXiv 2404.02059).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from recbole_llm_interest.adaptation.batches import chunks
from recbole_llm_interest.content.adapters import all_blocks, upper_blocks

#: contents that are embedded at once, at most; activations of this many are in memory
CHUNK = 64


class LowerLayers:
    """Remembers the input of the first adapted layer for each content, where an encoder has one input for each.

    Args:
        encoder: with ``network``, ``embed`` and ``one_input_per_content``.
        contents: by item, as the encoder's ``load`` returned them.
        upper: number of layers that are adapted; None for all: nothing is remembered.
        max_bytes: of all states; if they need more, nothing is remembered.

    Attributes:
        bytes: of the states that are remembered.

    Raises:
        EncoderError: the encoder has fewer layers.
    """

    def __init__(self, encoder: Any, contents: Mapping[int, Any], upper: int | None, max_bytes: float) -> None:
        self.bytes = 0
        self._encoder = encoder
        self._states: dict[int, Tensor] = {}
        blocks = list(all_blocks(encoder.network).values())
        below = len(blocks) - len(upper_blocks(encoder.network, upper))
        self._skipped, self._first = blocks[:below], blocks[below]
        if self._skipped and encoder.one_input_per_content:
            self._remember(contents, max_bytes)

    @torch.no_grad()
    def _remember(self, contents: Mapping[int, Any], max_bytes: float) -> None:
        """Run the lower layers on all contents, in half precision, until ``max_bytes`` are exceeded."""
        items = by_size(contents, contents)
        with tqdm(total=len(items), desc="Frozen layers", unit="item", delay=2) as progress:
            for part in chunks(items, CHUNK):
                self._states |= zip(part.tolist(), self._inputs([contents[item] for item in part]), strict=True)
                self.bytes = sum(states.nbytes for states in self._states.values())
                if self.bytes > max_bytes:
                    self._states, self.bytes = {}, 0
                    return
                progress.update(len(part))

    def _inputs(self, contents: Sequence[Any]) -> list[Tensor]:
        """The input of the first adapted layer for each content, without padding."""
        seen: list[Tensor] = []

        def keep(module: nn.Module, positional: Any, named: Any) -> None:
            seen.append(_states_of(positional, named))
            raise _Stop

        handle = self._first.register_forward_pre_hook(keep, with_kwargs=True)
        try:
            self._encoder.embed(contents)
        except _Stop:
            pass
        finally:
            handle.remove()
        (states,) = seen
        half = states.to(torch.bfloat16)
        if not hasattr(self._encoder, "tokenize"):
            return [one.clone() for one in half]
        is_token = self._encoder.tokenize(contents)["attention_mask"].bool()
        return [one[where].clone() for one, where in zip(half, is_token, strict=True)]

    def embed(self, items: Sequence[int], contents: Mapping[int, Any]) -> Tensor:
        """The features of items, ``[B, D]``, by the adapted layers from the remembered states.

        Args:
            items: to embed.
            contents: by item.
        """
        loaded = [contents[item] for item in items]
        if not self._states:
            return self._encoder.embed(loaded)
        with self._from_states(items, loaded):
            return self._encoder.embed(loaded)

    @contextmanager
    def _from_states(self, items: Sequence[int], contents: Sequence[Any]) -> Iterator[None]:
        """Replace the input of the first adapted layer, and let the layers below pass on what they get."""

        def replace(module: nn.Module, positional: Any, named: Any) -> Any:
            remembered = self._padded(items, contents, _states_of(positional, named))
            if positional:
                return (remembered, *positional[1:]), named
            return positional, {**named, "hidden_states": remembered}

        forwards = [block.forward for block in self._skipped]
        for block in self._skipped:
            block.forward = _pass_on
        handle = self._first.register_forward_pre_hook(replace, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()
            for block, forward in zip(self._skipped, forwards, strict=True):
                block.forward = forward

    def _padded(self, items: Sequence[int], contents: Sequence[Any], like: Tensor) -> Tensor:
        """Remembered states of a batch, of the type and on the device of ``like``."""
        states = [self._states[item] for item in items]
        if not hasattr(self._encoder, "tokenize"):
            return torch.stack(states).to(like.device, like.dtype)
        padded = torch.zeros_like(like)
        is_token = self._encoder.tokenize(contents)["attention_mask"].bool()
        padded[is_token] = torch.cat(states).to(like.device, like.dtype)
        return padded


class _Stop(Exception):  # noqa: N818  (no error: it ends a forward pass whose rest is not needed)
    """Ends a forward pass at the first adapted layer."""


def _pass_on(hidden_states: Tensor, *arguments: Any, **named: Any) -> Tensor:
    """The forward of a skipped layer."""
    return hidden_states


def _states_of(positional: Any, named: Any) -> Tensor:
    states: Tensor = positional[0] if positional else named["hidden_states"]
    return states


def by_size(items: Iterable[int], contents: Mapping[int, Any]) -> NDArray[np.int64]:
    """Items in the order of their contents' sizes, because a batch is padded to the longest.

    The longest come first, so that later batches fit into the memory that earlier ones have freed.
    """
    return np.array(sorted(items, key=lambda item: len(contents[item]), reverse=True))


def embed_all(
    layers: LowerLayers, contents: Mapping[int, Any], items: NDArray[np.int64], rows: int, title: str
) -> Tensor:
    """The features of items without gradients, ``[rows, D]``; zeros for other rows.

    Args:
        layers: that embed.
        contents: by item.
        items: to embed.
        rows: number of rows.
        title: of the progress bar.

    Raises:
        ValueError: there are no items.
    """
    table: Tensor | None = None
    order = by_size(items.tolist(), contents)
    with torch.no_grad(), tqdm(total=len(order), desc=title, unit="item", delay=2, leave=False) as progress:
        for part in chunks(order, CHUNK):
            features = layers.embed(part.tolist(), contents).float()
            if table is None:
                table = features.new_zeros(rows, features.shape[1])
            table[torch.from_numpy(part)] = features
            progress.update(len(part))
    if table is None:
        raise ValueError("there is nothing to embed")
    return table
