"""Which settings a model reads: RecBole takes any that it knows, and ignores those of other models silently."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

from recbole_llm_interest.settings.baselines import BASELINE_SETTINGS
from recbole_llm_interest.settings.groups import ALL_SETTINGS, ContentSettings, ModelSettings
from recbole_llm_interest.settings.models import MODELS
from recbole_llm_interest.settings.peers import PEER_SETTING, PEERS
from recbole_llm_interest.settings.reading import settings_keys
from recbole_llm_interest.settings.recbole_sources import imported_models, keys_in_code, keys_in_yaml, recbole_folder

#: what other models call a setting of LLMInterest
_SYNONYMS = {
    **{"n_heads": "num_heads", "n_layers": "num_layers", "layers": "num_layers", "dropout": "dropout_prob"},
    **{"hidden_dropout_prob": "dropout_prob", "attn_dropout_prob": "block_dropout_prob", "tau": "temperature"},
}
#: RecBole's settings for all models that the models of this package do not need, with their only value, and the reason
_UNUSED = {
    "loss_type": ("CE", "learns by cross-entropy over all items, or over those of loss_candidates"),
    "train_neg_sample_args": (None, "draws its own negatives, as many as loss_candidates says"),
}
_COUNTS = "counts, and has no loss"


def unread_settings(runs: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, str]:
    """Return the settings that have no effect on the runs that have them, with the reasons.

    Args:
        runs: for each run, its model and the settings that the user gave it.

    Example:
        >>> unread_settings([("LLMInterest", {"n_heads": 4, "epochs": 3})])
        {'n_heads': 'LLMInterest has no such setting; LLMInterest has num_heads'}
        >>> unread_settings([("LLMInterest", {"n_heads": 4}), ("SASRec", {"n_heads": 4})])
        {}
    """
    unread: dict[str, dict[str, None]] = {}  # models by key, in their order
    reasons: dict[str, str] = {}
    read: set[str] = set()
    for model, given in runs:
        for key, value in given.items():
            if key in _UNUSED and model in MODELS:
                if value != _UNUSED[key][0]:
                    reasons[key] = f"{model} {_COUNTS if model in BASELINE_SETTINGS else _UNUSED[key][1]}"
            elif _reads(model, key):
                read.add(key)
            else:
                unread.setdefault(key, {})[model] = None
    return reasons | {key: _unread(key, list(models)) for key, models in unread.items() if key not in read}


def _unread(key: str, models: list[str]) -> str:
    synonym = _SYNONYMS.get(key) if "LLMInterest" in models else None
    hint = f"; LLMInterest has {synonym}" if synonym else ""
    return f"{', '.join(models)} {'have' if len(models) > 1 else 'has'} no such setting{hint}"


def _reads(model: str, key: str) -> bool:
    """Whether a model, or what trains and evaluates all models, reads a setting."""
    if key.startswith(PEER_SETTING):
        return True  # models of RecTools are not looked into
    return key in _own_keys(model) or key in _keys_of_all() or key in _keys_of_model(model)


def _own_keys(model: str) -> set[str]:
    """The settings of this package that a model reads, and those that apply to all models."""
    groups = [group for group in ALL_SETTINGS if group not in (ContentSettings, ModelSettings)]
    keys = {field.name for group in (*groups, *BASELINE_SETTINGS.get(model, ())) for field in dataclasses.fields(group)}
    if model == "LLMInterest":
        keys |= {*settings_keys()}
    elif PEERS.get(model, False) or model in BASELINE_SETTINGS:
        keys |= {field.name for field in dataclasses.fields(ContentSettings)}
    return keys


@functools.cache
def _keys_of_all() -> frozenset[str]:
    """Keys in RecBole's files for all models and data sets, and those that its code outside of models reads."""
    folder = recbole_folder()
    files = [path for path in (folder / "properties").rglob("*.yaml") if path.parent.name != "model"]
    code = [path for path in folder.rglob("*.py") if not path.parent.name.endswith("_recommender")]
    return frozenset().union(*map(keys_in_yaml, files), *map(keys_in_code, code))


@functools.cache
def _keys_of_model(model: str) -> frozenset[str]:
    """Keys in the file of settings of a model of RecBole, and those that its code reads."""
    folder = recbole_folder()
    file = folder / "properties" / "model" / f"{model}.yaml"
    code = [path for path in (folder / "model").glob("*_recommender/*.py") if path.stem == model.lower()]
    in_code = [keys_in_code(path) for first in code for path in (first, *imported_models(first))]
    return frozenset(keys_in_yaml(file) if file.is_file() else ()).union(*in_code)
