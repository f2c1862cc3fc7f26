"""Bounds the memory that building a model from files of unknown origin can take."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from recbole_llm_interest.settings import ModelSettings

#: torch's functions that make a tensor of a given size
_FACTORIES = {"empty", "zeros", "ones", "full", "rand", "randn", "new_empty", "new_zeros", "new_ones", "new_full"}

#: numbers that building a model may make in memory for each number in its files, and those that no file has
_ALLOWANCE, _FIXED_NUMBERS = 8, 10**7


class Allowance(TorchFunctionMode):
    """Inside it, torch makes tensors of so many numbers in total; the next one is refused before it takes memory.

    A few bytes of settings and weights can describe terabytes: one vector's width, and one name for each of a million
    items, ask for a table of both.

    Args:
        numbers: that the tensors may have in total.

    Raises:
        ValueError: inside it, a tensor exceeds what is left.

    Example:
        >>> with Allowance(100):
        ...     torch.nn.Linear(10**6, 10**6)
        Traceback (most recent call last):
        ValueError: they describe a model that is larger than its files
    """

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self._left = numbers

    @classmethod
    def of_files(cls, numbers: int) -> Allowance:
        """Return what a model may take whose files have so many numbers."""
        return cls(_ALLOWANCE * numbers + _FIXED_NUMBERS)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count what a function of torch would make, and call it."""
        options = dict(kwargs or {})
        if getattr(func, "__name__", "") in _FACTORIES:
            self._left -= math.prod(_size(args, options))
        if self._left < 0:
            raise ValueError("they describe a model that is larger than its files")
        return func(*args, **options)


def _size(args: Sequence[Any], options: Mapping[str, Any]) -> list[int]:
    """The size that a factory is given: as ``size``, as a sequence, or as one argument for each dimension."""
    given = [options["size"]] if "size" in options else [value for value in args if not isinstance(value, Tensor)]
    if given and isinstance(given[0], Sequence):
        return list(given[0])
    return [value for value in given if isinstance(value, int)]


def check_sizes(settings: ModelSettings, max_length: int, weights: Mapping[str, Tensor]) -> None:
    """Refuse sizes that the weights do not have, before anything of that size is made.

    Args:
        settings: of the model.
        max_length: ``MAX_ITEM_LIST_LENGTH``.
        weights: of the model, by their present names; each ``[...]``.

    Raises:
        ValueError: a size is not that of the weights.
        KeyError: weights are missing.
        IndexError: weights have too few dimensions.
    """
    layers = {match[1] for name in weights if (match := re.match(r"tracker\.encoder\.(?:\w+\.)?layers\.(\d+)\.", name))}
    sizes = {
        "embedding_size": (settings.embedding_size, weights["item_encoder.missing"].shape[1]),
        "hidden_size": (settings.hidden_size, weights["tracker.output.weight"].shape[1]),
        "num_layers": (settings.num_layers, len(layers)),
    }
    if "tracker.encoder.position.weight" in weights:
        sizes["max_length"] = (max_length, len(weights["tracker.encoder.position.weight"]) - 1)
    for name, (stated, actual) in sizes.items():
        if stated != actual:
            raise ValueError(f"{name} is {stated} in the settings and {actual} in the weights")
