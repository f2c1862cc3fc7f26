"""The result of a run, and the JSON file of results."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter

from recbole_llm_interest.io.opening import read_json
from recbole_llm_interest.io.results_file import RESULTS_FILE

#: former names of fields of ``RunResult``, in files that earlier versions wrote
_FORMER_NAMES = {
    "row": "variant",
    "places": "ranks",
    "item_events": "item_counts",
    "in_effect": "effective_settings",
    "made_by": "environment_info",
}

#: what a table may hold where something is counted: integers of JSON have no bound
_Count = Annotated[int, Field(ge=0, lt=2**63)]


@dataclass(frozen=True)
class RunResult:
    """The result of one run: a model with settings and a seed, trained and tested.

    Attributes:
        variant: name of the variant, the row of the table.
        model: name of the model.
        dataset: name of the data set.
        seed: RecBole's setting ``seed``.
        test: test metrics by name, without those of groups that have no events.
        valid_metric: the metric that chose the best epoch.
        best_valid: its best value on the validation split; None without validation.
        epochs: number of trained epochs; 0 for an evaluated checkpoint.
        seconds_per_epoch: mean training time without validation; None without training.
        parameters: number of trainable parameters.
        test_events: number of tested events.
        candidates: the items that each event is ranked among, such as "all 1682 items".
        test_digest: hash of events and candidates; runs with the same hash were tested on the same events.
        checkpoint: file of the best model.
        log: log file of the run.
        settings: the settings that files, Python or the command line set.
        note: note of the variant.
        ranks: rank of each tested event's item, 0 for items that are not among the first ``max(topk)``, in an order
            that is the same for every model; empty if items were ranked among sampled ones.
        item_counts: number of training events of each tested event's item, in the order of ``ranks``.
        losses: training losses of each epoch by name, means over batches.
        valid_scores: pairs of the number of trained epochs and the validation score.
        effective_settings: all the plug-in's settings of an ``LLMInterest`` run, defaults included.
        environment_info: version, commit, torch, python, device, cores and processes.
        data: SHA-256 hashes of the data set's files and of the content features, before training, by name; empty where
            an earlier version ran it.
        filtered_ranks: the same as ``ranks`` with the user's seen items filtered out of the candidates: 0 for an item
            that the user has seen; empty if only one of the two was evaluated.
        protocol: facts on the split and the tested events, by name, for the lines below a table.
        data_card: size and shape of the data set by name, such as the numbers of users and items.
        cpu_seconds_per_epoch: mean CPU time of an epoch's training, all threads together; None without training.
        seconds_to_best: training time until the end of the best epoch; None without training.
        peak_memory_mb: highest memory of the process during the run, in MiB; None if unknown.
        event_users: number of each tested event's user in the order of ``ranks``, from 0 by first appearance; empty if
            each event has a user of its own.
        tracked: where each tracker shows the run, by the tracker's name.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    variant: str
    model: str
    dataset: str
    seed: int
    test: dict[str, float]
    valid_metric: Annotated[str, Field(pattern=r"^[^@]+(@\d{1,9})?$")]
    best_valid: float | None
    epochs: _Count
    seconds_per_epoch: float | None
    parameters: _Count
    test_events: _Count
    candidates: str
    test_digest: str
    checkpoint: str
    log: str
    settings: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    ranks: list[_Count] = field(default_factory=list)
    item_counts: list[_Count] = field(default_factory=list)
    losses: dict[str, Annotated[list[float], Field(min_length=1)]] = field(default_factory=dict)
    valid_scores: list[Annotated[list[int | float], Field(min_length=2, max_length=2)]] = field(default_factory=list)
    effective_settings: dict[str, Any] = field(default_factory=dict)
    environment_info: dict[str, str | int | float | None] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    filtered_ranks: list[_Count] = field(default_factory=list)
    protocol: dict[str, str | int | float | None] = field(default_factory=dict)
    data_card: dict[str, str | int | float | None] = field(default_factory=dict)
    cpu_seconds_per_epoch: float | None = None
    seconds_to_best: float | None = None
    peak_memory_mb: float | None = None
    event_users: list[_Count] = field(default_factory=list)
    tracked: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, str]:
        """Hashes of the data set's files alone, which are those of any other run on the same data."""
        return files_of(self.data)


def files_of(data: Mapping[str, str]) -> dict[str, str]:
    """Return the hashes of files among those of ``RunResult.data``: names of features have no dot."""
    return {name: digest for name, digest in data.items() if "." in name}


def changed_file(then: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """Compare the hashes of two runs' files.

    Returns:
        Name of the first file that differs or that one of the two lacks; None if they are the same, or if the files of
        one of the two are unknown.
    """
    if not then or not now:
        return None
    return next((name for name in sorted({*then, *now}) if then.get(name) != now.get(name)), None)


#: fingerprint of data that were not recorded
UNKNOWN_DATA = "unknown"


def fingerprint(data: Mapping[str, str]) -> str:
    """Return twelve digits that identify a data set's files, from the hashes of a run; ``unknown`` without any.

    Example:
        >>> fingerprint({"ml-100k.inter": "5f1d"})
        'f853afb32343'
    """
    files = "\n".join(f"{name} {digest}" for name, digest in sorted(files_of(data).items()))
    return hashlib.sha256(files.encode(errors="surrogatepass")).hexdigest()[:12] if files else UNKNOWN_DATA


def read_results(path: Path) -> list[RunResult]:
    """Read the JSON file of ``write_comparison``, of this version or an earlier one.

    Raises:
        DataError: the file does not exist or has another form.
    """
    names = {column.name for column in fields(RunResult)}
    try:
        runs: list[dict[str, Any]] = [
            {_FORMER_NAMES.get(name, name): value for name, value in run.items()}
            for run in read_json(path, RESULTS_FILE)
        ]
        return _checked_lengths(TypeAdapter(list[RunResult]).validate_python(runs))
    except (ValueError, TypeError, AttributeError) as error:
        raise RESULTS_FILE.refusal(
            path, f"does not hold results of this version, a JSON list of runs with {', '.join(sorted(names))}"
        ) from error


def _checked_lengths(results: list[RunResult]) -> list[RunResult]:
    """Check that ranks and counts are those of the tested events, of which runs with the same digest have as many."""
    events: dict[str, int] = {}
    for result in results:
        count = events.setdefault(result.test_digest, result.test_events)
        if result.test_events != count or not _lengths(result) <= {0, count}:
            raise ValueError(f"{result.variant!r}: the number of ranks is not that of the tested events")
        if {*result.event_users} != {*range(len({*result.event_users}))}:
            raise ValueError(f"{result.variant!r}: the users of the events are not numbered from 0")
    return results


def _lengths(result: RunResult) -> set[int]:
    return {len(result.ranks), len(result.filtered_ranks), len(result.item_counts), len(result.event_users)}
