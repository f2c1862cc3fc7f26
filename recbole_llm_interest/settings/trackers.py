"""The experiment trackers of a run, and the packages that they need."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.settings.groups import TrackingSettings
from recbole_llm_interest.settings.reading import read_settings

#: packages without which a tracker cannot write, beyond those that come with this package. They are here, and not in
#: the classes of the trackers, because the command line checks them before it imports RecBole and torch
TRACKER_PACKAGES: dict[str, tuple[str, ...]] = {"wandb": ("wandb",), "mlflow": ("mlflow",)}


def trackers_of(config: Mapping[str, Any] | Any) -> list[str]:
    """Return the names of the trackers that a run is to be written to.

    Args:
        config: as for ``read_settings``.

    Raises:
        SettingsError: one is unknown.

    Example:
        >>> trackers_of({"tracking": ["mlflow"], "log_wandb": True})
        ['mlflow', 'wandb']
    """
    names = read_settings(TrackingSettings, config).tracking
    return list(dict.fromkeys([*names, *(["wandb"] if config["log_wandb"] else [])]))


def check_tracker_packages(name: str, packages: tuple[str, ...]) -> None:
    """Check that the packages of a tracker are installed.

    Args:
        name: of the tracker.
        packages: that it needs.

    Raises:
        SettingsError: one is missing.
    """
    for package in packages:
        if find_spec(package) is None:
            raise SettingsError(
                f"tracking by {name} needs the package {package}: pip install 'recbole_llm_interest[tracking]'"
            )
