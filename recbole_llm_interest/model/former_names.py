"""What checkpoints of former versions hold: parameters under other names, and a Transformer without a norm."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

#: former prefix -> current prefix
_PREFIXES = {
    "item_fusion.": "item_encoder.",
    "user_fusion.": "user_encoder.",
    "time_embeddings.": "event_encoder.times.",
    "repeat_bias.bonus": "history_bias.repeat.bias",
    "neighbour_bias.bonus": "history_bias.neighbour.bias",
}


def current_name(name: str) -> str:
    """The current name of a parameter or buffer.

    >>> current_name("item_fusion.missing"), current_name("tracker.output.weight")
    ('item_encoder.missing', 'tracker.output.weight')
    """
    return next((new + name.removeprefix(old) for old, new in _PREFIXES.items() if name.startswith(old)), name)


def former_name(name: str) -> str:
    """The first version's name of a current parameter or buffer."""
    return next((old + name.removeprefix(new) for old, new in _PREFIXES.items() if name.startswith(new)), name)


def rename_parameters(module: object, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Rename tensors of any shape, ``[...]``, in place: a pre-hook of ``load_state_dict``."""
    for name in list(state_dict):
        if name.startswith(prefix):
            state_dict[prefix + current_name(name.removeprefix(prefix))] = state_dict.pop(name)


def without_former_norm(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Leave the norm of tokens ``[B, L, H]`` out if a checkpoint has none: a pre-hook of ``load_state_dict``.

    The trackers with attention had none at first. A checkpoint of then gives the scores it gave.
    """
    if not any(name.startswith(f"{prefix}input_norm.") for name in state_dict):
        module.input_norm = nn.Identity()
