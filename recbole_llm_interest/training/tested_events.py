"""The fields of a result that describe the tested events, in an order that is the same for every model."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from recbole.config import Config
from torch import Tensor

from recbole_llm_interest.data.evaluation_loader import EventDataLoader
from recbole_llm_interest.data.event_counts import count_training_events
from recbole_llm_interest.data.event_histories import HISTORY_START, own_events
from recbole_llm_interest.data.protocol import protocol_facts
from recbole_llm_interest.settings import EvaluationSettings, read_settings
from recbole_llm_interest.training.run_metadata import digest

#: facts that tell splits by time apart, of which runs have to agree to be compared
_SPLIT_FACTS = ("test_targets", "valid_begins", "test_begins")


def tested_events(dataset: Any, loaders: tuple[Any, Any, Any], collector: Any) -> dict[str, Any]:
    """Return the fields of ``RunResult`` that describe the tested events, after a test.

    Args:
        dataset: any RecBole data set, after it was split.
        loaders: of its training, validation and test data.
        collector: RecBole's, which has the ranks of the last evaluation.
    """
    train_data, _, test_data = loaders
    candidates = _candidates(dataset.config, dataset.item_num - 1, test_data)
    names = _event_names(dataset, test_data._dataset.inter_feat)
    protocol = protocol_facts(dataset, *(loader._dataset for loader in loaders))
    split = [f"{name}: {protocol[name]}" for name in _SPLIT_FACTS if name in protocol]
    item_counts, _ = count_training_events(train_data.dataset)
    items, ranks = _by_name(dataset, test_data, names, collector.last_ranked_events)
    _, filtered_ranks = _by_name(dataset, test_data, names, collector.last_filtered_events)
    return {
        "test_events": len(names),
        "candidates": candidates,
        "test_digest": digest([candidates, *split, *sorted(names)]),
        "ranks": ranks,
        "filtered_ranks": filtered_ranks,
        "item_counts": item_counts[items].tolist(),
        "protocol": protocol,
        "event_users": _event_users(sorted(names)),
    }


def _candidates(config: Config, items: int, test_data: Any) -> str:
    """Describe the items that each event was ranked among."""
    mode = config["eval_args"]["mode"]["test"]
    ranked = f"all {items} items" if mode == "full" else f"{mode} sampled items of {items}"
    if isinstance(test_data, EventDataLoader):
        kinds = {"kept": "", "filtered": " but those seen before", "both": ", those seen before kept and filtered"}
        return f"{ranked}{kinds[read_settings(EvaluationSettings, config).seen_items]}"
    return ranked if config["repeatable"] else f"{ranked} but those seen before"


def _event_names(dataset: Any, rows: Any) -> list[str]:
    """Name events by their tokens: RecBole's internal ids may differ between models.

    In a split by time, a user may have several events of one item: their positions among the user's events are added.
    """
    fields = dataset.uid_field, dataset.iid_field
    names = [list(map(str, dataset.id2token(field, rows[field]))) for field in fields]
    if hasattr(dataset, "periods"):
        names.append(list(map(str, (own_events(rows) - rows[HISTORY_START]).tolist())))
    return ["\t".join(parts) for parts in zip(*names, strict=True)]


def _event_users(names: Sequence[str]) -> list[int]:
    """Number the users of named events by first appearance; an empty list if no user has several events."""
    numbers: dict[str, int] = {}
    users = [numbers.setdefault(name.partition("\t")[0], len(numbers)) for name in names]
    return users if len(numbers) < len(users) else []


def _by_name(dataset: Any, test_data: Any, names: Sequence[str], events: Tensor | None) -> tuple[list[int], list[int]]:
    """Return items and ranks of the tested events, in the order of their names, which is the same for all models.

    Events of one name stay in the order of the test data.

    Args:
        dataset: the data set.
        test_data: the loader of tested events.
        names: of the tested rows.
        events: ``[E, 3]``, users, items and ranks; None if items were ranked among sampled ones, or not at all.
    """
    if events is None:
        return [], []
    users, items, ranks = events.unbind(dim=1)
    if not isinstance(test_data, EventDataLoader):  # RecBole ranks by user, in another order
        names = _event_names(dataset, {dataset.uid_field: users, dataset.iid_field: items})
    by_name = sorted(zip(names, ranks.tolist(), items.tolist(), strict=True), key=itemgetter(0))
    return [item for _, _, item in by_name], [rank for _, rank, _ in by_name]
