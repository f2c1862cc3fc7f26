"""Reads YAML files that users write: settings and variants of a comparison. No tag in them runs code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from recbole_llm_interest.errors import SettingsError

#: far more than a person writes; reading as much takes a second
MAX_BYTES = 250_000
#: values in a file, where each alias counts as all values that it stands for
MAX_VALUES = 10_000


def read_yaml(path: Path, what: str) -> tuple[Any, list[str]]:
    """Read a YAML file.

    Args:
        path: the file.
        what: its name in messages, such as "config file".

    Returns:
        The file's content, and the keys of its outermost mapping as written, with duplicates.

    Raises:
        SettingsError: the file does not exist, is too large, is not valid YAML, contains itself, or has aliases that
            expand to more than ``MAX_VALUES`` values.
    """
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise SettingsError(f"{what} {path} has {size:,} bytes: at most {MAX_BYTES:,} are allowed")
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        if node is not None and _count_values(node, {}, ()) > MAX_VALUES:
            raise SettingsError(f"{what} {path} holds more than {MAX_VALUES:,} values after its aliases are expanded")
        content = yaml.safe_load(text)
    except FileNotFoundError as error:
        raise SettingsError(f"{what} {path} does not exist") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        raise SettingsError(f"{what} {path} is not readable YAML: {' '.join(str(error).split())}") from error
    keys = [str(key.value) for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
    return content, keys


def _count_values(node: yaml.Node, counts: dict[int, int], parents: tuple[int, ...]) -> int:
    """Count the values of a node, where each alias counts as all values below it.

    Args:
        node: a node of the file.
        counts: the values of each node that was counted before, by its ``id``.
        parents: the nodes around this one.
    """
    if id(node) in parents:
        raise yaml.YAMLError(f"the value in line {node.start_mark.line + 1} contains itself")
    if id(node) not in counts:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        counts[id(node)] = 1 + sum(_count_values(child, counts, (*parents, id(node))) for child in children)
    return counts[id(node)]
