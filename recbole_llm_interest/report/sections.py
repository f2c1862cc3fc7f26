"""The report's sections: each has a figure, its description in words, and a table of its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from matplotlib.figure import Figure

from recbole_llm_interest.evaluation.comparison import Estimate, VariantSummary, estimate, summarize
from recbole_llm_interest.evaluation.metrics import MANY_EVENTS
from recbole_llm_interest.evaluation.results import RunResult, fingerprint
from recbole_llm_interest.report import plots
from recbole_llm_interest.report.statistics import InterestTrajectory, ItemMap, ModalityWeight

#: panel title -> name of the variant -> its value
_Panels = Mapping[str, Mapping[str, Estimate | None]]

#: titles of the groups of test events, by how often their item occurs in training
_GROUPS = {
    "Unseen": "never in training",
    "Few": f"1 to {MANY_EVENTS - 1} training events",
    "Many": f"{MANY_EVENTS} or more",
}
_INTERVAL = "Bars are 95 % intervals of the mean over the test events, ticks are seeds."


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
    metrics = [metric for metric in results[0].test if not _is_of_group(metric)]
    if not metrics:
        return None
    panels = {
        _title(metric): {variant.name: estimate(variant.runs, metric) for variant in variants} for metric in metrics
    }
    table = _table(panels)
    if any(variant.p_value is not None for variant in variants):
        for line, cell in zip(table, ["p", *(_p_value(variant.p_value) for variant in variants)], strict=True):
            line.append(cell)
    return Section(
        name="metrics",
        title="Against baselines",
        draw=partial(plots.draw_estimates, panels),
        alt=_description(panels),
        caption=f"Test metrics of each variant of the table, the first on top. {_INTERVAL}",
        table=table,
        notes=_notes(results, variants),
    )


def _notes(results: Sequence[RunResult], variants: Sequence[VariantSummary]) -> list[str]:
    notes = []
    if len({result.test_digest for result in results}) > 1:
        notes.append("The variants are NOT tested on the same events: do not compare them.")
    if len({fingerprint(result.data) for result in results if result.files}) > 1:
        notes.append("The variants are NOT on the same data: do not compare them.")
    if any(variant.p_value is not None for variant in variants):
        notes.append(
            f"p: difference from {variants[0].name} in {results[0].valid_metric}, paired t-test over the test events, "
            "Holm's correction."
        )
    return notes + [f"{variant.name}: {variant.runs[0].note}" for variant in variants if variant.runs[0].note]


def popularity(results: Sequence[RunResult]) -> Section | None:
    """The validation metric on the test events by how often their item occurs in training; None where unknown."""
    metric = results[0].valid_metric
    panels = {}
    for group, title in _GROUPS.items():
        by_variant = {variant.name: estimate(variant.runs, metric, group) for variant in summarize(results)}
        known = [value for value in by_variant.values() if value is not None]
        if known:
            events = next((value.events for value in known if value.events is not None), None)
            panels[title if events is None else f"{title},\n{events:,} test events"] = by_variant
    if not panels:
        return None
    return Section(
        name="popularity",
        title="Cold and warm items",
        draw=partial(plots.draw_estimates, panels, share_x=True),
        alt=_description(panels),
        caption=f"Test {metric} by how often the target item occurs in training, cold items first. {_INTERVAL}",
        table=_table(panels),
    )


def interest(trajectory: InterestTrajectory, user: str) -> Section:
    """One user's interest after each event."""
    names, weights = plots.largest_interests(trajectory)
    last = [f"{name} {weight:.0%}" for name, weight in zip(names, weights[-1], strict=True)]
    first, end = trajectory.before + 1, trajectory.before + len(weights)
    events = zip(trajectory.labels, trajectory.groups, strict=True)
    rows = [[f"{number}", label, trajectory.names[group]] for number, (label, group) in enumerate(events, start=first)]
    return Section(
        name="interest",
        title=f"The interest of user {user} over time",
        draw=partial(plots.draw_interest, trajectory),
        alt=f"Interest of user {user} after events {first} to {end}; after the last: {', '.join(last)}",
        caption="Above: after each event, the probability that the next item is of each interest, by the softmax over "
        "all items' scores. An interest is a group of items with similar representations, named by words that its "
        "texts have in common. Below: the interest that each event's item is of. Narrow screens show the last events "
        "only.",
        table=[["event", "item", "interest"], *rows],
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
    name, _, k = metric.partition("@")
    return f"{name.upper() if name in ('ndcg', 'mrr') else name}@{k}" if k else name


def _table(panels: _Panels) -> list[list[str]]:
    """One line for each variant, one column for each panel."""
    names = next(iter(panels.values()))
    lines = [[name, *(_number(by_variant[name]) for by_variant in panels.values())] for name in names]
    return [["variant", *panels], *lines]


def _number(value: Estimate | None) -> str:
    if value is None:
        return "-"
    if value.half_width is None:
        return f"{value.mean:.4f}"
    return f"{value.mean:.4f}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{value.half_width:.4f}"


def _description(panels: _Panels) -> str:
    return "; ".join(
        f"{title}: {', '.join(f'{name} {_number(value)}' for name, value in by_variant.items())}"
        for title, by_variant in panels.items()
    )


def _p_value(value: float | None) -> str:
    return "-" if value is None else "<.001" if value < 0.001 else f"{value:.3f}"
