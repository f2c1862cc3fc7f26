"""How a setting is declared: its default, bounds and one line of meaning."""

from __future__ import annotations

from typing import Any

from pydantic import Field


def setting(default: Any, meaning: str, *, section: str | None = None, **bounds: Any) -> Any:
    """Declare a setting.

    Args:
        default: its value if the user gives none; None is ``~`` in YAML.
        meaning: one line, for the YAML file, the documentation and ``--help``.
        section: heading above this setting and the ones that follow; None continues the section.
        bounds: ``gt``, ``ge``, ``lt`` and ``le`` of a number.
    """
    extra: dict[str, Any] | None = {"section": section} if section else None
    return Field(default, description=meaning, json_schema_extra=extra, **bounds)
