"""Compares exported programs with the model, by ``full_sort_predict`` on random histories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm_interest.content.event_times import TIME_FEATURES
from recbole_llm_interest.export.layers import Tensors
from recbole_llm_interest.export.targets import Run
from recbole_llm_interest.model.llm_interest import LLMInterest

#: users and events of the comparison; programs are traced with other sizes
_USERS, _EVENTS = 7, 9


@dataclass(frozen=True)
class _Case:
    """Random users and histories.

    Attributes:
        user: ids of users, 0 for an unknown one, ``[B]``.
        profile: the users' content, as programs receive it, by input.
        item_seq: ``[B, L]``, without padding.
        times: time features of each event by name, ``[B, L]`` each.
        item_seq_len: events of each history that ``score`` reads, ``[B]``.
    """

    user: Tensor
    profile: Tensors
    item_seq: Tensor
    times: Tensors
    item_seq_len: Tensor

    def first(self, length: int) -> tuple[Tensor, Tensors]:
        """The first ``length`` events of every history, ``[B, length]``: items, and time features by name."""
        return self.item_seq[:, :length], {name: values[:, :length] for name, values in self.times.items()}

    def padded(self) -> tuple[Tensor, Tensors]:
        """Histories of ``item_seq_len`` events, padded with zeros, ``[B, L]``: items, and time features by name."""
        is_event = torch.arange(self.item_seq.shape[1]) < self.item_seq_len[:, None]
        return self.item_seq.where(is_event, 0), {name: of.where(is_event, 0) for name, of in self.times.items()}


def largest_differences(run: Mapping[str, Run], model: LLMInterest, max_length: int) -> dict[str, float]:
    """The largest difference of each program from the model, on random histories.

    ``score`` is compared with ``full_sort_predict`` on histories of different lengths, ``start`` with the initial
    state, and ``step`` with ``full_sort_predict`` after each event of a history that begins with ``start``. A
    difference is relative where the model's number is greater than 1.

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
        initial = run["start"](case.profile)
        differences["start"] = _largest(initial["carried"], state.carried)
    initial["history"] = case.item_seq[:, :0]
    if model.tracker.readout is not None:
        initial["past"] = state.past
    differences["step"] = _step_difference(run["step"], model, case, initial)
    return differences


def _draw_case(model: LLMInterest, length: int) -> _Case:
    draw = torch.Generator().manual_seed(0)
    item_seq = torch.randint(1, model.n_items, (_USERS, length), generator=draw)
    times = {
        name: torch.randint(TIME_FEATURES[name], (_USERS, length), generator=draw) for name in model.event_encoder.times
    }
    user, profile = _draw_users(model, draw)
    return _Case(user, profile, item_seq, times, torch.randint(1, length + 1, (_USERS,), generator=draw))


def _draw_users(model: LLMInterest, draw: torch.Generator) -> tuple[Tensor, Tensors]:
    """Random users, ``[B]``, the first of them unknown, and their content by the inputs of a program."""
    encoder = model.user_encoder
    if encoder is None:
        return torch.zeros(_USERS, dtype=torch.long), {}
    present = encoder.get_buffer("present")
    user = torch.randint(len(present), (_USERS,), generator=draw)
    user[0] = 0
    profile = {}
    for column, (name, features) in enumerate(encoder.content.items()):
        profile[f"user_{name}"] = features.values[user]
        profile[f"has_user_{name}"] = present[user, column]
    return user, profile


def _score_difference(run: Run, model: LLMInterest, case: _Case) -> float:
    item_seq, times = case.padded()
    inputs = {f"time_{name}": values for name, values in times.items()} | case.profile
    outputs = run({"item_seq": item_seq, "item_seq_len": case.item_seq_len, **inputs})
    return _difference_of_scores(outputs, _predict(model, case.user, item_seq, times, case.item_seq_len))


def _step_difference(run: Run, model: LLMInterest, case: _Case, state: Tensors) -> float:
    """The largest difference after any event; ``state`` has the inputs that each step passes to the next."""
    largest = 0.0
    for event in range(case.item_seq.shape[1]):
        now = {f"time_{name}": values[:, event] for name, values in case.times.items()}
        outputs = run({"item": case.item_seq[:, event], **now, **state})
        expected = _predict(model, case.user, *case.first(event + 1), torch.full((_USERS,), event + 1))
        largest = max(largest, _difference_of_scores(outputs, expected))
        state = {name: outputs.get(f"next_{name}", values) for name, values in state.items()}
    return largest


def _predict(model: LLMInterest, user: Tensor, item_seq: Tensor, times: Tensors, item_seq_len: Tensor) -> Tensor:
    """The model's scores ``[B, N]`` of users ``[B]`` after histories ``[B, L]``."""
    fields = {model.USER_ID: user, model.ITEM_SEQ: item_seq, model.ITEM_SEQ_LEN: item_seq_len}
    fields |= {f"time_{name}{model.LIST_SUFFIX}": values for name, values in times.items()}
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
