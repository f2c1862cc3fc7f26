"""What trackers are told of a run: its name, settings, data and environment, and its result."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole.config import Config

from recbole_llm_interest.evaluation.results import RunResult
from recbole_llm_interest.settings.portable import portable_settings
from recbole_llm_interest.training.run_metadata import json_values
from recbole_llm_interest.training.tracking import TrackedRun

#: what a configuration has beside settings: hashes, which the data's fingerprint stands for, and the seed's own fact
_NO_SETTINGS = {"data_digests", "item_digest", "seed"}


def comparison_name(dataset: str, table: Path | None = None) -> str:
    """Return the name by which trackers group runs: that of the table, or of the data set and the time.

    Args:
        dataset: name of the data set.
        table: file of the results; None without one.

    Example:
        >>> comparison_name("ml-100k", Path("runs/ablation.json"))
        'ablation'
    """
    return table.stem if table else f"{dataset}-{time.strftime('%b-%d-%Y_%H-%M-%S')}"


def describe_run(
    title: str,
    config: Config,
    comparison: str | None,
    environment: Mapping[str, Any],
    card: Mapping[str, Any],
    log: Path,
    epochs: int,
) -> TrackedRun:
    """Return the description of a run.

    Args:
        title: name of the variant.
        config: RecBole's configuration of the run.
        comparison: name of the comparison; None for one of this run alone.
        environment: of ``environment_info``.
        card: of ``data_card``, with the fingerprint of the data.
        log: the log file.
        epochs: number of epochs that are trained already.
    """
    names = {"variant": title, **{key: config[key] for key in ("model", "seed", "dataset")}}
    facts = {f"environment/{name}": value for name, value in environment.items() if name != "commit"}
    facts |= {f"data/{name}": value for name, value in card.items()}
    settings = portable_settings(config.final_config_dict)
    return TrackedRun(
        name=f"{title}, seed {config['seed']}",
        comparison=comparison or comparison_name(config["dataset"]),
        project=str(config["wandb_project"] or "recbole"),
        facts=json_values({**names, "commit": environment["commit"], **facts}),
        settings=json_values({key: value for key, value in settings.items() if key not in _NO_SETTINGS}),
        log=log,
        epochs=epochs,
    )


def summary_of(result: RunResult) -> dict[str, float | None]:
    """Return the values of a whole run: the test result, and what it took.

    Args:
        result: of the run.
    """
    return {
        **{f"test/{metric}": value for metric, value in result.test.items()},
        "test/events": result.test_events,
        f"best/{result.valid_metric.lower()}": result.best_valid,
        "cost/epochs": result.epochs,
        "cost/seconds per epoch": result.seconds_per_epoch,
        "cost/CPU seconds per epoch": result.cpu_seconds_per_epoch,
        "cost/seconds to best": result.seconds_to_best,
        "cost/peak MiB": result.peak_memory_mb,
        "cost/parameters": result.parameters,
    }
