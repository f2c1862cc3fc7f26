"""What RecBole's own files say about its settings. They are read as text: importing RecBole takes seconds."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path

from recbole_llm_interest.errors import SettingsError

#: search algorithms of RecBole's ``HyperTuning``
SEARCH_ALGORITHMS = ("random", "bayes", "exhaustive")


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
    top_level_key = re.compile(r"^(\w+)\s*:", re.MULTILINE)
    key_in_code = re.compile(r"""config\[["'](\w+)["']\]""")
    in_files = [top_level_key.findall(file.read_text("utf-8")) for file in (folder / "properties").rglob("*.yaml")]
    in_code = [key_in_code.findall(file.read_text("utf-8")) for file in folder.rglob("*.py")]
    return frozenset({"config_files", "nproc", "ip", "port", "offset"}.union(*in_files, *in_code))
