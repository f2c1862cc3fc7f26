"""Builds the model of an exported folder from its settings, weights and features."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from recbole_llm_interest.content.event_fields import EventKind
from recbole_llm_interest.content.event_inputs import EventInputs
from recbole_llm_interest.content.event_neighbours import EventNeighbours, ItemProfiles
from recbole_llm_interest.content.features import Conditioning, Content, Features
from recbole_llm_interest.content.transitions import STRENGTHS, Transitions
from recbole_llm_interest.model.build import SavedTables
from recbole_llm_interest.model.former_names import current_name
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.recommender.allowance import Allowance, check_sizes
from recbole_llm_interest.settings import MODALITIES, ModelSettings, read_settings
from recbole_llm_interest.training.model_folder.config import FolderConfig
from recbole_llm_interest.training.model_folder.format import FEATURES, WEIGHTS

Tensors = dict[str, Tensor]
#: the model's part that encodes content, by the kind of what has it
_ENCODERS = {
    "item": "item_encoder",
    "user": "user_encoder",
    "event": "event_encoder.side_information.content",
    "context": "context.side_information.content",
}
#: types of what is no feature among a folder's features
_TABLES = {
    "present": torch.bool,
    "neighbours": torch.int32,
    "transition_items": torch.int32,
    "transition_strengths": torch.uint8,
    **{f"{part}_{name}": torch.float32 for part in ("profile", "mean") for name in MODALITIES},
}


def build_model(described: FolderConfig, weights: Tensors, features: Tensors, items: int) -> LLMInterest:
    """Build the model and load its weights.

    Raises:
        ValueError: settings, weights and features do not fit.
    """
    config = {
        **described.settings,
        "MAX_ITEM_LIST_LENGTH": described.max_length,
        "ITEM_ID_FIELD": described.id_fields["item"],
        "USER_ID_FIELD": described.id_fields["user"],
        "LIST_SUFFIX": "_list",
        "ITEM_LIST_LENGTH_FIELD": "item_length",
        "NEG_PREFIX": "neg_",
        "device": torch.device("cpu"),
    }
    weights = {current_name(name): values for name, values in weights.items()}
    settings = read_settings(ModelSettings, config)
    check_sizes(settings, described.max_length, weights)
    _check_features(features, items)
    once = torch.ones(items, dtype=torch.long).index_fill_(0, torch.tensor([0]), 0)  # as if each item occurred once
    content = {kind: _content(kind, weights, features) for kind in _ENCODERS}
    numbers = sum(values.numel() for values in (*weights.values(), *features.values()))
    tables = SavedTables(
        *(content["item"], content["user"], once),
        item_neighbours=features["item_neighbours"],
        item_transitions=_transitions(features, items),
        event_neighbours=_event_neighbours(settings, features, items),
        event_inputs=_inputs("event", content, described),
        context_inputs=_inputs("context", content, described),
    )
    with Allowance.of_files(numbers):
        model = LLMInterest(config, tables)
    for name, values in model.state_dict().items():
        if name in weights and weights[name].dtype != values.dtype:
            raise ValueError(f"{name[:80]} is {weights[name].dtype} in {WEIGHTS}, and the model's is {values.dtype}")
    model.load_state_dict(weights)
    model.item_encoder.get_buffer("present").copy_(features["item_present"])  # also which items have an ID
    return model


def _check_features(features: Tensors, items: int) -> None:
    """Refuse tables of features that are not of the items of the vocabulary."""
    neighbours = features["item_neighbours"]
    if len(neighbours) != items or neighbours.ndim != 3 or not _are_rows(neighbours, items):
        raise ValueError("the neighbours are not of these items")
    for name, values in features.items():
        kind, _, part = name.partition("_")
        rows = {**dict.fromkeys(_ENCODERS, 1), "item": items}.get(kind)
        if rows is None or part not in (*_TABLES, *MODALITIES):
            raise ValueError(f"{name[:80]} is no part of {FEATURES}")
        dtype = _TABLES.get(part, torch.float32)
        if len(values.shape) < 2 or len(values) != rows or values.dtype != dtype:
            raise ValueError(f"{name} is {values.dtype} {list(values.shape)} in {FEATURES}")


def _content(kind: str, weights: Tensors, features: Tensors) -> Content:
    """Features by modality, and how they are conditioned, which the weights say."""
    names = [name.removeprefix(f"{kind}_") for name in features if name.startswith(f"{kind}_")]
    modalities = sorted(set(names) - _TABLES.keys())
    content: Content = {}
    for column, name in enumerate(modalities):
        mean, weight = (weights.get(f"{_ENCODERS[kind]}.features.{name}.{part}") for part in ("mean", "weight"))
        conditioning = None if mean is None or weight is None else Conditioning(mean, weight)
        for dtype in {conditioning.mean.dtype, conditioning.weight.dtype} if conditioning else ():
            if dtype != torch.float32:
                raise ValueError(f"the conditioning of {name[:80]} is {dtype} in {WEIGHTS}")
        present = features[f"{kind}_present"][:, column]
        content[name] = Features(features[f"{kind}_{name}"], present, conditioning)
    return content


def _inputs(kind: EventKind, content: Mapping[str, Content], described: FolderConfig) -> EventInputs:
    return EventInputs(content[kind], described.event_fields.get(kind, ()))


def _event_neighbours(settings: ModelSettings, features: Tensors, items: int) -> EventNeighbours | None:
    """Profiles of the items, for contents that come; no content of training. None if the folder has none."""
    names: list[str] = [name for name in MODALITIES if f"item_profile_{name}" in features]
    if not names or not settings.event_neighbours:
        return None
    profiles = {}
    for name in names:
        values, mean = features[f"item_profile_{name}"], features.get(f"event_mean_{name}")
        if mean is None or mean.shape[1:] != values.shape[1:] or mean.shape[1:] != features[f"event_{name}"].shape[1:]:
            raise ValueError(f"the profiles of items by events' {name} do not fit")
        profiles[name] = ItemProfiles(mean[0], values)
    return EventNeighbours.of_profiles(profiles, min(settings.event_neighbours, items - 1))


def _transitions(features: Tensors, items: int) -> Transitions | None:
    """Neighbours by transitions, the table of all users alone; None if the folder has none."""
    if "item_transition_items" not in features:
        return None
    rows, strengths = (features[f"item_transition_{part}"] for part in Transitions._fields)
    if rows.shape != strengths.shape or rows.ndim != 2 or not _are_rows(rows, items):
        raise ValueError("the transitions are not of these items")
    if strengths.numel() and int(strengths.max()) >= STRENGTHS:
        raise ValueError("the transitions have strengths that no bucket has")
    return Transitions(rows[None], strengths[None])


def _are_rows(rows: Tensor, count: int) -> bool:
    return rows.dtype == torch.int32 and (not rows.numel() or 0 <= int(rows.min()) <= int(rows.max()) < count)
