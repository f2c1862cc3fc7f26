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
from recbole_llm_interest.cluster import check_cluster
from recbole_llm_interest.content.data_set_check import check_data_set
from recbole_llm_interest.content.encoder_check import check_encoders
from recbole_llm_interest.content.encoders.adapter_file import require_adapter_packages
from recbole_llm_interest.content.run_settings import RunSettings, read_given_settings, read_run_settings
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.checkpoints.first_bytes import check_first_bytes, names_a_checkpoint
from recbole_llm_interest.io.config_files import SEARCH_SPACE, models_and_dataset
from recbole_llm_interest.io.devices import check_device
from recbole_llm_interest.io.event_store import EVALUATION, EVALUATION_FILE, EVENT_LINES, STANDARD_INPUT
from recbole_llm_interest.io.opening import FileKind, is_folder, open_regular, read_text
from recbole_llm_interest.io.redis_streams import RedisAddress
from recbole_llm_interest.io.results_file import RESULTS_FILE
from recbole_llm_interest.io.table_parts import table_parts
from recbole_llm_interest.io.variants import Variant, read_variants
from recbole_llm_interest.serving.api_keys import ApiKeys
from recbole_llm_interest.serving.options import is_loopback
from recbole_llm_interest.serving.stores import check_store
from recbole_llm_interest.settings import (
    ALL_SETTINGS,
    BASELINE_SETTINGS,
    PROPERTIES,
    WarmStartSettings,
    check_given_keys,
    check_keys,
    check_model,
    check_recbole_values,
    check_warm_start,
    read_settings,
)
from recbole_llm_interest.settings.listed_names import check_listed_names, check_metrics
from recbole_llm_interest.settings.peers import PEERS
from recbole_llm_interest.settings.trackers import TRACKER_PACKAGES, check_tracker_packages, trackers_of

#: options of ``recommend`` that ``--all`` excludes
_OF_ONE_USER = (
    *("user", "history", "times", "profile_text", "profile_image", "profile_audio", "state", "context", "save_state"),
    *("candidates", "pool", "exclude", "min_diversity", "forecast", "explain"),
)
#: file of the users of ``--all``
USER_LINES = FileKind("file of users", SettingsError, 1_000_000_000, "name a text file with one id a line")
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


def check_recommendation(options: argparse.Namespace, overrides: Mapping[str, Any]) -> None:
    """Check options, settings and checkpoint of ``llm-interest recommend``.

    Raises:
        LLMInterestError: one of them is missing or wrong.
    """
    check_keys(overrides)
    if options.pool and options.candidates is not None:
        raise SettingsError("command line: --pool and --candidates exclude each other: give one of them")
    if options.k < 1:
        raise SettingsError(f"command line: --k={options.k}: ask for one item or more")
    _check_all_users(options)
    if not is_folder(Path(options.checkpoint)):
        check_first_bytes(Path(options.checkpoint))


def _check_all_users(options: argparse.Namespace) -> None:
    """Check what ``--all`` needs and excludes.

    Raises:
        LLMInterestError: an option is missing or excluded, or a file cannot be used.
    """
    if not options.all:
        if option := next((name for name in ("output", "users") if getattr(options, name) is not None), None):
            raise SettingsError(f"command line: --{option} is for every user: give --all too")
        return
    if option := next((name for name in _OF_ONE_USER if getattr(options, name) not in (None, [], 0)), None):
        raise SettingsError(f"command line: --all and --{option} exclude each other: give one of them")
    _check_files_of_all_users(options)


def _check_files_of_all_users(options: argparse.Namespace) -> None:
    """Check the files that ``--all`` writes and reads.

    Raises:
        LLMInterestError: there is no output or it cannot be a table, the users' file is missing, or the model is in a
            folder, which has no users.
    """
    if options.output is None:
        raise SettingsError("command line: --all needs a file: give --output=FILE")
    table_parts(file_option("output", options.output))
    if options.users is not None:
        open_regular(file_option("users", options.users), USER_LINES).close()
    if is_folder(Path(options.checkpoint)):
        raise SettingsError(
            f"command line: --checkpoint={options.checkpoint} is a folder, which has no users: --all needs a checkpoint"
        )


def check_report(options: argparse.Namespace, overrides: Mapping[str, Any]) -> None:
    """Check options, settings, packages, table and checkpoint of ``llm-interest report``.

    Raises:
        SettingsError: there is neither a checkpoint nor a table, an option needs a model, there are too few events, or
            a package is missing.
        LLMInterestError: the table or the checkpoint is missing or is another file.
    """
    check_keys(overrides)
    if not options.checkpoint and not options.table:
        raise SettingsError("command line: there is nothing to show: give --checkpoint, --table, or both")
    if options.map == "umap" and find_spec("umap") is None:
        raise SettingsError(
            "command line: --map=umap needs a package that is not installed: pip install umap-learn, or leave out --map"
        )
    if options.events < 2:
        raise SettingsError(f"command line: --events={options.events}: give 2 or more, for a change to be visible")
    if options.table:
        open_regular(Path(options.table), RESULTS_FILE).close()
    if options.stream:
        open_regular(Path(options.stream) / EVALUATION, EVALUATION_FILE).close()
    if options.checkpoint:
        check_first_bytes(Path(options.checkpoint))
    elif of_model := [*filter(vars(options).get, ("user", "titles", "category")), *overrides]:
        raise SettingsError(f"command line: --{of_model[0]} needs a model: give --checkpoint too")


def check_export(options: argparse.Namespace, overrides: Mapping[str, Any]) -> None:
    """Check options, settings, packages and checkpoint of ``llm-interest export``.

    Raises:
        LLMInterestError: one of them is missing or wrong.
    """
    check_keys(overrides)
    if not options.output:
        raise SettingsError("command line: --output is empty: give a folder")
    if Path(options.output).exists() and not is_folder(Path(options.output)):
        raise SettingsError(f"command line: --output={options.output} is a file: give a folder")
    check_first_bytes(Path(options.checkpoint))


def check_embedding(options: argparse.Namespace, overrides: Mapping[str, Any]) -> None:
    """Check options, settings and checkpoint of ``llm-interest embed``.

    Raises:
        LLMInterestError: one of them is missing or wrong.
    """
    if options.steps < 0:
        raise SettingsError(f"command line: --steps={options.steps}: give 0 or more")
    check_export(options, overrides)


def check_following(options: argparse.Namespace, overrides: Mapping[str, Any]) -> None:
    """Check options, settings, events and checkpoint of ``llm-interest follow``.

    Raises:
        LLMInterestError: one of them is missing or wrong.
    """
    check_export(options, overrides)
    for name, least in (("batch", 1), ("window", 1), ("refresh_every", 0)):
        if (value := getattr(options, name)) < least:
            raise SettingsError(f"command line: --{name}={value}: give {least} or more")
    if not 0 <= options.evaluate <= 1:
        raise SettingsError(f"command line: --evaluate={options.evaluate}: give a share of the events, from 0 to 1")
    if options.key == "":
        raise SettingsError("command line: --key is empty: give a column")
    if RedisAddress.is_one(options.events):
        RedisAddress.parse(options.events)
    elif options.events != STANDARD_INPUT:
        open_regular(Path(options.events), EVENT_LINES).close()
    elif options.until_end:
        raise SettingsError("command line: --until_end is for a file or Redis: standard input ends by itself")


def check_serving(options: argparse.Namespace, overrides: Mapping[str, Any]) -> None:
    """Check options, settings, packages, keys and checkpoint of ``llm-interest serve``.

    Raises:
        LLMInterestError: one of them is missing or wrong.
    """
    check_keys(overrides)
    missing = [
        name for name in ("fastapi", "uvicorn", "prometheus_client", "fastapi_offline") if find_spec(name) is None
    ]
    if missing:
        raise SettingsError(f"a service needs the package {missing[0]}: pip install 'recbole_llm_interest[serve]'")
    for name, least in (("workers", 1), ("max_body", 1), ("queue", 1), ("cached_users", 1), ("port", 1)):
        if (value := getattr(options, name)) < least:
            raise SettingsError(f"command line: --{name}={value}: give {least} or more")
    for name in ("rate", "timeout"):
        if not 0 < (value := getattr(options, name)) < float("inf"):
            raise SettingsError(f"command line: --{name}={value}: give more than 0")
    check_store(options.store, options.workers)
    if options.api_keys is not None:
        ApiKeys.read(Path(options.api_keys))
    elif not is_loopback(options.host):
        raise SettingsError(
            f"command line: --host={options.host} can be reached by others: give --api_keys, or leave --host out"
        )
    if not is_folder(Path(options.checkpoint)):
        check_first_bytes(Path(options.checkpoint))


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
}
