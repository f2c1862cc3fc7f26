"""Reads the YAML files that people write: settings, and rows of comparisons. No tag in them runs code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from recbole_llm_interest.errors import SettingsError

#: nobody writes larger ones; reading takes a second for so many
MAX_BYTES = 250_000
#: values that a file may hold, each alias counted with all that it stands for
MAX_VALUES = 10_000


def read_yaml(path: Path, what: str) -> tuple[Any, list[str]]:
    """What a YAML file holds, and the keys of its topmost mapping as they are written, doubled ones included.

    Args:
        path: the file.
        what: what it is called in messages, as in "config file".

    Raises:
        SettingsError: it is not there, is too large, cannot be read, names itself, or the same so often that written
            out it would fill the memory.
    """
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise SettingsError(f"{what} {path} is of {size:,} bytes: it may have {MAX_BYTES:,}")
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        if node is not None and _values(node, {}, ()) > MAX_VALUES:
            raise SettingsError(f"{what} {path} holds more than {MAX_VALUES:,} values, with what its aliases stand for")
        described = yaml.safe_load(text)
    except FileNotFoundError as error:
        raise SettingsError(f"{what} {path} does not exist") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        raise SettingsError(f"{what} {path} is not readable YAML: {' '.join(str(error).split())}") from error
    keys = [str(key.value) for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
    return described, keys


def _values(node: yaml.Node, known: dict[int, int], above: tuple[int, ...]) -> int:
    """How many values a node stands for, each alias counted with all below it."""
    if id(node) in above:
        raise yaml.YAMLError(f"what stands in line {node.start_mark.line + 1} is part of itself")
    if id(node) not in known:
        within = (*above, id(node))
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        known[id(node)] = 1 + sum(_values(part, known, within) for part in parts)
    return known[id(node)]
