"""The report's sections on a comparison: each has a figure, its description in words, and a table of its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from recbole_llm_interest.report.findings import metric_title

#: panel title -> name of the variant -> its value
_Panels = Mapping[str, Mapping[str, Estimate | None]]

_PanelsByTitle = dict[str, Mapping[str, Estimate | None]]

#: titles of the groups of test events, by how often their item occurs in training
_GROUPS = {
    "Unseen": "items without training events",
    "Few": f"items with 1 to {MANY_EVENTS - 1} training events",
    "Many": f"items with {MANY_EVENTS} or more training events",
}
#: titles of the costs, by the field of ``RunResult``
_COSTS = {
    "seconds_per_epoch": "seconds an epoch",
    "cpu_seconds_per_epoch": "CPU seconds an epoch",
    "seconds_to_best": "seconds to the best epoch",
    "peak_memory_mb": "peak memory, MiB",
}
_INTERVAL = (
    "Each mark is a mean over the test events. The bar through it is its 95 % interval (bootstrap): how far another "
    "sample of users may move it. Ticks below it are single trainings, if there are several."
)
#: what the metrics of lists mean, by the beginning of their names in ``short_name``
_LIST_METRICS = {
    "coverage": "coverage is the share of all items that are recommended to anybody",
    "Gini": "the Gini index is 0 if all items are recommended equally often, and 1 if one item has all places",
    "novelty": "novelty is higher the rarer the recommended items are, in bits",
    "diversity": "diversity is higher the less the texts of the items of one list are alike, from 0 to 1",
}


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        name: file name of its figure, without the suffix, and anchor in the page.
        title: its heading.
        draw: draws the figure at a width in inches.
        alt: the figure in words, for screen readers.
        caption: how to read the figure.
        table: lines of cells, the first of which is the head, and the first of each line its name; may be empty.
        table_title: what the table has.
        notes: lines below the table.
    """

    name: str
    title: str
    draw: Callable[[float], Figure]
    alt: str
    caption: str
    table: list[list[str]] = field(default_factory=list)
    table_title: str = ""
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
        "An epoch is one pass over the training data. The loss is what training makes smaller: each panel has one part "
        "of it. The validation score is higher the better; the model of its best epoch is the one that was tested."
    )
    alt = f"Line charts by epoch: {'; '.join(ends)}"
    return Section("training", f"Training of {run.variant}, seed {run.seed}", draw, alt, caption)


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
        title="Accuracy of all models",
        draw=partial(plots.draw_estimates, panels, columns=kept or len(metrics)),
        alt=_description(panels),
        caption=f"How well each model finds the items that came next; higher is better. {_INTERVAL}",
        table=table,
        table_title="Accuracy by model: mean, and its 95 % interval in brackets",
        notes=_notes(results, variants),
    )


def _tests(variants: Sequence[VariantSummary]) -> list[list[str]]:
    """The columns of p-values, with the head: none, that of seen items kept, and that of seen items filtered."""
    against = f"p against {variants[0].name}"
    columns = [
        [head, *map(p_values_text, tests)]
        for head, tests in (
            (f"{against} (t-test / Wilcoxon)", [variant.p_values for variant in variants]),
            (f"{against}, seen items filtered", [variant.filtered_p_values for variant in variants]),
        )
        if any(tests)
    ]
    return [[column[line] for column in columns] for line in range(len(variants) + 1)]


def _notes(results: Sequence[RunResult], variants: Sequence[VariantSummary]) -> list[str]:
    notes = []
    if len({result.test_digest for result in results}) > 1:
        notes.append("The models are NOT tested on the same events: do not compare them.")
    if len({fingerprint(result.data) for result in results if result.files}) > 1:
        notes.append("The models are NOT on the same data: do not compare them.")
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
        title="Variety of the recommendations, time and memory",
        draw=partial(plots.draw_estimates, panels),
        alt=_description(panels),
        caption="Metrics of the recommended lists other than accuracy, and what the models' training took."
        f"{_explanations(panels)}",
        table=_table(panels),
        table_title="Variety, time and memory by model",
    )


def _explanations(panels: Iterable[str]) -> str:
    """What the metrics of lists among the panels mean; nothing without any."""
    titles = tuple(panels)
    explained = [meaning for name, meaning in _LIST_METRICS.items() if any(title.startswith(name) for title in titles)]
    return f" Of the recommended lists: {'; '.join(explained)}." if explained else ""


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
        title="Rare and frequent items",
        draw=partial(plots.draw_estimates, panels, share_x=True),
        alt=_description(panels),
        caption=f"{_title(metric)} by how often the item that came next occurs in training. A model that knows items "
        f"by their ID alone cannot find those without training events. {_INTERVAL}",
        table=_table(panels),
        table_title=f"{_title(metric)} by model and by training events of the item",
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


def _is_of_group(metric: str) -> bool:
    """Whether a metric, such as ``ndcgfew@10``, is of one group of test events."""
    return metric.partition("@")[0].endswith(tuple(group.lower() for group in _GROUPS))


def _title(metric: str) -> str:
    shown = metric_title(short_name(base_metric(metric)))
    return f"{shown}, seen items filtered" if metric.startswith(FILTERED) else shown


def _table(panels: _Panels) -> list[list[str]]:
    """One line for each variant, one column for each panel."""
    names = next(iter(panels.values()))
    lines = [[name, *(_number(by_variant[name]) for by_variant in panels.values())] for name in names]
    return [["model", *(title.replace("\n", " ") for title in panels)], *lines]


def _number(value: Estimate | None) -> str:
    if value is None:
        return "-"
    mean = plots.number_text(value.mean)
    if value.interval is None:
        return mean
    low, high = map(plots.number_text, value.interval)
    return f"{mean}\N{NO-BREAK SPACE}[{low},\N{NO-BREAK SPACE}{high}]"


def _description(panels: _Panels) -> str:
    """The highest and the lowest of each panel; all numbers are in the table."""
    return "; ".join(["Points on a scale for each model", *(_extremes(*panel) for panel in panels.items())])


def _extremes(title: str, by_variant: Mapping[str, Estimate | None]) -> str:
    means = {name: value.mean for name, value in by_variant.items() if value is not None}
    high, low = max(means, key=lambda name: means[name]), min(means, key=lambda name: means[name])
    highest = f"{title}: {high} {plots.number_text(means[high])}".replace("\n", " ")
    return highest if len(means) == 1 else f"{highest}, lowest {low} {plots.number_text(means[low])}"
