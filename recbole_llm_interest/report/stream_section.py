"""The report's section on a stream: how well each event was predicted before it was read."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field, FiniteFloat, NonNegativeInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.event_store import EVALUATION, EVALUATION_FILE
from recbole_llm_interest.io.opening import read_json
from recbole_llm_interest.report import plots
from recbole_llm_interest.report.sections import Section

_Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
#: rows of the table at most: of more windows, as many means of successive ones
_MOST_ROWS = 12


@dataclass(frozen=True)
class _Window:
    events: NonNegativeInt
    ndcg: _Share
    recall: _Share


@dataclass(frozen=True)
class _Evaluation:
    windows: list[_Window]
    refreshes: NonNegativeInt


def stream(folder: Path) -> Section:
    """The rolling evaluation of a stream by windows of events.

    Args:
        folder: that ``llm-interest follow`` writes.

    Raises:
        DataError: it has no evaluation, or none of a whole window.
    """
    path = folder / EVALUATION
    try:
        found = TypeAdapter(_Evaluation).validate_python(read_json(path, EVALUATION_FILE))
    except ValidationError as error:
        raise EVALUATION_FILE.refusal(path, "is no evaluation of a stream") from error
    if not found.windows:
        raise DataError(f"{path} has no whole window yet: give follow a smaller --window, or wait for more events")
    events = [window.events for window in found.windows]
    metrics = _metrics(found.windows)
    extremes = [f"{name} from {values[0]:.4f} to {values[-1]:.4f}" for name, values in metrics.items()]
    return Section(
        name="stream",
        title="Events of the stream, predicted before they were read",
        draw=partial(plots.draw_stream, events, metrics),
        alt=f"Line charts over {len(events)} windows of events: {'; '.join(extremes)}",
        caption="The model ranks all items, and then reads which one was chosen. Each point is a mean over the events "
        "since the point before. Higher is better.",
        table=_table(found.windows),
        table_title="Accuracy by the events of the stream",
        notes=[f"New weights were taken up {found.refreshes} time{'' if found.refreshes == 1 else 's'}."],
    )


def _table(windows: list[_Window]) -> list[list[str]]:
    """Windows, or means of successive ones."""
    size = -(-len(windows) // _MOST_ROWS)
    groups = [windows[start : start + size] for start in range(0, len(windows), size)]
    lines = [
        [f"{group[-1].events:,}", *(f"{sum(values) / len(group):.4f}" for values in _metrics(group).values())]
        for group in groups
    ]
    return [["events until", *_metrics(windows)], *lines]


def _metrics(windows: list[_Window]) -> dict[str, list[float]]:
    return {"NDCG@10": [window.ndcg for window in windows], "recall@10": [window.recall for window in windows]}
