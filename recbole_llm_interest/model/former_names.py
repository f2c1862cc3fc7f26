"""Names that parameters had in former versions, under which older checkpoints hold them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

#: former prefix -> prefix of today
_PREFIXES = {
    "item_fusion.": "item_encoder.",
    "user_fusion.": "user_encoder.",
    "repeat_bias.bonus": "history_bias.repeat.bias",
    "neighbour_bias.bonus": "history_bias.neighbour.bias",
}


def current_name(name: str) -> str:
    """The name of today of a parameter or buffer.

    >>> current_name("item_fusion.missing"), current_name("tracker.output.weight")
    ('item_encoder.missing', 'tracker.output.weight')
    """
    return next((now + name.removeprefix(then) for then, now in _PREFIXES.items() if name.startswith(then)), name)


def former_name(name: str) -> str:
    """The name that a parameter or buffer of today had in the first version."""
    return next((then + name.removeprefix(now) for then, now in _PREFIXES.items() if name.startswith(now)), name)


def rename_parameters(module: object, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Rename tensors of any shape, ``[...]``, in place: a pre-hook of ``load_state_dict``."""
    for name in list(state_dict):
        if name.startswith(prefix):
            state_dict[prefix + current_name(name.removeprefix(prefix))] = state_dict.pop(name)
