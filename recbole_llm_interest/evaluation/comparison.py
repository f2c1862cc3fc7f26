"""The table that sets models side by side, on the console, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tabulate import tabulate

from recbole_llm_interest.files import write_atomically


@dataclass(frozen=True)
class RunResult:
    """What one model gave.

    Attributes:
        model: its name.
        dataset: the data set's name.
        seed: RecBole's ``seed`` setting.
        test: metric -> value on the test split.
        valid_metric: the metric that chose the best epoch.
        best_valid: its best value on the validation split; None where nothing was validated.
        epochs: epochs trained; 0 for an evaluated checkpoint.
        seconds_per_epoch: mean training time, validation not counted; None where no epoch was trained.
        parameters: trainable ones.
        test_events: how many events were ranked.
        candidates: what they were ranked among, as in "all 1682 items".
        test_digest: a hash of the events and candidates; models with the same one were asked the same questions.
        checkpoint: where the best model lies.
        log: the run's log file.
    """

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


def as_table(results: Sequence[RunResult]) -> str:
    """The table in Markdown, which reads well on a console too, with what makes the rows comparable below it."""
    metrics = list(results[0].test)
    header = ["model", *metrics, "epochs", "s/epoch", "parameters"]
    rows = [
        [
            result.model,
            *(f"{result.test[metric]:.4f}" for metric in metrics),
            result.epochs or "-",
            "-" if result.seconds_per_epoch is None else f"{result.seconds_per_epoch:.2f}",
            f"{result.parameters:,}",
        ]
        for result in results
    ]
    alignment = ("left", *["right"] * (len(header) - 1))
    table = tabulate(rows, header, tablefmt="github", disable_numparse=True, colalign=alignment)
    return f"{table}\n\n{_comparability(results)}\n"


def _comparability(results: Sequence[RunResult]) -> str:
    if len({result.test_digest for result in results}) == 1:
        first = results[0]
        validated = all(result.best_valid is not None for result in results)
        epoch = f"best epoch by validation {first.valid_metric}; " if validated else ""
        return (
            f"{first.dataset}: {first.test_events} test events, the same for every row, each ranked among "
            f"{first.candidates}; {epoch}seed {first.seed}."
        )
    tests = "; ".join(f"{result.model}: {result.test_events} among {result.candidates}" for result in results)
    return f"{results[0].dataset}: the rows are NOT tested on the same events ({tests}): do not compare them."


def write_comparison(results: Sequence[RunResult], path: Path) -> tuple[Path, Path]:
    """Write the table to ``path`` with the suffixes ``.md`` and ``.json``, and say where."""
    markdown, data = path.with_suffix(".md"), path.with_suffix(".json")
    write_atomically(markdown, lambda file: file.write(as_table(results).encode()))
    as_json = json.dumps([asdict(result) for result in results], indent=2, ensure_ascii=False)
    write_atomically(data, lambda file: file.write(f"{as_json}\n".encode()))
    return markdown, data
