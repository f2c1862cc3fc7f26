"""The trained model as programs: tensors by name in, tensors by name out; encoders and data set are not needed.

``score`` reads a padded history and scores the items. ``step`` does the same event by event, as live use does: the
state goes in and comes out. ``start`` makes the state before the first event from a user's profile, and ``choose`` the
scores of a state after another query. Content is given as features, as the encoders compute them: no content and no ID
of a user is in a program, but means of the features of items' events are, where the model reads content of events.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.export.layers import (
    EncodedContent,
    EventNeighboursLayer,
    Field,
    Reader,
    RecentCodes,
    Scorer,
    Tensors,
)
from recbole_llm_interest.model.interest_tracker import InterestState
from recbole_llm_interest.model.item_bias import last_events
from recbole_llm_interest.model.llm_interest import LLMInterest

#: sizes that a program is traced with, as far as attention reaches; all of them may vary
_EXAMPLE = {"batch": 3, "length": 5, "events": 4, "carried": 4, "past": 4}


class Program(nn.Module):
    """A part of the model that is exported.

    Attributes:
        fields: what goes in, by name.
        meanings: what comes out, by name.
    """

    fields: dict[str, Field]
    meanings: dict[str, str]

    def example(self, max_length: int) -> Tensors:
        """Inputs to trace it with, of histories of at most so many events."""
        sizes = {name: size if name == "batch" else min(size, max_length) for name, size in _EXAMPLE.items()}
        return {name: field.draw(sizes) for name, field in self.fields.items()}


class Score(Program):
    """Padded histories to scores.

    Args:
        model: trained, in evaluation mode.
        k: as for ``Scorer``.
    """

    def __init__(self, model: LLMInterest, k: int | None = None) -> None:
        super().__init__()
        self.profile = None if model.user_encoder is None else EncodedContent("user", model.user_encoder)
        self.reader, self.tracker, self.scorer = Reader(model, ("batch", "length")), model.tracker, Scorer(model, k)
        self.neighbours = _event_neighbours(model)
        self.fields = {
            "item_seq": Field(
                ("batch", "length"),
                "rows of the items chosen, in order, 0 behind the end; the last ones of a long history",
                torch.int64,
                model.n_items,
            ),
            "item_seq_len": Field(
                ("batch",),
                "how many there are; for nobody's history, a single 0 of length 1",
                torch.int64,
            ),
            **self.reader.fields,
            **self.scorer.fields,
            **({} if self.profile is None else self.profile.fields),
        }
        self.meanings = self.scorer.meanings

    def example(self, max_length: int) -> Tensors:
        """As for any program; no history is empty."""
        drawn = super().example(max_length)
        return drawn | {"item_seq_len": torch.ones_like(drawn["item_seq_len"])}

    def forward(self, inputs: Tensors) -> Tensors:
        """Scores of histories, ``[B, L]``: ``[B, N]``, or of the best ``k`` items."""
        item_seq, last = inputs["item_seq"], inputs["item_seq_len"] - 1
        if self.profile is None:
            state = self.tracker.neutral_state(item_seq.shape[0])
        else:
            state = self.tracker.initial_state(self.profile(inputs))
        interest = self.tracker(self.reader(item_seq, inputs), state)
        at_last = interest.gather(1, last[:, None, None].expand(-1, -1, interest.shape[2])).squeeze(1)
        recent = None if self.neighbours is None else partial(self.neighbours.recent, inputs)
        scores: Tensors = self.scorer(at_last, item_seq, last, inputs, recent)
        return scores


class Start(Program):
    """User profiles to the state before the first event; for models with user content only.

    Args:
        model: trained, in evaluation mode.

    Raises:
        ValueError: the model has no user content.
    """

    def __init__(self, model: LLMInterest) -> None:
        super().__init__()
        if model.user_encoder is None:
            raise ValueError("the model has no user content: its states start from zeros")
        self.profile, self.tracker = EncodedContent("user", model.user_encoder), model.tracker
        self.fields = self.profile.fields
        self.meanings = {"carried": "for step", "user": "for step"}

    def forward(self, inputs: Tensors) -> Tensors:
        """The state before the first event: ``carried``, ``[S, B, H]``, and ``user``, ``[B, U]``."""
        user = self.profile(inputs)
        return {"carried": self.tracker.initial_state(user).carried, "user": user}


class Step(Program):
    """The state before an event to the state after it, and the scores then.

    Args:
        model: trained, in evaluation mode.
        k: as for ``Scorer``.
    """

    def __init__(self, model: LLMInterest, k: int | None = None) -> None:
        super().__init__()
        self.reader, self.tracker, self.scorer = Reader(model, ("batch",)), model.tracker, Scorer(model, k)
        self.neighbours = _event_neighbours(model)
        tracker, hidden = model.tracker, model.tracker.hidden_size
        self.remembered = [
            *(["past"] if tracker.readout is not None else []),
            *(["recent"] if tracker.window is not None else []),
        ]
        rows = "carried" if tracker.encoder.has_attention else tracker.encoder.initial_size
        self.fields = {
            "item": Field(("batch",), "row of the item that is chosen", torch.int64, model.n_items),
            **self.reader.fields,
            **self.scorer.fields,
            "history": Field(
                ("batch", "events"),
                "rows of the items chosen before, 0 in front of shorter histories",
                torch.int64,
                model.n_items,
            ),
            **_codes_of_history(model, "next_codes of the step before; zeros in front of shorter histories"),
            "carried": Field((rows, "batch", hidden), "what the tracker carries: from start, or next_carried"),
        }
        if tracker.readout is not None:
            self.fields["past"] = Field(
                ("batch", "past", hidden), "next_past of the step before; of no length before the first event"
            )
        if tracker.window is not None:
            self.fields["recent"] = Field(
                ("batch", tracker.window.k, tracker.window.size),
                "next_recent of the step before; zeros before the first event",
            )
        if model.user_encoder is not None:
            self.fields["user"] = Field(("batch", model.user_encoder.output_size), "who they are, from start")
        self.meanings = {
            **{f"next_{name}": f"{name} for the next step" for name in ("history", "carried", *self.remembered)},
            **({} if self.neighbours is None else {"next_codes": "codes for the next step"}),
            "interest": "after the event, [batch, width]",
            **self.scorer.meanings,
        }

    def forward(self, inputs: Tensors) -> Tensors:
        """The state after one event a user, ``[B]``, the interest ``[B, D]``, and the scores then."""
        item = inputs["item"]
        neutral = self.tracker.neutral_state(item.shape[0])
        state = InterestState(
            inputs["carried"], inputs.get("past", neutral.past), inputs.get("user"), inputs.get("recent")
        )
        interest, state = self.tracker.step(self.reader(item, inputs), state)
        history = torch.cat([inputs["history"], item[:, None]], dim=1)
        remembered = {f"next_{name}": getattr(state, name) for name in self.remembered}
        if self.neighbours is not None:
            remembered["next_codes"] = torch.cat([inputs["codes"], self.neighbours(inputs)[:, None]], dim=1)
        recent = _recent(remembered.get("next_codes"))
        scores = self.scorer(interest, history, torch.full_like(item, history.shape[1] - 1), inputs, recent)
        return {"next_history": history, "next_carried": state.carried, **remembered, "interest": interest, **scores}


class Choose(Program):
    """The scores after another query, of states that stay as they are; for models with ``context_fields`` only.

    Args:
        model: trained, in evaluation mode.
        k: as for ``Scorer``.
    """

    def __init__(self, model: LLMInterest, k: int | None = None) -> None:
        super().__init__()
        self.scorer = Scorer(model, k)
        self.fields = {
            "interest": Field(("batch", model.item_encoder.output_size), "after the last event, from step"),
            "history": Field(("batch", "events"), "next_history of that step", torch.int64, model.n_items),
            **_codes_of_history(model, "next_codes of that step"),
            **self.scorer.fields,
        }
        self.meanings = self.scorer.meanings

    def forward(self, inputs: Tensors) -> Tensors:
        """Scores from interests ``[B, D]``, histories ``[B, L]`` and what is known before the choice."""
        history = inputs["history"]
        last = torch.full_like(history[:, 0], history.shape[1] - 1)
        scores: Tensors = self.scorer(inputs["interest"], history, last, inputs, _recent(inputs.get("codes")))
        return scores


def _event_neighbours(model: LLMInterest) -> EventNeighboursLayer | None:
    lookup = model.history_bias.event_neighbours
    return None if lookup is None else EventNeighboursLayer(lookup)


def _recent(codes: Tensor | None) -> RecentCodes | None:
    """Looks up the last of the events' codes, ``[B, L, M, K]``; None for a model without."""
    return None if codes is None else partial(last_events, codes)


def _codes_of_history(model: LLMInterest, meaning: str) -> dict[str, Field]:
    """The input for the neighbours of the events before; none for a model without."""
    lookup = model.history_bias.event_neighbours
    if lookup is None:
        return {}
    return {"codes": Field(("batch", "events", *lookup.shape), meaning, torch.int64, model.n_items)}


def programs_of(model: LLMInterest, k: int | None = None) -> dict[str, Program]:
    """Every program of a trained model by its name. It has to be on the CPU.

    Args:
        model: trained.
        k: how many of the best items are scored; None for all.

    Raises:
        SettingsError: there are not so many items.
    """
    if k is not None and not 0 < k < model.n_items:
        raise SettingsError(f"k={k}: the model has {model.n_items - 1} items")
    model.eval()
    with torch.no_grad():
        found: dict[str, Program] = {"score": Score(model, k), "step": Step(model, k)}
        if model.user_encoder is not None:
            found["start"] = Start(model)
        if model.context.side_information is not None:
            found["choose"] = Choose(model, k)
    return {name: program.eval() for name, program in found.items()}
