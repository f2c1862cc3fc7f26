"""What RecBole's own files say about its settings. They are read as text: importing RecBole takes seconds."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path

from recbole_llm_interest.errors import SettingsError


def recbole_folder() -> Path:
    """Return the folder of the installed RecBole.

    Raises:
        SettingsError: it is not installed.
    """
    spec = importlib.util.find_spec("recbole")
    if spec is None or spec.origin is None:
        raise SettingsError("RecBole is not installed: pip install recbole==1.2.1")
    return Path(spec.origin).parent


@functools.cache
def recbole_keys() -> frozenset[str]:
    """Return RecBole's keys for all models: those in its settings files and those that its code reads."""
    folder = recbole_folder()
    in_files = map(keys_in_yaml, (folder / "properties").rglob("*.yaml"))
    in_code = map(keys_in_code, folder.rglob("*.py"))
    return frozenset({"config_files", "nproc", "ip", "port", "offset"}.union(*in_files, *in_code))


def keys_in_yaml(file: Path) -> list[str]:
    """Return the keys that a settings file of RecBole has."""
    return re.findall(r"^(\w+)\s*:", file.read_text("utf-8"), re.MULTILINE)


def keys_in_code(file: Path) -> list[str]:
    """Return the keys that a module of RecBole reads."""
    return re.findall(r"""config\[["'](\w+)["']\]""", file.read_text("utf-8"))


def imported_models(file: Path) -> list[Path]:
    """Return the files of the models of RecBole that a model's file imports."""
    imports = r"^from recbole\.model\.\w+_recommender(?:\.\w+)? import (.+)$"
    lines = re.findall(imports, file.read_text("utf-8"), re.MULTILINE)
    stems = {name.strip(" ()").lower() for line in lines for name in line.split(",")}
    return [other for other in file.parent.parent.glob("*_recommender/*.py") if other.stem in stems]
