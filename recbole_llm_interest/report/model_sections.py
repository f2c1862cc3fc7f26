"""The report's sections on a trained model: what it recommends a user and why, interests, modalities, items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from recbole_llm_interest.recommender.explanation import BIAS_NAMES
from recbole_llm_interest.report import plots
from recbole_llm_interest.report.sections import Section
from recbole_llm_interest.report.statistics import InterestTrajectory, ItemMap, ModalityWeight, Suggestion

#: names of an explanation's parts in plain words
_PARTS = {
    "id": "learned from who had the item (ID)",
    BIAS_NAMES["repeat"]: "the user has had it before",
    BIAS_NAMES["neighbour"]: "its content is close to items of the user's",
    BIAS_NAMES["transition"]: "it often follows an item of the user's",
    BIAS_NAMES["event"]: "others wrote, saw or heard the like at it",
}
#: reasons that the table of recommendations names for each item
_MAX_REASONS = 3


def recommendations(suggestions: Sequence[Suggestion], user: str) -> Section:
    """What one user would be recommended now, and why."""
    sizes: Counter[str] = Counter()
    for suggestion in suggestions:
        sizes.update({name: abs(points) for name, points in suggestion.parts.items()})
    plain = [replace(one, parts={_PARTS.get(name, name): of for name, of in one.parts.items()}) for one in suggestions]
    names = [_PARTS.get(name, name) for name, size in sizes.most_common() if round(size, 2)]
    sums = "sum to the score" if all(one.is_exact for one in suggestions) else "are what the score loses without each"
    first = plain[0]
    return Section(
        name="recommendations",
        title=f"What user {user} would be recommended now",
        draw=partial(plots.draw_recommendations, plain, names),
        alt=f"Stacked bars of {len(plain)} items: what the score of each consists of. First: {first.title}, "
        f"{_points(first.parts.items(), len(names))}",
        caption="The items with the highest scores after the user's last event, and what each score comes from. Parts "
        f"to the right of zero raise the score, parts to the left lower it; they {sums}. The numbers before the titles "
        "are places in the list in which seen items are kept.",
        table=[
            ["item", "place, seen items kept", "place, seen items filtered", "score", "from", "because of"],
            *(_suggestion_row(one) for one in plain),
        ],
        table_title=f"Recommendations for user {user}, with points of the score",
        notes=[
            "“because of” names the profile and past events: how many points the score would lose without each; a "
            "negative number says that it would gain. A dash as place: the user has had this item before."
        ],
    )


def _suggestion_row(suggestion: Suggestion) -> list[str]:
    unseen = suggestion.unseen_rank
    return [
        suggestion.title,
        f"{suggestion.rank}",
        "-" if unseen is None else f"{unseen}",
        f"{suggestion.score:.2f}",
        _points(suggestion.parts.items(), len(suggestion.parts)),
        _points(suggestion.reasons, _MAX_REASONS) or "-",
    ]


def _points(parts: Iterable[tuple[str, float]], count: int) -> str:
    """The largest parts that are not nil, after their points; ``forget`` searches a report for ids in this form."""
    largest = sorted(parts, key=lambda part: -abs(part[1]))[:count]
    return "; ".join(f"{points:+.2f} {name}" for name, points in largest if round(points, 2))


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
        alt=f"Stacked bands: the interest of user {user} after events {first} to {end}; after the last: "
        f"{', '.join(last)}",
        caption="Interests are groups of similar items. Each is named by a category or word that at least a third of "
        "its items carry, and the table has the share that do; or by the titles of its typical items. Above, after "
        "each event: how likely the next item is of each interest. Below: the interest that the item of each event is "
        "of. Narrow screens show the last events only.",
        table=[["event", "item", "interest", "share of its items with that name"], *rows],
        table_title=f"The last events of user {user}",
    )


def modalities(weights: Mapping[str, Sequence[ModalityWeight]]) -> Section:
    """Weights of the modalities, of items and of users."""
    means = [f"{kind}: {', '.join(f'{w.name} {w.mean:.2f}' for w in of_kind)}" for kind, of_kind in weights.items()]
    return Section(
        name="modalities",
        title="What the model reads of items and users",
        draw=partial(plots.draw_modalities, weights),
        alt=f"Bars of mean weights. {'; '.join(means)}",
        caption="How much text, images and audio count in what the model knows of an item or a user, and how much the "
        "ID does, which is learned from events alone. Weights of one item or user sum to one. A bar is the mean over "
        "those that have the modality, and the line goes from the 10th to the 90th percentile.",
        table=[
            ["of", "source", "mean weight", "10th percentile", "90th percentile", "have it"],
            *_weight_rows(weights),
        ],
        table_title="Weights of the modalities",
    )


def _weight_rows(weights: Mapping[str, Sequence[ModalityWeight]]) -> list[list[str]]:
    return [
        [kind, of.name, f"{of.mean:.2f}", f"{of.low:.2f}", f"{of.high:.2f}", f"{of.present:,} of {of.total:,}"]
        for kind, of_kind in weights.items()
        for of in of_kind
    ]


def items(item_map: ItemMap, user: str | None) -> Section:
    """The item map, with the path of one user over it."""
    drawn = len(item_map.categories)
    shown = f"all {item_map.total:,}" if drawn == item_map.total else f"{drawn:,} of {item_map.total:,}, at random"
    path = f" The numbered path connects the last events of user {user} in order." if item_map.path else ""
    axes = "The axes have no unit" if not any(item_map.axes) else f"The axes are {' and '.join(item_map.axes)}"
    sizes = Counter(item_map.categories).most_common()
    return Section(
        name="map",
        title="Map of the items",
        draw=partial(plots.draw_map, item_map),
        alt=f"Scatter plot of {drawn:,} items by group: {', '.join(f'{name} {count:,}' for name, count in sizes[:6])}"
        f"{f', and {len(sizes) - 6} other groups' if len(sizes) > 6 else ''}.{path}",
        caption=f"Each mark is an item, {shown}. Items that the model considers similar are near each other. {axes}."
        f"{path}",
    )
