"""The report's sections: each is a figure, what it shows in words, and the numbers that are read off it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from matplotlib.figure import Figure

from recbole_llm_interest.evaluation.comparison import Estimate, estimate, summarize
from recbole_llm_interest.evaluation.metrics import FEW_EVENTS
from recbole_llm_interest.evaluation.results import RunResult
from recbole_llm_interest.report import plots
from recbole_llm_interest.report.statistics import ItemMap, Journey, ModalityWeight

#: groups of tested events by how often training shows their item
_GROUPS = {
    "Unseen": "never in training",
    "Few": f"1 to {FEW_EVENTS - 1} training events",
    "Many": f"{FEW_EVENTS} or more",
}
_INTERVAL = "Bars are 95 % intervals of the mean over the test events, ticks are seeds."


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        name: of its figure's file.
        title: its heading.
        draw: the figure at a width in inches.
        alt: what the figure says, for those who do not see it.
        caption: how it is to be read.
        table: rows of cells, of which the first is the head; none if there are no rows.
        notes: lines below.
    """

    name: str
    title: str
    draw: Callable[[float], Figure]
    alt: str
    caption: str
    table: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def training(run: RunResult) -> Section | None:
    """How one run's losses and validation score went; None where its table keeps neither."""
    if not run.losses and not run.valid_scores:
        return None
    draw = partial(plots.draw_training, run.losses, run.valid_scores, run.valid_metric)
    ends = [f"loss {name} from {values[0]:.4f} to {values[-1]:.4f}" for name, values in run.losses.items()]
    if run.valid_scores:
        epoch, best = max(run.valid_scores, key=lambda pair: pair[1])
        ends.append(f"best validation {run.valid_metric} {best:.4f} at epoch {epoch:.0f}")
    return Section(
        "training", f"Training of {run.row}, seed {run.seed}", draw, "; ".join(ends),
        "Each part of the loss as it counts in the sum, the mean over an epoch's batches, and the validation score, "
        "which chooses the best epoch.",
    )  # fmt: skip


def comparison(results: Sequence[RunResult]) -> Section:
    """Each row's test metrics."""
    rows = summarize(results)
    metrics = [metric for metric in results[0].test if not any(_is_of_group(metric, group) for group in _GROUPS)]
    panels = {_shown(metric): {row.name: estimate(row.runs, metric) for row in rows} for metric in metrics}
    table = _numbers(panels)
    has_tests = any(row.p_value is not None for row in rows)
    for line, cell in zip(table, ["p", *(_p(row.p_value) for row in rows)], strict=True):
        line += [cell] if has_tests else []
    notes = [f"{row.name}: {row.runs[0].note}" for row in rows if row.runs[0].note]
    if has_tests:
        notes.insert(
            0, f"p: difference from {rows[0].name} in {results[0].valid_metric}, paired t-test over the test events, "
            "Holm's correction.",
        )  # fmt: skip
    if len({result.test_digest for result in results}) > 1:
        notes.insert(0, "The rows are NOT tested on the same events: do not compare them.")
    caption = f"Test metrics of each row of the table, the first row on top. {_INTERVAL}"
    return Section(
        "metrics", "Against baselines", partial(plots.draw_estimates, panels), _in_words(panels), caption, table, notes
    )


def popularity(results: Sequence[RunResult]) -> Section | None:
    """The metric that chooses the best epochs, by how well training knows the item; None where that is not kept."""
    metric = results[0].valid_metric
    rows = summarize(results)
    panels = {}
    for group, title in _GROUPS.items():
        by_row = {row.name: estimate(row.runs, metric, group) for row in rows}
        found = [value for value in by_row.values() if value is not None]
        if found:
            events = next((value.events for value in found if value.events is not None), None)
            panels[title if events is None else f"{title},\n{events:,} test events"] = by_row
    if not panels:
        return None
    caption = f"Test {metric} by how often training shows the item that is asked for: cold items first. {_INTERVAL}"
    draw = partial(plots.draw_estimates, panels, one_scale=True)
    return Section("popularity", "Cold and warm items", draw, _in_words(panels), caption, _numbers(panels))


def interest(found: Journey, user: str) -> Section:
    """One user's interest after each event."""
    names, weights = plots.told_apart(found)
    last = [f"{name} {weight:.0%}" for name, weight in zip(names, weights[-1], strict=True)]
    first, end = found.before + 1, found.before + len(weights)
    caption = (
        "Above: after each event, how likely the next one is of each interest, by the softmax over all items' scores. "
        "An interest is a group of items that the model takes for alike, called by words that their texts have in "
        "common. Below: which of them each event was. A phone shows the last events only."
    )
    table = [["event", "item", "interest it is of"]]
    groups = [found.names[group] for group in found.group]
    numbered = enumerate(zip(found.labels, groups, strict=True), start=first)
    table += [[f"{number}", label, name] for number, (label, name) in numbered]
    alt = f"Interest of user {user} after events {first} to {end}; after the last: {', '.join(last)}"
    return Section(
        "interest", f"The interest of user {user} through time", partial(plots.draw_journey, found), alt, caption, table
    )


def modalities(weights: Mapping[str, Sequence[ModalityWeight]]) -> Section:
    """What each modality counts in items and users."""
    said = [f"{kind}: {', '.join(f'{w.name} {w.mean:.2f}' for w in of_kind)}" for kind, of_kind in weights.items()]
    caption = (
        "How much each modality, and the learnt ID, has to say in a representation: the mean over those that have it; "
        "the line is where the middle four fifths of them lie. A representation's weights sum to one. Below each name: "
        "how many have it."
    )
    return Section(
        "modalities", "What modalities count", partial(plots.draw_modalities, weights), "; ".join(said), caption
    )


def items(found: ItemMap, user: str | None) -> Section:
    """The item map, with one user's path over it."""
    shown = "all" if len(found.categories) == found.items else f"{len(found.categories):,} of"
    path = f" The path is that of user {user}, the last events in order." if found.path else ""
    caption = f"Items that the model takes for alike lie near each other: {shown} {found.items:,} items.{path}"
    alt = f"{len(found.categories):,} items on a plane of {found.axes[0]} and {found.axes[1]}, in categories.{path}"
    return Section("map", "Map of the items", partial(plots.draw_map, found), alt, caption)


def _is_of_group(metric: str, group: str) -> bool:
    return metric.partition("@")[0].endswith(group.lower())


def _shown(metric: str) -> str:
    name, _, k = metric.partition("@")
    return f"{name.upper() if name in ('ndcg', 'mrr') else name}@{k}" if k else name


def _numbers(panels: Mapping[str, Mapping[str, Estimate | None]]) -> list[list[str]]:
    names = next(iter(panels.values()))
    return [["row", *panels], *([name, *(_number(by_row[name]) for by_row in panels.values())] for name in names)]


def _number(value: Estimate | None) -> str:
    if value is None:
        return "-"
    return f"{value.mean:.4f}" + (
        "" if value.half is None else f"\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{value.half:.4f}"
    )


def _in_words(panels: Mapping[str, Mapping[str, Estimate | None]]) -> str:
    return "; ".join(
        f"{title}: {', '.join(f'{name} {_number(value)}' for name, value in by_row.items())}"
        for title, by_row in panels.items()
    )


def _p(value: float | None) -> str:
    return "-" if value is None else "<.001" if value < 0.001 else f"{value:.3f}"
