"""What one run of one model gave, and the file that keeps it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from recbole_llm_interest.errors import DataError

#: where a table cannot be written
_OTHERWISE = "give another place by --table"


#: names that fields had in files of former versions
_FORMER_NAMES = {
    "row": "variant",
    "places": "ranks",
    "item_events": "item_counts",
    "in_effect": "effective_settings",
    "made_by": "environment_info",
}


@dataclass(frozen=True)
class RunResult:
    """What one run of one model gave.

    Attributes:
        variant: the name of its variant.
        model: the model's name.
        dataset: the data set's name.
        seed: RecBole's ``seed`` setting.
        settings: all that was set for it, beyond the defaults.
        note: what the row's author wants known, as how it was tuned.
        test: metric -> value on the test split; without those of groups that have no events.
        valid_metric: the metric that chose the best epoch.
        best_valid: its best value on the validation split; None where nothing was validated.
        epochs: epochs trained; 0 for an evaluated checkpoint.
        seconds_per_epoch: mean training time, validation not counted; None where no epoch was trained.
        parameters: trainable ones.
        test_events: how many events were ranked.
        candidates: what they were ranked among, as in "all 1682 items".
        test_digest: a hash of the events and candidates; models with the same one were asked the same questions.
        ranks: where each tested event's item was ranked, 0 for not among the first ``max(topk)``, in an order that is
            the same for every model; empty where items were ranked among sampled ones.
        item_counts: how many training events each tested event's item has, in the order of ``ranks``.
        losses: the training loss of each epoch, the mean over its batches, by its parts.
        valid_scores: epochs trained by then, and the validation score, in pairs.
        checkpoint: where the best model lies.
        log: the run's log file.
        effective_settings: for ``LLMInterest``, the plug-in's settings as they were, defaults included.
        environment_info: what made it: version, commit, torch, python, device, cores, processes.
    """

    variant: str
    model: str
    dataset: str
    seed: int
    test: dict[str, float]
    valid_metric: str
    best_valid: float | None
    epochs: int
    seconds_per_epoch: float | None
    parameters: int
    test_events: int
    candidates: str
    test_digest: str
    checkpoint: str
    log: str
    settings: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    ranks: list[int] = field(default_factory=list)
    item_counts: list[int] = field(default_factory=list)
    losses: dict[str, list[float]] = field(default_factory=dict)
    valid_scores: list[list[float]] = field(default_factory=list)
    effective_settings: dict[str, Any] = field(default_factory=dict)
    environment_info: dict[str, Any] = field(default_factory=dict)


def read_results(path: Path) -> list[RunResult]:
    """Read the runs back that ``write_comparison`` wrote as JSON.

    Raises:
        DataError: the file is not there, or is not such a file.
    """
    names = {column.name for column in fields(RunResult)}
    try:
        found: list[dict[str, Any]] = [
            {_FORMER_NAMES.get(name, name): value for name, value in run.items()}
            for run in json.loads(path.read_text(encoding="utf-8"))
        ]
        TypeAdapter(list[RunResult]).validate_python(found)
        return [RunResult(**run) for run in found]
    except FileNotFoundError as error:
        raise DataError(f"there are no results in {path}: it does not exist") from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} does not hold results of this version, a JSON list of runs with {', '.join(sorted(names))}"
        ) from error
