"""``llm-interest encode`` and ``python -m recbole_llm_interest.content.encode``: encode a data set's content.

Several processes or GPUs share the work with torch's launcher: ``torchrun --nproc-per-node=4 -m
recbole_llm_interest.cli.encode …``. Several machines share it with ``--ray``.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from tabulate import tabulate

from recbole_llm_interest.cli.arguments import parse_arguments
from recbole_llm_interest.cli.common import exit_code, show, show_json
from recbole_llm_interest.cli.parsers import encode_parser
from recbole_llm_interest.cluster import Executor, open_executor
from recbole_llm_interest.content.catalogue import Catalogue
from recbole_llm_interest.content.collection import collect_features
from recbole_llm_interest.content.data_set_check import check_data_set
from recbole_llm_interest.content.dataset_files import catalogue_from_config, feature_cache, record_features
from recbole_llm_interest.content.encoding_job import Partition
from recbole_llm_interest.content.event_catalogue import read_event_content
from recbole_llm_interest.content.event_fields import EVENT_KINDS
from recbole_llm_interest.content.interaction_files import read_interaction_tokens
from recbole_llm_interest.content.run_settings import RunSettings, read_run_settings
from recbole_llm_interest.content.summary import EncodingSummary
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.io.config_files import models_and_dataset, named_models, read_config_files
from recbole_llm_interest.io.devices import show_gpus
from recbole_llm_interest.io.escaping import markdown_cell, one_line
from recbole_llm_interest.io.files import shared_data_set_lock
from recbole_llm_interest.settings import ALL_SETTINGS, ContentSettings, check_given_keys, read_settings

_logger = logging.getLogger(__name__)
_SHOWN_REJECTIONS = 20
#: the model whose content is encoded
_MODEL = "LLMInterest"
#: set by torch's launcher
_LAUNCHED = "TORCHELASTIC_RUN_ID"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the words after the command's name; None for those of the process.

    Returns:
        The exit code: 0, 2 for an error of the user, 130 when interrupted, 143 when terminated.
    """
    parser = encode_parser()

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        config = _configure(options.dataset, options.config_files, overrides)
        _warn_of_other_models(options.config_files)
        with shared_data_set_lock(Path(config["data_path"])), _executor(options.ray, config) as executor:
            summaries = encode_dataset(config, executor)
        if summaries is None:
            return  # another process of torchrun prints the summary
        settings = read_settings(ContentSettings, config)
        summaries = [summary.pseudonymized(settings) for summary in summaries]
        cache = feature_cache(config, settings)
        _print_summary(summaries, config["dataset"], cache)
        if options.json:
            record = {"dataset": config["dataset"], "features": str(cache), "summaries": [*map(asdict, summaries)]}
            show_json(record)
        problems = [problem for summary in summaries if summary.is_incomplete for problem in summary.problems()]
        if problems and settings.strict_content:
            raise DataError("; ".join(problems))

    return exit_code(job, kept="encoded features are kept; run the same command to continue")


def _configure(dataset: str | None, files: Sequence[str], overrides: dict[str, Any]) -> RunSettings:
    """Return the settings of a data set, checked, without RecBole: a job that has nothing to encode is quick."""
    models, dataset = models_and_dataset([_MODEL], dataset, files, overrides)
    check_given_keys([*read_config_files(files), *overrides])
    config = read_run_settings(models[0], dataset, files, overrides)
    for settings in ALL_SETTINGS:
        read_settings(settings, config)
    check_data_set(config)
    show_gpus(config["gpu_id"])
    return config


def _warn_of_other_models(files: Sequence[str]) -> None:
    named = named_models(read_config_files(files))
    if named and _MODEL not in named:
        names = ",".join(named)
        _logger.warning("model=%s in the config files has no effect: LLMInterest's content is encoded", names)


def _executor(address: str | None, config: RunSettings) -> AbstractContextManager[Executor]:
    """Open what encodes batches: this process, or the cluster at an address.

    Raises:
        SettingsError: there is no cluster at the address, or other settings say where to encode, too.
    """
    device = read_settings(ContentSettings, config).encoder_device
    if address is not None and _LAUNCHED in os.environ:
        raise SettingsError(f"--ray={address} under torchrun: leave out one of them")
    if address is not None and device not in (None, "cpu", "cuda"):
        raise SettingsError(f"encoder_device={device}: with --ray give cpu, cuda, or nothing: Ray chooses the GPU")
    return open_executor(address, with_gpus=device != "cpu")


def encode_dataset(config: RunSettings, executor: Executor | None = None) -> list[EncodingSummary] | None:
    """Encode the content of all items and users of the catalogue and of the interactions, and that of events.

    With ``torchrun``, each process encodes its partition.

    Args:
        config: of the data set.
        executor: encodes batches; None for this process.

    Returns:
        A summary of each kind and modality, of all processes together. None in processes of ``torchrun`` other than
        the first.

    Raises:
        LLMInterestError: content or an encoder is not available, or features cannot be written.
    """
    settings = read_settings(ContentSettings, config)
    cache = feature_cache(config, settings)
    record_features(config, settings)
    partition = None
    if _LAUNCHED in os.environ:
        partition, settings = _join_processes(settings)
    summaries = []
    for catalogue, tokens in _catalogues(config, settings):
        collected = collect_features(catalogue, tokens, cache, settings, partition, executor)
        summaries += [features.summary for features in collected]
    return summaries if partition is None else _gather(summaries, partition)


def _catalogues(config: RunSettings, settings: ContentSettings) -> Iterator[tuple[Catalogue, list[str]]]:
    """The content of items, of users, and of events where they have any, each with the tokens that are encoded."""
    for kind in ("item", "user"):
        catalogue = catalogue_from_config(config, kind, settings)
        yield catalogue, list(dict.fromkeys([*catalogue.tokens, *read_interaction_tokens(config, kind)]))
    for event_kind in EVENT_KINDS:
        events = read_event_content(config, settings, event_kind)
        if events.rows:
            yield events.contents, events.contents.tokens


def _join_processes(settings: ContentSettings) -> tuple[Partition, ContentSettings]:
    """Return the part of this process of torch's launcher, and the settings with its device."""
    import torch.distributed  # here because importing torch takes seconds

    # The timeout is long because processes wait for the slowest one at the end.
    torch.distributed.init_process_group("gloo", timeout=timedelta(days=30))
    if settings.encoder_device is None and torch.cuda.is_available():
        settings = replace(settings, encoder_device=f"cuda:{os.environ['LOCAL_RANK']}")
    return Partition(torch.distributed.get_rank(), torch.distributed.get_world_size()), settings


def _gather(summaries: list[EncodingSummary], partition: Partition) -> list[EncodingSummary] | None:
    """Return the summaries of all processes in the first one, None in the others."""
    import torch.distributed  # here because importing torch takes seconds

    gathered: list[list[EncodingSummary]] | None = None
    if partition.rank == 0:
        gathered = [[] for _ in range(partition.world_size)]
    torch.distributed.gather_object(summaries, gathered)
    torch.distributed.destroy_process_group()
    return None if gathered is None else [_merge(parts) for parts in zip(*gathered, strict=True)]


def _merge(parts: Sequence[EncodingSummary]) -> EncodingSummary:
    """Return one summary of the parts that several processes encoded."""
    refused = {token: reason for part in parts for token, reason in part.refused.items()}
    encoded = sum(part.encoded for part in parts)
    # Not the sum of cached: a process may have read features that another one had just written.
    cached = parts[0].tokens - encoded - len(parts[0].missing) - len(refused)
    seconds = max(part.seconds for part in parts)
    return replace(parts[0], encoded=encoded, cached=cached, refused=refused, seconds=seconds)


def _print_summary(summaries: Sequence[EncodingSummary], dataset: str, cache: Path) -> None:
    rows = [
        {
            "content": f"{summary.kind}s' {summary.modality}",
            "source": markdown_cell(summary.source),
            "encoded": summary.encoded,
            "cached": summary.cached,
            "missing": len(summary.missing),
            "rejected": len(summary.refused),
            "seconds": f"{summary.seconds:.1f}",
            "per second": f"{summary.encoded / summary.seconds:.0f}" if summary.encoded else "",
        }
        for summary in summaries
    ]
    show(tabulate(rows, headers="keys", tablefmt="github"))
    for summary in summaries:
        for token, reason in list(summary.refused.items())[:_SHOWN_REJECTIONS]:
            show(f"rejected: {summary.kind} {token!r}: {summary.modality} {one_line(reason)}")
        if len(summary.refused) > _SHOWN_REJECTIONS:
            show(f"… and {len(summary.refused) - _SHOWN_REJECTIONS} more; --json lists all")
    show(f"\nfeatures of {one_line(dataset)}: {one_line(cache)}")


if __name__ == "__main__":
    sys.exit(main())
