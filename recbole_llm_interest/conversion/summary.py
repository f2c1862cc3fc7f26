"""What a conversion did: counts, columns, what was left out, and the command to run next."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_llm_interest.conversion.filters import Removed
from recbole_llm_interest.conversion.table_files import Skipped
from recbole_llm_interest.conversion.wording import counted
from recbole_llm_interest.io.escaping import one_line


@dataclass(frozen=True)
class Counts:
    """How much is in a data set.

    Attributes:
        rows: rows of the table of events.
        events: events that are written.
        users: users with an event.
        items: items with an event.
        median_length: median number of events of a user.
        repeats: share of events whose user chose the item before.
    """

    rows: int
    events: int
    users: int
    items: int
    median_length: float
    repeats: float


@dataclass(frozen=True)
class TableReport:
    """What the columns of one table became.

    Attributes:
        name: of the table.
        rows: how many it has.
        columns: what each column became, by what it is: user, item, time, text, image, audio, others.
        left_out: columns that are not written, and why.
        skipped: rows that are left out.
        remarks: on ids without content, and content without events.
    """

    name: str
    rows: int
    columns: dict[str, str]
    left_out: dict[str, str]
    skipped: list[Skipped]
    remarks: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return it as lines of text."""
        width = max(map(len, self.columns), default=0)
        lines = [f"{self.name}: {counted(self.rows, 'row')}"]
        lines += [f"  {role:{width}}  {meaning}" for role, meaning in self.columns.items()]
        lines += [f"  left out: {column} ({reason})" for column, reason in self.left_out.items()]
        lines += [f"  dropped: {skipped}" for skipped in self.skipped]
        return [*lines, *(f"  {remark}" for remark in self.remarks)]


@dataclass(frozen=True, repr=False)
class Conversion:
    """A data set that was made of tables. ``print`` shows what happened.

    Attributes:
        dataset: its name.
        data_path: the folder of its folder.
        counts: how much is in it.
        tables: what became of each table.
        removed: what filters removed.
        files: the files that were written, without images and audio.
        obsolete: images and audio of the former data set that no row names any more: they were removed.
        modalities: of the content.
    """

    dataset: str
    data_path: Path
    counts: Counts
    tables: list[TableReport]
    removed: list[Removed]
    files: list[Path]
    obsolete: list[Path]
    modalities: list[str]

    @property
    def command(self) -> str:
        """The command that trains and compares models on the data set."""
        program = "python run_recbole.py" if Path("run_recbole.py").is_file() else "llm-interest compare"
        places = shlex.join([f"--dataset={self.dataset}", f"--data_path={self.data_path}"])
        is_default = self.modalities in ([], ["text"])
        modalities = "" if is_default else f" --modalities={','.join(self.modalities)}"
        return f"{program} --model=LLMInterest,GRU4Rec {places}{modalities}"

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "dataset": self.dataset,
            "data_path": str(self.data_path),
            **vars(self.counts),
            "tables": [
                {**vars(table), "skipped": [vars(skipped) for skipped in table.skipped]} for table in self.tables
            ],
            "removed": [vars(removed) for removed in self.removed],
            "files": [*map(str, self.files)],
            "obsolete": [*map(str, self.obsolete)],
            "modalities": self.modalities,
            "command": self.command,
        }

    def __repr__(self) -> str:
        counts = self.counts
        return (
            f"<{one_line(self.dataset)}: {counted(counts.events, 'event')} of {counted(counts.users, 'user')} and "
            f"{counted(counts.items, 'item')} in {one_line(self.data_path / self.dataset)}>"
        )

    def __str__(self) -> str:
        counts = self.counts
        lines = [line for table in self.tables for line in table.lines()]
        lines += map(str, self.removed)
        lines.append(
            f"{counted(counts.rows, 'row')} read, {counted(counts.events, 'event')} kept: "
            f"{counted(counts.users, 'user')}, {counted(counts.items, 'item')}, "
            f"{counts.median_length:g} events a user (median), {counts.repeats:.0%} repeat an earlier item"
        )
        if self.obsolete:
            files = counted(len(self.obsolete), "former file")
            lines.append(f"removed {files} that no row names any more, such as {self.obsolete[0]}")
        lines.append(f"written: {', '.join(map(str, self.files))}")
        return "\n".join([*map(one_line, lines), "", f"next: {one_line(self.command)}"])
