"""The names of implementations, as ``make settings`` has listed them: the registries that have them need torch."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.settings import ALL_SETTINGS, PROPERTIES
from recbole_llm_interest.settings.registry import known_names

#: the names of RecBole's metrics and this package's, one a line
METRICS_FILE = "metrics.txt"


def check_listed_names(given: Mapping[str, Any]) -> None:
    """Check the settings that name an implementation, on a command line, where nobody registers others.

    Args:
        given: the settings of a user, by key.

    Raises:
        SettingsError: a name is unknown. The message suggests the nearest known name.

    Example:
        >>> check_listed_names({"tracker": "gruu"})
        Traceback (most recent call last):
        ...
        recbole_llm_interest.errors.SettingsError: tracker='gruu' is not a value of this setting: did you mean ...
    """
    for key, names in _listed_names().items():
        value = given.get(key)
        for name in value if isinstance(value, list | tuple) else [value]:
            if isinstance(name, str) and name not in names:
                raise SettingsError(f"{key}={name!r} is not a value of this setting: {known_names(name, names)}")


def check_metrics(metrics: Any, names: Iterable[str] | None = None) -> None:
    """Check that each metric is known; RecBole takes the names in any case.

    Args:
        metrics: value of RecBole's setting ``metrics``: a name or several. Other values are not looked at.
        names: the known names; None for those in ``properties/metrics.txt``.

    Raises:
        SettingsError: a name is unknown. The message suggests the nearest known name.

    Example:
        >>> check_metrics(["NDCG", "Recal"])
        Traceback (most recent call last):
        ...
        recbole_llm_interest.errors.SettingsError: unknown metric 'Recal': did you mean 'Recall'? known are ...
    """
    names = set((PROPERTIES / METRICS_FILE).read_text("utf-8").split() if names is None else names)
    lower_case = {name.lower() for name in names}
    shown = sorted(name for name in names if name[0].isupper())  # the others are of groups of events, such as ndcgFew
    for name in [metrics] if isinstance(metrics, str) else metrics if isinstance(metrics, list | tuple) else []:
        if isinstance(name, str) and name.lower() not in lower_case:
            raise SettingsError(f"unknown metric {name!r}: {known_names(name, shown)}")


@functools.cache
def _listed_names() -> dict[str, list[str]]:
    """The names by setting, for each setting that chooses from a registry."""
    fields = [field for group in ALL_SETTINGS for field in dataclasses.fields(group)]
    keys = {field.name for field in fields if "RegisteredName" in str(field.type)}
    text = (PROPERTIES / "model" / "LLMInterest.yaml").read_text("utf-8")
    listed = re.findall(r"^(\w+):.* Range in (\[.*\])\.$", text, re.MULTILINE)
    return {key: ast.literal_eval(names) for key, names in listed if key in keys}
