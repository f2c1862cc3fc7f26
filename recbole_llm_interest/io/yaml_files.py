"""Reads YAML files that users write: settings and variants of a comparison. No tag in them runs code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.opening import FileKind, read_text

#: far more than a person writes; reading as much takes a second
MAX_BYTES = 250_000
#: values in a file, where each alias counts as all values that it stands for
MAX_VALUES = 10_000
#: an integer in a file has at most 64 bits
_INTEGERS = range(-(2**63), 2**63)


def read_yaml(path: Path, what: str) -> tuple[Any, list[str]]:
    """Read a YAML file.

    Args:
        path: the file.
        what: its name in messages, such as "config file".

    Returns:
        The file's content, and the keys of its outermost mapping as written, with duplicates.

    Raises:
        SettingsError: the file cannot be read, is too large, is not valid YAML, contains itself, or has an integer of
            more than 64 bits or aliases that expand to more than ``MAX_VALUES`` values.
    """
    kind = FileKind(what, SettingsError, MAX_BYTES, "name a YAML file of 'key: value' lines")
    text = read_text(path, kind)
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        if node is not None and _count_values(node, {}, ()) > MAX_VALUES:
            raise kind.refusal(path, f"holds more than {MAX_VALUES:,} values after its aliases are expanded")
        content = yaml.safe_load(text)
        _check_integers(content)
    except RecursionError as error:
        raise kind.refusal(path, "is not readable YAML: it is nested too deeply") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:  # TypeError: an unhashable key
        raise kind.refusal(path, f"is not readable YAML: {error}") from error
    keys = [str(key.value) for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
    return content, keys


def _check_integers(content: Any) -> None:
    """Check that no value is an integer of more than 64 bits, which no setting can be."""
    if isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            _check_integers(value)
    elif isinstance(content, int) and content not in _INTEGERS:
        raise ValueError("it has an integer of more than 64 bits")


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
