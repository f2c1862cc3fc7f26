"""Registries: implementations by name, which settings choose from."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar, cast

from recbole_llm_interest.errors import SettingsError

_T = TypeVar("_T")

#: the setting that weights an SSL objective, by the objective's name
OBJECTIVE_WEIGHT = "ssl_{name}_weight"


class Registry(Generic[_T]):
    """Implementations of one kind, by name: the values of a setting.

    An implementation is a class in its own file and one line that registers it. Code outside the package registers its
    own in the same way:

    >>> from recbole_llm_interest.settings import Registry
    >>> greetings = Registry("greeting")
    >>> greetings.register("short")(lambda: "hi")()
    'hi'
    >>> greetings["short"](), list(greetings)
    ('hi', ['short'])

    Args:
        kind: what an implementation is, for error messages: ``fusion``.
        setting: the setting whose values are the names, which ``read_settings`` then checks; ``OBJECTIVE_WEIGHT`` for
            implementations that have a weight each; None if no setting names them.
    """

    def __init__(self, kind: str, setting: str | None = None) -> None:
        self.kind = kind
        self._members: dict[str, _T | str] = {}
        if setting is not None:
            REGISTRIES[setting] = self

    def register(self, name: str) -> Callable[[_T], _T]:
        """Return a decorator that registers a class or function under ``name``."""

        def decorator(member: _T) -> _T:
            self._members[name] = member
            return member

        return decorator

    def register_lazy(self, name: str, target: str) -> None:
        """Register ``module:attribute``, which is imported on first use because its libraries may be missing."""
        self._members[name] = target

    def __getitem__(self, name: str) -> _T:
        """Return the implementation of this name.

        Raises:
            SettingsError: the name is not registered. The message lists the registered names.
        """
        if name not in self._members:
            raise SettingsError(f"unknown {self.kind} {name!r}: {known_names(name, self)}")
        member = self._members[name]
        if isinstance(member, str):
            module, _, attribute = member.partition(":")
            member = self._members[name] = getattr(importlib.import_module(module), attribute)
        return cast(_T, member)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)


#: registries by the setting whose values are their names
REGISTRIES: dict[str, Registry[Any]] = {}


def known_names(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message about an unknown name.

    Args:
        name: the unknown name.
        known: all known names; the nearest one is suggested.
    """
    known = list(known)
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    suggestion = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"{suggestion}known are {', '.join(known) or 'none'}"
