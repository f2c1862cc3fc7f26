"""The rows of a comparison: which model, with which settings of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.yaml_files import read_yaml


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    Attributes:
        name: what it is called.
        model: a model's name.
        settings: what it sets, beyond what all rows share.
        note: what is to be said of it below the table, as how it was tuned.
    """

    name: str
    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    note: str = ""


def read_variants(path: Path, names: Sequence[str] = ()) -> list[Variant]:
    """Read rows from a YAML file: a row's name, and below it its settings, ``model`` and ``note`` among them.

    Args:
        path: the file.
        names: rows that are wanted, in this order; all of the file if there are none. A name that the file lacks is
            a model's, as it comes.

    Raises:
        SettingsError: the file cannot be read, or is not of that form.
    """
    described, keys = read_yaml(path, "rows file")
    if not isinstance(described, dict) or not all(isinstance(row, dict | None) for row in described.values()):
        raise SettingsError(f"rows file {path} has to hold rows' names, and below each its settings as 'key: value'")
    for key in keys:
        if keys.count(key) > 1:
            raise SettingsError(f"rows file {path} names the row {key!r} twice: one of the two would be lost")
    rows = {}
    for name, given in described.items():
        if "," in str(name):  # rows are named on the command line with commas between them
            raise SettingsError(f"rows file {path}: the row {name!r} needs a name without a comma")
        settings = dict(given or {})
        model, note = settings.pop("model", name), settings.pop("note", "")
        rows[str(name)] = Variant(str(name), str(model), settings, str(note))
    return [rows.get(name, Variant(name, name)) for name in names] if names else list(rows.values())
