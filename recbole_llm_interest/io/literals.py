"""Reads the values of settings that are given as text: as literals, never as code."""

from __future__ import annotations

import ast
import contextlib
from typing import Any

import yaml


def parse_literal(text: str) -> Any:
    """Parse ``text`` as a Python literal, or as a YAML list or mapping.

    Raises:
        SyntaxError: the text is neither, such as the template ``{title}``. RecBole then keeps the string unchanged.

    Example:
        >>> parse_literal("[5, 10]"), parse_literal("[title, genres]")
        ([5, 10], ['title', 'genres'])
    """
    try:
        return ast.literal_eval(text.strip())
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        if text.strip()[:1] in ("[", "{"):  # such as [title, genres]: words without quotes
            with contextlib.suppress(yaml.YAMLError):
                value = yaml.safe_load(text)
                if not isinstance(value, dict) or any(item is not None for item in value.values()):
                    return value
        raise SyntaxError(f"not a literal: {text[:80]}") from error
