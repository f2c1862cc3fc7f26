"""Shows the doctests of a docstring as code on the site, whatever section they are in."""

from __future__ import annotations

from typing import Any

import griffe


def fenced(text: str) -> str:
    """Put a fence around each doctest: the lines from ``>>>`` to the next empty line."""
    lines: list[str] = []
    margin: str | None = None  # of the doctest that is open
    for line in text.splitlines():
        if margin is None and line.lstrip().startswith(">>>"):
            margin = line[: len(line) - len(line.lstrip())]
            lines.append(f"{margin}```pycon")
        elif margin is not None and not line.strip():
            lines.append(f"{margin}```")
            margin = None
        lines.append(line)
    if margin is not None:
        lines.append(f"{margin}```")
    return "\n".join(lines)


class FencedDoctests(griffe.Extension):
    """Applies ``fenced`` to every docstring of a package once it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Called by griffe."""
        self._visit(pkg)

    def _visit(self, module_or_class: Any) -> None:
        if module_or_class.docstring:
            module_or_class.docstring.value = fenced(module_or_class.docstring.value)
        for member in module_or_class.members.values():
            if not member.is_alias:
                self._visit(member)
