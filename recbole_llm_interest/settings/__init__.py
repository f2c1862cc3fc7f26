"""The plug-in's settings, and the registries of implementations that they choose from.

Settings are flat keys of RecBole's configuration: YAML files, ``config_dict`` and the command line set them.
``groups`` declares all of them, and ``baselines`` those of the baselines. The files of ``properties/model``,
``docs/settings.md`` and the list in ``--help`` are generated from them by ``rendering``: ``make settings`` writes the
files, and a test compares them.
"""

from pathlib import Path

from recbole_llm_interest.settings.baselines import (
    BASELINE_SETTINGS,
    RecentPopSettings,
    TransitionTextSettings,
    VSKNNSettings,
)
from recbole_llm_interest.settings.groups import (
    ALL_SETTINGS,
    AdaptationSettings,
    ContentSettings,
    DataSettings,
    EvaluationSettings,
    ModelSettings,
    TrackingSettings,
)
from recbole_llm_interest.settings.models import MODELS, check_model
from recbole_llm_interest.settings.reading import (
    baseline_keys,
    check_given_keys,
    check_keys,
    data_set_error,
    list_valued_keys,
    read_settings,
    settings_keys,
    ssl_weights,
)
from recbole_llm_interest.settings.recbole_values import check_recbole_values
from recbole_llm_interest.settings.registry import OBJECTIVE_WEIGHT, REGISTRIES, Registry
from recbole_llm_interest.settings.types import MODALITIES, Modality
from recbole_llm_interest.settings.warm_start import WarmStartSettings, check_warm_start

_PACKAGE = Path(__file__).parent.parent
#: RecBole's folder of settings files for this package: inside the package in a wheel, beside it in a checkout
PROPERTIES = next(path for path in (_PACKAGE / "properties", _PACKAGE.parent / "properties") if path.is_dir())

__all__ = [
    "ALL_SETTINGS",
    "BASELINE_SETTINGS",
    "MODALITIES",
    "MODELS",
    "OBJECTIVE_WEIGHT",
    "PROPERTIES",
    "REGISTRIES",
    "AdaptationSettings",
    "ContentSettings",
    "DataSettings",
    "EvaluationSettings",
    "Modality",
    "ModelSettings",
    "RecentPopSettings",
    "Registry",
    "TrackingSettings",
    "TransitionTextSettings",
    "VSKNNSettings",
    "WarmStartSettings",
    "baseline_keys",
    "check_given_keys",
    "check_keys",
    "check_model",
    "check_recbole_values",
    "check_warm_start",
    "data_set_error",
    "list_valued_keys",
    "read_settings",
    "settings_keys",
    "ssl_weights",
]
