"""``compare``: what ``run_recbole.py`` does, in Python."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.evaluation.comparison import summarize
from recbole_llm_interest.evaluation.results import RunResult, read_results
from recbole_llm_interest.evaluation.table import as_table, table_files, table_path, write_comparison
from recbole_llm_interest.io.files import exclusive_lock
from recbole_llm_interest.io.manifest import record_made_from, source_of
from recbole_llm_interest.io.variants import Variant
from recbole_llm_interest.training.comparison import run


class DataSet(Protocol):
    """A data set by its name and folder, such as ``from_pandas`` returns.

    Attributes:
        dataset: its name.
        data_path: the folder that has its folder.
    """

    dataset: str
    data_path: Path


@dataclass
class ResultTable:
    """Results of runs, and the files that they are written to after each run.

    Attributes:
        path: the JSON file; None for one that is named after the first checkpoint.
        results: the results, from the first one that is written: then those that the file held are included. They keep
            their order, whatever is run again: the first row is the reference of the tests.
        files: the files of the table.
    """

    path: Path | None = None
    results: list[RunResult] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    _by_run: dict[tuple[str, int], RunResult] = field(default_factory=dict, init=False)

    def read(self) -> list[RunResult]:
        """Read the results that the file holds.

        Raises:
            DataError: the file is damaged.
        """
        known = read_results(self.path) if self.path and self.path.exists() else []
        self._by_run = {(one.variant, one.seed): one for one in known}
        return known

    def write(self, result: RunResult) -> None:
        """Add a result, or replace that of the same row and seed, and write the files.

        Raises:
            StorageError: a file cannot be written.
        """
        self._by_run[result.variant, result.seed] = result
        self.results = list(self._by_run.values())
        path = self.path or self._path_beside_checkpoint()
        record_made_from(source_of(Path(result.checkpoint), result.dataset), "table", table_files(path))
        self.files = write_comparison(self.results, path)

    def _path_beside_checkpoint(self) -> Path:
        first = self.results[0]
        started = Path(first.checkpoint).stem.partition("-")[2] or time.strftime("%b-%d-%Y_%H-%M-%S")
        return Path(first.checkpoint).parent / f"{first.dataset}-{started}"


@dataclass(frozen=True, repr=False)
class Comparison:
    """Runs of several models under one protocol. ``print`` shows them as a table.

    Attributes:
        results: the runs.
        files: the table as JSON, Markdown and LaTeX; none without ``table``.

    Example:
        >>> Comparison([])
        Comparison()
    """

    results: list[RunResult]
    files: tuple[Path, ...] = ()

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each model, with the mean of each metric over seeds."""
        summaries = summarize(self.results)
        means = {
            summary.name: {metric: statistics.mean(summary.values(metric)) for metric in summary.runs[0].test}
            for summary in summaries
        }
        return pd.DataFrame.from_dict(means, orient="index").rename_axis("model")

    def checkpoint(self, model: str, seed: int | None = None) -> str:
        """The checkpoint of a model, which ``Recommender.load`` takes.

        Args:
            model: its name in the table.
            seed: of the run; None for the first one.

        Raises:
            DataError: there is no such run.
        """
        for result in self.results:
            if result.variant == model and seed in (None, result.seed):
                return result.checkpoint
        known = ", ".join(f"{result.variant} of seed {result.seed}" for result in self.results)
        raise DataError(f"there is no run of {model}{'' if seed is None else f' of seed {seed}'}: there are {known}")

    def __repr__(self) -> str:
        names = dict.fromkeys(result.variant for result in self.results)
        return f"Comparison({', '.join(names)})"

    def __str__(self) -> str:
        return as_table(self.results)

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        return str(self.frame.to_html(float_format="{:.4f}".format))


def compare(
    data: str | DataSet,
    models: Sequence[str | Variant] = ("LLMInterest",),
    *,
    seeds: int = 1,
    table: str | Path | None = None,
    config_files: Sequence[str] = (),
    **settings: Any,
) -> Comparison:
    """Train models on a data set under one protocol, test them, and compare them.

    Args:
        data: name of a data set, or what ``from_pandas`` returned.
        models: names of models, RecBole's or this package's; or variants with settings of their own.
        seeds: runs of each model; ``seed`` is counted up from the setting.
        table: file of the results: finished runs of it are not run again, interrupted ones are resumed.
        config_files: YAML files of settings; a later one takes precedence.
        **settings: of RecBole or of this package, which take precedence over the files.

    Raises:
        LLMInterestError: a setting or the data set is unusable. Settings are checked before training.

    Example:
        >>> compare("ml-100k", ["LLMInterest", "GRU4Rec"], epochs=5, table="films")  # doctest: +SKIP
        Comparison(LLMInterest, GRU4Rec)
    """
    name, given = (data, {}) if isinstance(data, str) else (data.dataset, {"data_path": str(data.data_path)})
    kept = ResultTable(None if table is None else table_path(Path(table), ".json"))
    with exclusive_lock(kept.path, "give another table") if kept.path else nullcontext():
        known = kept.read()
        run(
            models, name, config_files, {**given, **settings}, seeds=seeds, table=kept.path, known=known,
            on_result=kept.write,
        )  # fmt: skip
    return Comparison(kept.results, tuple(kept.files))
