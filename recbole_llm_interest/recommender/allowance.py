"""Limits the memory that building a model from untrusted files can allocate."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from recbole_llm_interest.settings import ModelSettings

#: torch functions that allocate a tensor of a given size
_FACTORIES = {"empty", "zeros", "ones", "full", "rand", "randn", "new_empty", "new_zeros", "new_ones", "new_full"}

#: numbers that building a model may allocate for each number in its files, and in addition
_ALLOWANCE, _FIXED_NUMBERS = 8, 10**7


class Allowance(TorchFunctionMode):
    """Context that limits the total size of the tensors that torch allocates, and raises before it is exceeded.

    A few bytes of settings and weights can describe terabytes, such as a table of a million item names times the width
    of one vector.

    Args:
        numbers: maximum number of elements of all tensors.

    Raises:
        ValueError: a tensor inside the context exceeds the limit.

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
        """Return the limit for a model whose files have this many numbers."""
        return cls(_ALLOWANCE * numbers + _FIXED_NUMBERS)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count the elements that a torch function allocates, and call it."""
        options = dict(kwargs or {})
        if getattr(func, "__name__", "") in _FACTORIES:
            self._left -= math.prod(_size(args, options))
        if self._left < 0:
            raise ValueError("they describe a model that is larger than its files")
        return func(*args, **options)


def _size(args: Sequence[Any], options: Mapping[str, Any]) -> list[int]:
    """Return the size argument of a factory: ``size``, a sequence, or one argument for each dimension."""
    given = [options["size"]] if "size" in options else [value for value in args if not isinstance(value, Tensor)]
    if given and isinstance(given[0], Sequence):
        return list(given[0])
    return [value for value in given if isinstance(value, int)]


def check_sizes(settings: ModelSettings, max_length: int, weights: Mapping[str, Tensor]) -> None:
    """Check that sizes in the settings match the weights, before tensors of these sizes are allocated.

    Args:
        settings: of the model.
        max_length: ``MAX_ITEM_LIST_LENGTH``.
        weights: of the model, by their current names; each ``[...]``.

    Raises:
        ValueError: a size differs from the weights.
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
