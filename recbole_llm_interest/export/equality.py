"""Whether exported programs do what the model does: asked the same, by RecBole's face of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm_interest.content.event_times import TIME_FEATURES
from recbole_llm_interest.export.programs import Tensors
from recbole_llm_interest.model.llm_interest import LLMInterest

Run = Callable[[Tensors], Tensors]

#: users and events that programs are asked about; neither is what they were traced with
_USERS, _EVENTS = 7, 9


def largest_differences(run: Mapping[str, Run], model: LLMInterest, max_length: int) -> dict[str, float]:
    """How far programs are from the model on random histories, by the program's name.

    Scores are ``full_sort_predict``'s: those of ``score`` after histories of unlike length, those of ``step`` after
    each event of one, on the way that begins with ``start``. A difference is one of 1 where the model's number is
    larger than that.

    Args:
        run: the programs of ``programs_of``.
        model: what they are of.
        max_length: events that a history has at most.
    """
    draw = torch.Generator().manual_seed(0)
    length = min(_EVENTS, max_length)
    item_seq = torch.randint(1, model.n_items, (_USERS, length), generator=draw)
    times = {
        name: torch.randint(TIME_FEATURES[name], (_USERS, length), generator=draw) for name in model.time_embeddings
    }
    user, profile = _users(model, draw)
    item_seq_len = torch.randint(1, length + 1, (_USERS,), generator=draw)
    is_event = torch.arange(length) < item_seq_len[:, None]
    padded = item_seq.where(is_event, 0), {name: values.where(is_event, 0) for name, values in times.items()}
    by_name = {f"time_{name}": values for name, values in padded[1].items()}
    found = run["score"]({"item_seq": padded[0], "item_seq_len": item_seq_len, **by_name, **profile})
    differences = {"score": _of_scores(found, _asked(model, user, *padded, item_seq_len))}

    state = model.initial_state(user)
    if "start" in run:
        began = run["start"](profile)
        differences["start"] = _largest(began["carried"], state.carried)
    else:
        began = {"carried": state.carried}
    began |= {"history": item_seq[:, :0]} | ({} if model.tracker.readout is None else {"past": state.past})
    differences["step"] = 0.0
    for place in range(length):
        now = {f"time_{name}": values[:, place] for name, values in times.items()}
        found = run["step"]({"item": item_seq[:, place], **now, **began})
        until = item_seq[:, : place + 1], {name: values[:, : place + 1] for name, values in times.items()}
        expected = _asked(model, user, *until, torch.full((_USERS,), place + 1))
        differences["step"] = max(differences["step"], _of_scores(found, expected))
        began = {name: found.get(f"next_{name}", values) for name, values in began.items()}
    return differences


def _users(model: LLMInterest, draw: torch.Generator) -> tuple[Tensor, Tensors]:
    """Some users, nobody among them, and what they are, as programs are told it."""
    fusion = model.user_fusion
    if fusion is None:
        return torch.zeros(_USERS, dtype=torch.long), {}
    present = fusion.get_buffer("present")
    user = torch.randint(len(present), (_USERS,), generator=draw)
    user[0] = 0
    profile = {}
    for column, (name, features) in enumerate(fusion.content.items()):
        profile[f"user_{name}"] = features.values[user]
        profile[f"has_user_{name}"] = present[user, column]
    return user, profile


def _asked(model: LLMInterest, user: Tensor, item_seq: Tensor, times: Tensors, item_seq_len: Tensor) -> Tensor:
    fields = {model.USER_ID: user, model.ITEM_SEQ: item_seq, model.ITEM_SEQ_LEN: item_seq_len}
    return model.full_sort_predict(Interaction(fields | {model.TIME_SEQ[name]: of for name, of in times.items()}))


def _of_scores(found: Tensors, expected: Tensor) -> float:
    scores = found["scores"]
    if "items" not in found:
        return _largest(scores[:, 1:], expected[:, 1:])
    best = expected.topk(scores.shape[1], dim=1).values
    return max(_largest(scores, best), _largest(scores, expected.gather(1, found["items"])))


def _largest(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).abs() / expected.abs().clamp(min=1)).max())
