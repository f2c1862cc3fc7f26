"""TensorBoard: events beside the run's log file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from recbole_llm_interest.training.tracking import Status, TrackedRun


class TensorBoardTracker:
    """Writes to the folder that has the name of the log file. A resumed run goes on in the folder of its first part.

    Args:
        run: what to show of it.
        former: name of the folder to go on in; None for a new one.
    """

    packages: ClassVar[tuple[str, ...]] = ()

    def __init__(self, run: TrackedRun, former: str | None) -> None:
        # a folder without a log beside it is none of ours: the name comes from a file
        self.is_continued = former is not None and run.log.with_name(f"{former}.log").is_file()
        folder = run.log.with_name(former) if former is not None and self.is_continued else run.log.with_suffix("")
        self.id, self.place = folder.name, str(folder)
        self._facts = {"name": run.name, "comparison": run.comparison, **run.facts}
        self._settings = run.settings
        # later events of a run that was killed are hidden: they are written again
        self._writer = SummaryWriter(self.place, purge_step=run.epochs + 1 if self.is_continued else None)
        if not self.is_continued:
            self._add_text("run", self._facts)
            self._add_text("settings", self._settings)

    @staticmethod
    def check() -> None:
        """Nothing is needed."""

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Write a scalar for each value."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)

    def summarize(self, values: Mapping[str, float], epochs: int) -> None:
        """Write a scalar for each value, and the run's row of the page HPARAMS."""
        self.log(values, epochs)
        columns = {name: _cell(value) for name, value in {**self._settings, **self._facts}.items()}
        for part in hparams(columns, dict(values)):  # type: ignore[no-untyped-call]
            self._writer._get_file_writer().add_summary(part)  # type: ignore[no-untyped-call]

    def close(self, status: Status) -> None:
        """Write the last events."""
        self._writer.close()

    def _add_text(self, tag: str, values: Mapping[str, Any]) -> None:
        """Write values as JSON; lines with four spaces are a block of code in Markdown."""
        lines = json.dumps(values, indent=1, ensure_ascii=False).splitlines()
        self._writer.add_text(tag, "\n".join(f"    {line}" for line in lines), 0)


def _cell(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)
