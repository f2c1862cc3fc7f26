"""Variants: the rows of a comparison, each a model with its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.yaml_files import read_yaml


@dataclass(frozen=True)
class Variant:
    """A model with its settings: one row of a comparison.

    >>> Variant("without IDs", "LLMInterest", {"use_item_id": False}).note
    ''

    Attributes:
        name: name of the row.
        model: name of the model.
        settings: settings of this variant beyond those that all variants share.
        note: remark for below the table, such as how the settings were tuned.
    """

    name: str
    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    note: str = ""


def read_variants(path: Path, names: Sequence[str] = ()) -> list[Variant]:
    """Read variants from a YAML file: names, and below each its settings, ``model`` and ``note``.

    Args:
        path: the file.
        names: names of the variants to return, in this order; all variants of the file if empty. A name that the file
            lacks is the name of a model with the shared settings.

    Raises:
        SettingsError: the file cannot be read or has another form.
    """
    described, keys = read_yaml(path, "rows file")
    if not isinstance(described, dict) or not all(isinstance(row, dict | None) for row in described.values()):
        raise SettingsError(f"rows file {path} has to hold rows' names, and below each its settings as 'key: value'")
    for key in keys:
        if keys.count(key) > 1:
            raise SettingsError(f"rows file {path} names the row {key!r} twice: one of the two would be lost")
    variants = {str(name): _variant(path, str(name), dict(given or {})) for name, given in described.items()}
    return [variants.get(name, Variant(name, name)) for name in names or variants]


def _variant(path: Path, name: str, settings: dict[str, Any]) -> Variant:
    if "," in name:  # --model separates names by commas
        raise SettingsError(f"rows file {path}: the row {name!r} needs a name without a comma")
    model, note = settings.pop("model", name), settings.pop("note", "")
    return Variant(name, str(model), settings, str(note))
