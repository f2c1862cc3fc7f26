"""The results of a comparison, and the files of its table."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from recbole_llm_interest.evaluation.results import RunResult, read_results
from recbole_llm_interest.evaluation.table import table_files, write_comparison
from recbole_llm_interest.io.manifest import record_made_from, source_of


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
