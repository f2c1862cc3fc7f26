"""The lines below a comparison's tables: its protocol, its data and its tests in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recbole_llm_interest.evaluation.collector import FILTERED
from recbole_llm_interest.evaluation.comparison import VariantSummary
from recbole_llm_interest.evaluation.list_metrics import is_list_metric
from recbole_llm_interest.evaluation.results import RunResult, changed_file

#: which events of the test period are targets, by ``test_targets``
_TARGETS = {
    "first": "the first event of each user in the test period is a target",
    "last": "the last event of each user in the test period is a target",
    "random": "one event of each user in the test period, drawn at random, is a target",
    "successive": "each event in the test period is a target, and the user's events before it are the history",
    "all": "each event in the test period is a target, and the user's events before the period are the history",
}
_CLOCKS = {"none": "no clock", "positions": "times are positions, no clock"}
_Facts = Mapping[str, str | int | float | None]


def notes_on(results: Sequence[RunResult], summaries: Sequence[VariantSummary]) -> list[str]:
    """Return the lines below the tables.

    Args:
        results: the runs.
        summaries: the same by variant, as of ``summarize``.
    """
    metrics = list(dict.fromkeys(metric for result in results for metric in result.test))
    return [
        _comparability(results),
        *_changed_data(results),
        *protocol_lines(results),
        *data_lines(results),
        *_cells(summaries, metrics),
        *test_lines(summaries),
        *_absent_metrics(results),
        *_variant_lines(summaries),
    ]


def protocol_lines(results: Sequence[RunResult]) -> list[str]:
    """Say how the events were split and what is known of the tested ones; nothing for runs of earlier versions."""
    protocol = next((result.protocol for result in results if result.protocol), {})
    of_all = f"of {results[0].test_events:,} test events"
    lines = [
        _split(protocol),
        _seen_items(results, protocol, of_all),
        _ties(protocol, of_all),
        _future(protocol),
        _known_and_new(protocol),
    ]
    return [line for line in lines if line]


def data_lines(results: Sequence[RunResult]) -> list[str]:
    """Return the data card in one line; nothing for runs of earlier versions."""
    card = next((result.data_card for result in results if result.data_card), None)
    if card is None:
        return []
    clock = str(card.get("clock", "none"))
    parts = [
        f"{_number(card, 'users', ',')} users",
        f"{_number(card, 'items', ',')} items",
        f"{_number(card, 'events', ',')} events",
        f"density {_number(card, 'density', '.4%')}",
        f"median length {_number(card, 'median_length', 'g')}",
        f"{_number(card, 'repeats', '.1%')} of events repeat an item of the user's",
        _CLOCKS.get(clock, f"times in {clock}"),
    ]
    if card.get("ties") is not None and clock != "positions":
        parts.append(f"{_number(card, 'ties', '.1%')} of events at the time of the user's previous one")
    return [f"Data: {', '.join(parts)}; fingerprint {card.get('hash', 'unknown')}."]


def test_lines(summaries: Sequence[VariantSummary]) -> list[str]:
    """Say how the p-values were computed; nothing without any."""
    if not any(summary.p_values or summary.filtered_p_values for summary in summaries):
        return []
    first = summaries[0]
    unit = "users, each with the mean of its test events" if first.runs[0].event_users else "the test events"
    seeds = ", and with its mean over seeds" if len(first.runs) > 1 else ""
    return [
        f"p: difference from {first.name} in {first.runs[0].valid_metric}, paired t-test / Wilcoxon's signed-rank test "
        f"(zero differences by Pratt) over {unit}{seeds}; Holm's correction over all rows."
    ]


def _variant_lines(summaries: Sequence[VariantSummary]) -> list[str]:
    """Say which variants lack seeds, and what is noted on them."""
    seeds = len(summaries[0].runs)
    incomplete = [summary for summary in summaries if len(summary.runs) < seeds]
    return [
        *(f"{summary.name}: only {len(summary.runs)} of {seeds} seeds." for summary in incomplete),
        *(f"{summary.name}: {summary.runs[0].note}" for summary in summaries if summary.runs[0].note),
    ]


def _cells(summaries: Sequence[VariantSummary], metrics: Sequence[str]) -> list[str]:
    """Say what the cells hold."""
    lines = ["Accuracy: means ± standard deviations over seeds."] if len(summaries[0].runs) > 1 else []
    lists = [metric for metric in metrics if is_list_metric(metric)]
    if any(metric.startswith(FILTERED) for metric in lists):
        lines.append("Metrics of the lists: with seen items kept / filtered.")
    return lines


def _absent_metrics(results: Sequence[RunResult]) -> list[str]:
    """Say that the data have no text if the diversity of the lists was asked for and no run has it."""
    asked = any("contentdiversity" in str(result.settings.get("metrics", "")).lower() for result in results)
    if not asked or any("contentdiversity" in metric for result in results for metric in result.test):
        return []
    return ["Diversity by content is not shown: the items have no text."]


def _split(protocol: _Facts) -> str:
    if protocol.get("split") == "leave-one-out":
        return "Split: leave-one-out, the last event of each user is for testing, the one before it for validation."
    if protocol.get("split") != "time":
        return ""
    targets = _TARGETS.get(str(protocol.get("test_targets")), "")
    return (
        f"Split: by time, validation from {protocol.get('valid_begins')}, test from {protocol.get('test_begins')}"
        f"{'; ' if targets else ''}{targets}."
    )


def _seen_items(results: Sequence[RunResult], protocol: _Facts, of_all: str) -> str:
    if not any(metric.startswith(FILTERED) for result in results for metric in result.test):
        return ""
    line = "Seen items are candidates, except in columns called filtered"
    if protocol.get("repeated_events") is None:
        return f"{line}."
    repeats = _number(protocol, "repeated_events", ",")
    return f"{line}: there, {repeats} {of_all} repeat a seen item and count as missed."


def _ties(protocol: _Facts, of_all: str) -> str:
    if protocol.get("tied_events") is None:
        return ""
    return f"{_number(protocol, 'tied_events', ',')} {of_all} have the same time as another event of the user's."


def _future(protocol: _Facts) -> str:
    if protocol.get("later_training_events") is not None:
        share = _number(protocol, "later_training_events", ".1%")
        return f"On average, {share} of the training events lie after the test event that they help to predict."
    if protocol.get("split") != "leave-one-out":
        return ""
    return "Unknown without a clock: how many training events lie after the test event that they help to predict."


def _known_and_new(protocol: _Facts) -> str:
    warm_users, cold_users, warm_items, cold_items = (
        _number(protocol, name, ",") for name in ("warm_users", "cold_users", "warm_items", "cold_items")
    )
    if "-" in (warm_users, cold_users, warm_items, cold_items):
        return ""
    return (
        f"Tested users: {warm_users} with training events, {cold_users} without. Tested items: {warm_items} with, "
        f"{cold_items} without."
    )


def _number(card: _Facts, name: str, style: str) -> str:
    value = card.get(name)
    return "-" if value is None or isinstance(value, str) else format(value, style)


def _comparability(results: Sequence[RunResult]) -> str:
    """Say which events all variants were tested on, or that these differ."""
    first = results[0]
    if len({result.test_digest for result in results}) > 1:
        tests = {result.variant: f"{result.test_events} among {result.candidates}" for result in results}
        listed = "; ".join(f"{name}: {test}" for name, test in tests.items())
        return (
            f"{first.dataset}: the rows are NOT tested on the same events ({listed}): do not compare them"
            f"{_commits(results)}."
        )
    is_validated = all(result.best_valid is not None for result in results)
    metrics = " or ".join(dict.fromkeys(result.valid_metric for result in results))
    epoch = f"best epoch by validation {metrics}; " if is_validated else ""
    seeds = sorted({result.seed for result in results})
    return (
        f"{first.dataset}: {first.test_events} test events, the same for every row, each ranked among "
        f"{first.candidates}; {epoch}{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
        f"{_commits(results)}."
    )


def _changed_data(results: Sequence[RunResult]) -> list[str]:
    """Say if rows are not of the same data, of which one file is named."""
    known = [result.files for result in results if result.files]
    changed = next(filter(None, (changed_file(known[0], files) for files in known)), None)
    if changed is None:
        return []
    return [f"{results[0].dataset}: the rows are NOT on the same data ({changed} differs): do not compare them."]


def _commits(results: Sequence[RunResult]) -> str:
    commits = list(dict.fromkeys(str(result.environment_info.get("commit") or "unknown") for result in results))
    if commits == ["unknown"]:
        return ""
    return f"; {'commit' if len(commits) == 1 else 'commits'} {', '.join(commits)}"
