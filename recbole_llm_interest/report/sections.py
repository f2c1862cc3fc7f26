"""The report's sections: each has a figure, its description in words, and a table of its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean

from matplotlib.figure import Figure

from recbole_llm_interest.evaluation.collector import FILTERED
from recbole_llm_interest.evaluation.comparison import (
    Estimate,
    VariantSummary,
    base_metric,
    estimate,
    summarize,
)
from recbole_llm_interest.evaluation.list_metrics import is_list_metric, short_name
from recbole_llm_interest.evaluation.metrics import MANY_EVENTS
from recbole_llm_interest.evaluation.notes import data_lines, protocol_lines, test_lines
from recbole_llm_interest.evaluation.results import RunResult, fingerprint
from recbole_llm_interest.evaluation.table import p_values_text
from recbole_llm_interest.report import plots
from recbole_llm_interest.report.statistics import InterestTrajectory, ItemMap, ModalityWeight

#: panel title -> name of the variant -> its value
_Panels = Mapping[str, Mapping[str, Estimate | None]]

_PanelsByTitle = dict[str, Mapping[str, Estimate | None]]

#: titles of the groups of test events, by how often their item occurs in training
_GROUPS = {
    "Unseen": "never in training",
    "Few": f"1 to {MANY_EVENTS - 1} training events",
    "Many": f"{MANY_EVENTS} or more",
}
#: titles of the costs, by the field of ``RunResult``
_COSTS = {
    "seconds_per_epoch": "seconds an epoch",
    "cpu_seconds_per_epoch": "CPU seconds an epoch",
    "seconds_to_best": "seconds to the best epoch",
    "peak_memory_mb": "peak memory, MiB",
}
_INTERVAL = "Bars are 95 % bootstrap intervals of the mean over the test events, ticks are seeds."


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        name: file name of its figure, without the suffix, and anchor in the page.
        title: its heading.
        draw: draws the figure at a width in inches.
        alt: the figure in words, for screen readers.
        caption: how to read the figure.
        table: lines of cells, the first of which is the head; may be empty.
        notes: lines below the table.
    """

    name: str
    title: str
    draw: Callable[[float], Figure]
    alt: str
    caption: str
    table: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def training(run: RunResult) -> Section | None:
    """Losses and validation score of one run by epoch; None where its table has neither."""
    if not run.losses and not run.valid_scores:
        return None
    draw = partial(plots.draw_training, run.losses, run.valid_scores, run.valid_metric)
    ends = [f"loss {name} from {values[0]:.4f} to {values[-1]:.4f}" for name, values in run.losses.items()]
    if run.valid_scores:
        epoch, best = max(run.valid_scores, key=lambda pair: pair[1])
        ends.append(f"best validation {run.valid_metric} {best:.4f} at epoch {epoch:.0f}")
    caption = (
        "Each part of the training loss with its weight, as the mean over the batches of an epoch; and the validation "
        "score, which selects the best epoch."
    )
    return Section("training", f"Training of {run.variant}, seed {run.seed}", draw, "; ".join(ends), caption)


def comparison(results: Sequence[RunResult]) -> Section | None:
    """Test metrics of every variant of the table; None where the first has none of all events."""
    variants = summarize(results)
    metrics = [metric for metric in results[0].test if not _is_of_group(metric) and not is_list_metric(metric)]
    if not metrics:
        return None
    metrics.sort(key=lambda metric: metric.startswith(FILTERED))  # kept above filtered; the sort is stable
    panels = {
        _title(metric): {variant.name: estimate(variant.runs, metric) for variant in variants} for metric in metrics
    }
    table = [line + tests for line, tests in zip(_table(panels), _tests(variants), strict=True)]
    kept = sum(not metric.startswith(FILTERED) for metric in metrics)
    return Section(
        name="metrics",
        title="Against baselines",
        draw=partial(plots.draw_estimates, panels, columns=kept or len(metrics)),
        alt=_description(panels),
        caption=f"Test metrics of each variant of the table, the first on top. {_INTERVAL}",
        table=table,
        notes=_notes(results, variants),
    )


def _tests(variants: Sequence[VariantSummary]) -> list[list[str]]:
    """The columns of p-values, with the head: none, that of seen items kept, and that of seen items filtered."""
    columns = [
        [head, *map(p_values_text, tests)]
        for head, tests in (
            ("p (t / W)", [variant.p_values for variant in variants]),
            ("p, filtered", [variant.filtered_p_values for variant in variants]),
        )
        if any(tests)
    ]
    return [[column[line] for column in columns] for line in range(len(variants) + 1)]


def _notes(results: Sequence[RunResult], variants: Sequence[VariantSummary]) -> list[str]:
    notes = []
    if len({result.test_digest for result in results}) > 1:
        notes.append("The variants are NOT tested on the same events: do not compare them.")
    if len({fingerprint(result.data) for result in results if result.files}) > 1:
        notes.append("The variants are NOT on the same data: do not compare them.")
    notes += [*protocol_lines(results), *data_lines(results), *test_lines(variants)]
    return notes + [f"{variant.name}: {variant.runs[0].note}" for variant in variants if variant.runs[0].note]


def beyond_accuracy(results: Sequence[RunResult]) -> Section | None:
    """Metrics of the lists that are no accuracy, and costs; None where the table has none."""
    variants = summarize(results)
    metrics = dict.fromkeys(metric for result in results for metric in result.test if is_list_metric(metric))
    panels: dict[str, dict[str, Estimate | None]] = {
        _title(metric): {variant.name: estimate(variant.runs, metric) for variant in variants} for metric in metrics
    }
    for cost, title in _COSTS.items():
        costs = {variant.name: _cost(variant, cost) for variant in variants}
        if any(costs.values()):
            panels[title] = costs
    if not panels:
        return None
    return Section(
        name="costs",
        title="Beyond accuracy, and costs",
        draw=partial(plots.draw_estimates, panels),
        alt=_description(panels),
        caption="Metrics of the recommended lists that are no accuracy, and what each run cost. Ticks are seeds.",
        table=_table(panels),
    )


def _cost(variant: VariantSummary, cost: str) -> Estimate | None:
    values = [value for run in variant.runs if (value := getattr(run, cost)) is not None]
    return Estimate(fmean(values), values, None, None) if values else None


def popularity(results: Sequence[RunResult]) -> Section | None:
    """The validation metric on the test events by how often their item occurs in training; None where unknown."""
    variants, metric = summarize(results), base_metric(results[0].valid_metric)
    panels = _group_panels(variants, metric, "") | _group_panels(variants, FILTERED + metric, ", seen items filtered")
    if not panels:
        return None
    return Section(
        name="popularity",
        title="Cold and warm items",
        draw=partial(plots.draw_estimates, panels, share_x=True),
        alt=_description(panels),
        caption=f"Test {_title(metric)} by how often the target item occurs in training, cold items first. {_INTERVAL}",
        table=_table(panels),
    )


def _group_panels(variants: Sequence[VariantSummary], metric: str, words: str) -> _PanelsByTitle:
    """One panel for each group of test events that has values; ``words`` are added to its title."""
    panels: _PanelsByTitle = {}
    for group, title in _GROUPS.items():
        by_variant = {variant.name: estimate(variant.runs, metric, group) for variant in variants}
        known = [value for value in by_variant.values() if value is not None]
        if known:
            events = next((value.events for value in known if value.events is not None), None)
            counted = "" if events is None else f",\n{events:,} test events"
            panels[f"{title}{words}{counted}"] = by_variant
    return panels


def interest(trajectory: InterestTrajectory, user: str) -> Section:
    """One user's interest after each event."""
    names, weights = plots.largest_interests(trajectory)
    last = [f"{name} {weight:.0%}" for name, weight in zip(names, weights[-1], strict=True)]
    first, end = trajectory.before + 1, trajectory.before + len(weights)
    events = zip(trajectory.labels, trajectory.groups, strict=True)
    shares = ["-" if share is None else f"{share:.0%}" for share in trajectory.shares]
    rows = [
        [f"{number}", label, trajectory.names[group], shares[group]]
        for number, (label, group) in enumerate(events, start=first)
    ]
    return Section(
        name="interest",
        title=f"The interest of user {user} over time",
        draw=partial(plots.draw_interest, trajectory),
        alt=f"Interest of user {user} after events {first} to {end}; after the last: {', '.join(last)}",
        caption="Above: after each event, the probability that the next item is of each interest, by the softmax over "
        "all items' scores. An interest is a group of similar items. It is named by a category or word that at least a "
        "third of them carry, and the table has the share that do; or by the titles of its typical items. Below: the "
        "interest that each event's item is of. Narrow screens show the last events only.",
        table=[["event", "item", "interest", "share of its items with that name"], *rows],
    )


def modalities(weights: Mapping[str, Sequence[ModalityWeight]]) -> Section:
    """Weights of the modalities, of items and of users."""
    means = [f"{kind}: {', '.join(f'{w.name} {w.mean:.2f}' for w in of_kind)}" for kind, of_kind in weights.items()]
    return Section(
        name="modalities",
        title="Modality weights",
        draw=partial(plots.draw_modalities, weights),
        alt="; ".join(means),
        caption="Weight of each modality, and of the learnt ID, in a representation: the mean over those that have it, "
        "and a line from the 10th to the 90th percentile. The weights in one representation sum to one. Below each "
        "name: how many have it.",
    )


def items(item_map: ItemMap, user: str | None) -> Section:
    """The item map, with the path of one user over it."""
    drawn = len(item_map.categories)
    shown = "all" if drawn == item_map.total else f"{drawn:,} of"
    path = f" The path connects the last events of user {user} in order." if item_map.path else ""
    return Section(
        name="map",
        title="Map of the items",
        draw=partial(plots.draw_map, item_map),
        alt=f"{drawn:,} items on a plane of {item_map.axes[0]} and {item_map.axes[1]}, by category.{path}",
        caption=f"Items with similar representations are near each other: {shown} {item_map.total:,} items.{path}",
    )


def _is_of_group(metric: str) -> bool:
    """Whether a metric, such as ``ndcgfew@10``, is of one group of test events."""
    return metric.partition("@")[0].endswith(tuple(group.lower() for group in _GROUPS))


def _title(metric: str) -> str:
    name, _, k = short_name(base_metric(metric)).partition("@")
    shown = f"{name.upper() if name in ('ndcg', 'mrr') else name}@{k}" if k else name
    return f"{shown}, seen items filtered" if metric.startswith(FILTERED) else shown


def _table(panels: _Panels) -> list[list[str]]:
    """One line for each variant, one column for each panel."""
    names = next(iter(panels.values()))
    lines = [[name, *(_number(by_variant[name]) for by_variant in panels.values())] for name in names]
    return [["variant", *panels], *lines]


def _number(value: Estimate | None) -> str:
    if value is None:
        return "-"
    mean = plots.number_text(value.mean)
    if value.interval is None:
        return mean
    low, high = map(plots.number_text, value.interval)
    return f"{mean}\N{NO-BREAK SPACE}[{low},\N{NO-BREAK SPACE}{high}]"


def _description(panels: _Panels) -> str:
    return "; ".join(
        f"{title}: {', '.join(f'{name} {_number(value)}' for name, value in by_variant.items())}"
        for title, by_variant in panels.items()
    )
