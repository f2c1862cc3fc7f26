"""Compares exported programs with the model, by ``full_sort_predict`` on random histories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm_interest.content.event_fields import code_field, content_field
from recbole_llm_interest.content.event_times import TIME_FEATURES
from recbole_llm_interest.export.layers import Tensors
from recbole_llm_interest.export.targets import Run
from recbole_llm_interest.model.entity_encoder import EntityEncoder
from recbole_llm_interest.model.event_encoder import SideInformationEncoder
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.model.shared_content import SharedContent

#: users and events of the comparison; programs are traced with other sizes
_USERS, _EVENTS = 7, 9


@dataclass(frozen=True)
class _Case:
    """Random users and histories.

    Attributes:
        user: ids of users, 0 for an unknown one, ``[B]``.
        item_seq: ``[B, L]``, without padding.
        features: what the model knows of each event, ``[B, L]`` by field.
        context: what it knows before the choice, ``[B]`` by field.
        item_seq_len: events of each history that ``score`` reads, ``[B]``.
    """

    user: Tensor
    item_seq: Tensor
    features: Tensors
    context: Tensors
    item_seq_len: Tensor

    def first(self, length: int) -> tuple[Tensor, Tensors]:
        """The first ``length`` events of every history, ``[B, length]``: items, and features by field."""
        return self.item_seq[:, :length], {name: values[:, :length] for name, values in self.features.items()}

    def padded(self) -> tuple[Tensor, Tensors]:
        """Histories of ``item_seq_len`` events, padded with zeros, ``[B, L]``: items, and features by field."""
        is_event = torch.arange(self.item_seq.shape[1]) < self.item_seq_len[:, None]
        return self.item_seq.where(is_event, 0), {name: of.where(is_event, 0) for name, of in self.features.items()}


def largest_differences(run: Mapping[str, Run], model: LLMInterest, max_length: int) -> dict[str, float]:
    """The largest difference of each program from the model, on random histories.

    ``score`` is compared with ``full_sort_predict`` on histories of different lengths, ``start`` with the initial
    state, ``step`` with ``full_sort_predict`` after each event of a history that begins with ``start``, and ``choose``
    after the last one. A difference is relative where the model's number is greater than 1.

    Args:
        run: the programs of ``programs_of``, by name.
        model: the model that they were exported from.
        max_length: ``MAX_ITEM_LIST_LENGTH``.
    """
    case = _draw_case(model, min(_EVENTS, max_length))
    differences = {"score": _score_difference(run["score"], model, case)}
    state = model.initial_state(case.user)
    initial = {"carried": state.carried}
    if "start" in run:
        initial = run["start"](_inputs("user", model.user_encoder, case.user))
        differences["start"] = _largest(initial["carried"], state.carried)
    initial["history"] = case.item_seq[:, :0]
    if model.tracker.readout is not None:
        initial["past"] = state.past
    if state.recent is not None:
        initial["recent"] = state.recent
    if (lookup := model.history_bias.event_neighbours) is not None:
        initial["codes"] = torch.zeros(_USERS, 0, *lookup.shape, dtype=torch.long)
    differences["step"], last = _step_difference(run["step"], model, case, initial)
    if "choose" in run:
        differences["choose"] = _choose_difference(run["choose"], model, case, last)
    return differences


def _draw_case(model: LLMInterest, length: int) -> _Case:
    draw = torch.Generator().manual_seed(0)
    item_seq = torch.randint(1, model.n_items, (_USERS, length), generator=draw)
    times = {
        f"time_{name}": torch.randint(TIME_FEATURES[name], (_USERS, length), generator=draw)
        for name in model.event_encoder.times
    }
    features = times | _draw_features(model.event_encoder.side_information, (_USERS, length), draw)
    context = _draw_features(model.context.side_information, (_USERS,), draw)
    user = torch.zeros(_USERS, dtype=torch.long)
    if model.user_encoder is not None:
        user[1:] = torch.randint(len(model.user_encoder.get_buffer("present")), (_USERS - 1,), generator=draw)
    return _Case(user, item_seq, features, context, torch.randint(1, length + 1, (_USERS,), generator=draw))


def _draw_features(encoder: SideInformationEncoder | None, shape: tuple[int, ...], draw: torch.Generator) -> Tensors:
    """Random codes and rows of contents by the model's fields, ``[...]`` of this shape."""
    if encoder is None:
        return {}
    sizes = {code_field(encoder.kind, field.name): field.size for field in encoder.fields}
    if encoder.content is not None:
        sizes[content_field(encoder.kind)] = len(encoder.content.get_buffer("present"))
    return {name: torch.randint(size, shape, generator=draw) for name, size in sizes.items()}


def _inputs(kind: str, encoder: EntityEncoder | SharedContent | None, rows: Tensor) -> Tensors:
    """Rows ``[...]`` of the model's table of contents as programs receive them: features ``[..., K]`` and masks."""
    inputs: Tensors = {}
    content = {} if encoder is None else encoder.content
    for name, features in content.items():
        inputs[f"{kind}_{name}"] = features.values[rows]
        inputs[f"has_{kind}_{name}"] = features.present[rows]
    return inputs


def _inputs_of(encoder: SideInformationEncoder | None, features: Tensors) -> Tensors:
    """Codes and rows, ``[...]`` by the model's fields, as programs receive them."""
    if encoder is None or encoder.content is None:
        return features
    rows = features[content_field(encoder.kind)]
    return features | _inputs(encoder.kind, encoder.content, rows)


def _score_difference(run: Run, model: LLMInterest, case: _Case) -> float:
    item_seq, features = case.padded()
    inputs = {
        **_inputs_of(model.event_encoder.side_information, features),
        **_inputs_of(model.context.side_information, case.context),
        **_inputs("user", model.user_encoder, case.user),
    }
    outputs = run({"item_seq": item_seq, "item_seq_len": case.item_seq_len, **inputs})
    return _difference_of_scores(outputs, _predict(model, case, item_seq, features, case.item_seq_len))


def _step_difference(run: Run, model: LLMInterest, case: _Case, state: Tensors) -> tuple[float, Tensors]:
    """The largest difference after any event, and what the last step gives.

    ``state`` has the inputs that each step passes to the next.
    """
    largest = 0.0
    context = _inputs_of(model.context.side_information, case.context)
    for event in range(case.item_seq.shape[1]):
        now = {name: values[:, event] for name, values in case.features.items()}
        known = {**_inputs_of(model.event_encoder.side_information, now), **context}
        outputs = run({"item": case.item_seq[:, event], **known, **state})
        expected = _predict(model, case, *case.first(event + 1), torch.full((_USERS,), event + 1))
        largest = max(largest, _difference_of_scores(outputs, expected))
        state = {name: outputs.get(f"next_{name}", values) for name, values in state.items()}
    return largest, outputs


def _choose_difference(run: Run, model: LLMInterest, case: _Case, last: Tensors) -> float:
    """The difference if each user has the query of another one."""
    asked = replace(case, context={name: values.flip(0) for name, values in case.context.items()})
    context = _inputs_of(model.context.side_information, asked.context)
    state = {name: last[f"next_{name}"] for name in ("history", "codes") if f"next_{name}" in last}
    outputs = run({"interest": last["interest"], **state, **context})
    expected = _predict(model, asked, case.item_seq, case.features, torch.full((_USERS,), case.item_seq.shape[1]))
    return _difference_of_scores(outputs, expected)


def _predict(model: LLMInterest, case: _Case, item_seq: Tensor, features: Tensors, item_seq_len: Tensor) -> Tensor:
    """The model's scores ``[B, N]`` of a case's users after histories ``[B, L]``."""
    fields = {model.USER_ID: case.user, model.ITEM_SEQ: item_seq, model.ITEM_SEQ_LEN: item_seq_len, **case.context}
    fields |= {f"{name}{model.LIST_SUFFIX}": values for name, values in features.items()}
    return model.full_sort_predict(Interaction(fields))


def _difference_of_scores(outputs: Tensors, expected: Tensor) -> float:
    """The largest difference of a program's scores, of all or of the best items, from ``expected``, ``[B, N]``."""
    scores = outputs["scores"]
    if "items" not in outputs:
        return _largest(scores[:, 1:], expected[:, 1:])
    best = expected.topk(scores.shape[1], dim=1).values
    return max(_largest(scores, best), _largest(scores, expected.gather(1, outputs["items"])))


def _largest(actual: Tensor, expected: Tensor) -> float:
    """The largest difference of two tensors of one shape, relative where ``expected`` is greater than 1."""
    return float(((actual - expected).abs() / expected.abs().clamp(min=1)).max())
