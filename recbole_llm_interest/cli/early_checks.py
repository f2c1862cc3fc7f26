"""What can be wrong with the files, settings, data and packages of a command, checked in one second or two.

Nothing here imports RecBole or torch, which take seconds. The commands check the same again where it matters.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recbole_llm_interest.cli.arguments import file_option
from recbole_llm_interest.cli.model_checks import (
    check_embedding,
    check_export,
    check_following,
    check_recommendation,
    check_report,
    check_serving,
    check_tools,
)
from recbole_llm_interest.cluster import check_cluster
from recbole_llm_interest.content.data_set_check import check_data_set
from recbole_llm_interest.content.encoder_check import check_encoders
from recbole_llm_interest.content.encoders.adapter_file import require_adapter_packages
from recbole_llm_interest.content.run_settings import RunSettings, read_given_settings, read_run_settings
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.checkpoints.first_bytes import check_first_bytes, names_a_checkpoint
from recbole_llm_interest.io.config_files import SEARCH_SPACE, models_and_dataset
from recbole_llm_interest.io.devices import check_device
from recbole_llm_interest.io.opening import read_text
from recbole_llm_interest.io.variants import Variant, read_variants
from recbole_llm_interest.settings import (
    ALL_SETTINGS,
    BASELINE_SETTINGS,
    PROPERTIES,
    WarmStartSettings,
    check_given_keys,
    check_model,
    check_recbole_values,
    check_warm_start,
    read_settings,
)
from recbole_llm_interest.settings.listed_names import check_listed_names, check_metrics
from recbole_llm_interest.settings.peers import PEERS
from recbole_llm_interest.settings.trackers import TRACKER_PACKAGES, check_tracker_packages, trackers_of

#: what a value of a wrong type raises where a number or a mapping is expected
_WRONG_TYPES = (TypeError, KeyError, AttributeError, ValueError, IndexError)


def check_comparison(options: argparse.Namespace, overrides: Mapping[str, Any]) -> None:
    """Check rows, checkpoint, settings, data and packages of ``llm-interest compare``.

    Raises:
        LLMInterestError: one of them is missing or wrong.
    """
    for option in ("table", "resume", "checkpoint"):
        if (value := getattr(options, option)) is not None:
            path = file_option(option, value)
            if option == "checkpoint":
                check_first_bytes(path)
    names = options.model.split(",") if options.model else []
    _check_runs(read_variants(Path(options.rows), names) if options.rows else names, options, overrides)


def check_search(options: argparse.Namespace, overrides: Mapping[str, Any]) -> None:
    """Check space, settings, data and packages of ``llm-interest tune``.

    Raises:
        LLMInterestError: one of them is missing or wrong.
    """
    if options.trials < 1:
        raise SettingsError(f"trials={options.trials}: a search needs at least one")
    check_cluster(options.ray, options.algorithm)
    if find_spec("hyperopt") is None:
        raise SettingsError("a search needs the package hyperopt: pip install 'recbole_llm_interest[tune]'")
    models = _check_runs([options.model] if options.model else [], options, overrides)
    if len(models) == 1:
        read_text(Path(options.space or search_space(models[0])), SEARCH_SPACE)


def search_space(model: str) -> Path:
    """Return the file of a model's search space in this package."""
    return PROPERTIES / "search" / f"{model.partition(':')[0]}.hyper"


def check_encoding(options: argparse.Namespace, overrides: Mapping[str, Any]) -> None:
    """Check settings, data, weights and packages of ``llm-interest encode``.

    Raises:
        LLMInterestError: one of them is missing or wrong.
    """
    check_cluster(options.ray)
    _check_runs(["LLMInterest"], options, overrides)


def check_adaptation(options: argparse.Namespace, overrides: Mapping[str, Any]) -> None:
    """Check settings, data, weights and packages of ``llm-interest adapt``.

    Raises:
        LLMInterestError: one of them is missing or wrong.
    """
    if options.output is not None:
        file_option("output", options.output)
    _check_runs(["LLMInterest"], options, {**overrides, "modalities": [options.modality]})
    for config in _configurations([Variant("LLMInterest", "LLMInterest")], options, overrides):
        require_adapter_packages(config["adapt_method"])


def check_erasure(options: argparse.Namespace, overrides: Mapping[str, Any]) -> None:
    """Check ids, settings and data of ``llm-interest forget``.

    Raises:
        LLMInterestError: one of them is missing or wrong.
    """
    if not options.user and not options.item:
        raise SettingsError("command line: nothing to forget: give --user or --item")
    for option in ("user", "item"):
        if "" in getattr(options, option):
            raise SettingsError(f"command line: --{option} is empty: give an id")
    for config in _configurations([Variant("LLMInterest", "LLMInterest")], options, overrides):
        check_data_set(config)


def _check_runs(given: Sequence[str | Variant], options: argparse.Namespace, overrides: Mapping[str, Any]) -> list[str]:
    """Check the models, settings, data, encoders and trackers of runs; returns the names of the models."""
    variants = [Variant(one, one) if isinstance(one, str) else one for one in given]
    if not variants:
        names, _ = models_and_dataset([], options.dataset, options.config_files, overrides)
        variants = [Variant(name, name) for name in names]
    for config in list(_configurations(variants, options, overrides)):
        with _wrong_types_named():
            check_data_set(config)
            if PEERS.get(config["model"], config["model"] == "LLMInterest"):
                check_device("encoder_device", config["encoder_device"])
                check_encoders(config)
        for name in trackers_of(config):
            check_tracker_packages(name, TRACKER_PACKAGES.get(name, ()))
    return [variant.model for variant in variants]


@contextmanager
def _wrong_types_named() -> Iterator[None]:
    """Turn what RecBole's own settings raise that have a value of another type into a one-line error."""
    try:
        yield
    except _WRONG_TYPES as error:
        raise SettingsError(f"the settings cannot be used: {type(error).__name__}: {error!s:.200}") from error


def _configurations(
    variants: Iterable[Variant], options: argparse.Namespace, overrides: Mapping[str, Any]
) -> Iterator[RunSettings]:
    """Yield the settings of each variant, after their keys and values are checked."""
    for variant in variants:
        given = {**read_given_settings(options.config_files, overrides), **variant.settings}
        check_given_keys(given)
        _, dataset = models_and_dataset([variant.model], options.dataset, options.config_files, overrides)
        check_model(variant.model)
        check_recbole_values(given)
        check_listed_names(given)
        check_metrics(given.get("metrics"))
        for group in (*ALL_SETTINGS, *BASELINE_SETTINGS.get(variant.model, ())):
            read_settings(group, given)
        _check_source(variant.model, read_settings(WarmStartSettings, given), getattr(options, "nproc", 1))
        yield read_run_settings(variant.model, dataset, options.config_files, {**overrides, **variant.settings})


def _check_source(model: str, settings: WarmStartSettings, processes: int) -> None:
    """Check what a training by so many processes starts from, if it is a file."""
    check_warm_start(model, settings, processes)
    if settings.init_from is not None and names_a_checkpoint(settings.init_from):
        check_first_bytes(Path(settings.init_from))


#: the checks by command
CHECKS = {
    "compare": check_comparison,
    "tune": check_search,
    "encode": check_encoding,
    "adapt": check_adaptation,
    "forget": check_erasure,
    "recommend": check_recommendation,
    "report": check_report,
    "export": check_export,
    "embed": check_embedding,
    "follow": check_following,
    "serve": check_serving,
    "mcp": check_tools,
}
