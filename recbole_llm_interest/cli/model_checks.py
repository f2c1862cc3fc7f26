"""What can be wrong with the options and files of the commands that use a trained model.

As in ``early_checks``, nothing here imports RecBole or torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from recbole_llm_interest.cli.arguments import file_option
from recbole_llm_interest.cluster import check_cluster
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.checkpoints.first_bytes import check_first_bytes
from recbole_llm_interest.io.event_store import EVALUATION, EVALUATION_FILE, EVENT_LINES, STANDARD_INPUT
from recbole_llm_interest.io.opening import FileKind, is_folder, open_regular
from recbole_llm_interest.io.redis_streams import RedisAddress
from recbole_llm_interest.io.results_file import RESULTS_FILE
from recbole_llm_interest.io.table_parts import table_parts
from recbole_llm_interest.serving.api_keys import ApiKeys
from recbole_llm_interest.serving.options import is_loopback
from recbole_llm_interest.serving.stores import check_store
from recbole_llm_interest.settings import check_keys

#: options of ``recommend`` that ``--all`` excludes
_OF_ONE_USER = (
    *("user", "history", "times", "profile_text", "profile_image", "profile_audio", "state", "context", "save_state"),
    *("candidates", "pool", "exclude", "min_diversity", "forecast", "explain"),
)
#: file of the key of a service that runs
API_KEY = FileKind("API key", SettingsError, 10_000, "name a text file with the key alone")
#: file of the users of ``--all``
USER_LINES = FileKind("file of users", SettingsError, 1_000_000_000, "name a text file with one id a line")


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
        if option := next((name for name in ("output", "users", "ray") if getattr(options, name) is not None), None):
            raise SettingsError(f"command line: --{option} is for every user: give --all too")
        return
    if option := next((name for name in _OF_ONE_USER if getattr(options, name) not in (None, [], 0)), None):
        raise SettingsError(f"command line: --all and --{option} exclude each other: give one of them")
    check_cluster(options.ray)
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
    _check_least(options, batch=1, window=1, refresh_every=0)
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
    _check_least(options, workers=1, max_body=1, queue=1, cached_users=1, port=1)
    for name in ("rate", "timeout"):
        if not 0 < (value := getattr(options, name)) < float("inf"):
            raise SettingsError(f"command line: --{name}={value}: give more than 0")
    if options.recall is not None:
        _check_index(options.recall)
    check_store(options.store, options.workers)
    if options.api_keys is not None:
        ApiKeys.read(Path(options.api_keys))
    elif not is_loopback(options.host):
        raise SettingsError(
            f"command line: --host={options.host} can be reached by others: give --api_keys, or leave --host out"
        )
    if not is_folder(Path(options.checkpoint)):
        check_first_bytes(Path(options.checkpoint))


def check_tools(options: argparse.Namespace, overrides: Mapping[str, Any]) -> None:
    """Check options and packages of ``llm-interest mcp``.

    Raises:
        SettingsError: one of them is missing or wrong.
    """
    check_keys(overrides)
    if overrides:
        raise SettingsError(f"command line: {next(iter(overrides))} is a setting, and this command has none")
    missing = [name for name in ("mcp", "httpx") if find_spec(name) is None]
    if missing:
        raise SettingsError(f"tools need the package {missing[0]}: pip install 'recbole_llm_interest[mcp]'")
    if urlsplit(options.url).scheme not in ("http", "https"):
        raise SettingsError(f"command line: --url={options.url}: give the service's address, http://… or https://…")
    if options.api_key_file is not None:
        open_regular(Path(options.api_key_file), API_KEY).close()


def _check_index(recall: float) -> None:
    """Check what an approximate index needs.

    Raises:
        SettingsError: the recall is no share, or faiss is missing.
    """
    if not 0 < recall <= 1:
        raise SettingsError(f"command line: --recall={recall}: give a share of the best items, such as 0.95")
    if find_spec("faiss") is None:
        raise SettingsError("--recall needs the package faiss: pip install 'recbole_llm_interest[index]'")


def _check_least(options: argparse.Namespace, **least: int) -> None:
    """Check numbers among the options.

    Raises:
        SettingsError: one of them is too small.
    """
    for name, bound in least.items():
        if (value := getattr(options, name)) < bound:
            raise SettingsError(f"command line: --{name}={value}: give {bound} or more")
