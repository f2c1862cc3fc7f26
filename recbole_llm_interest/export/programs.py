"""The trained model as programs: tensors by name in, tensors by name out, and no encoder, data set or Python needed.

``score`` reads a padded history and scores the items. ``step`` does the same event by event, as live interest does:
its state goes in and comes out. ``start`` makes the state of somebody before the first event from what they are.
Users come as features, as the encoders make them: there is nobody's content, and no name, in a program.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from recbole_llm_interest.content.event_times import TIME_FEATURES
from recbole_llm_interest.errors import ExportError, SettingsError
from recbole_llm_interest.model.interest_tracker import InterestState
from recbole_llm_interest.model.item_encoder import ContentFusion
from recbole_llm_interest.model.item_table import ItemTable
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.model.sequence_encoders import TransformerEncoder

Tensors = dict[str, Tensor]

#: sizes that a program is traced with, where attention reaches as far; they all may vary
_EXAMPLE = {"batch": 3, "length": 5, "events": 4, "carried": 4, "past": 4}
_TIMES = {
    "gap": "time since the event before, in the data set's unit: 0 not known, 1 first event, 2 under one unit, else "
    "3 + floor(log2 of it), at most 49",
    "hour": "hour of the day in UTC, 1 to 24; 0 not known",
    "weekday": "1 for Monday to 7 for Sunday, in UTC; 0 not known",
}


@dataclass(frozen=True)
class Field:
    """A tensor that goes into a program.

    Attributes:
        shape: its sizes; a name for one that may vary.
        meaning: in words.
        dtype: of its numbers.
        values: of whole numbers, how many there are, from 0 on.
    """

    shape: tuple[str | int, ...]
    meaning: str
    dtype: torch.dtype = torch.float32
    values: int = 2

    def draw(self, sizes: Mapping[str, int]) -> Tensor:
        """Random values of this kind."""
        shape = [sizes[size] if isinstance(size, str) else size for size in self.shape]
        return torch.randn(shape) if self.dtype.is_floating_point else torch.randint(self.values, shape).to(self.dtype)


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


class Profile(nn.Module):
    """Who a user is, from features of their content, of which any may be missing.

    Args:
        fusion: of users. Its table of users' features stays behind.
    """

    def __init__(self, fusion: ContentFusion) -> None:
        super().__init__()
        self.projections, self.combine, self.missing = fusion.projections, fusion.combine, fusion.missing
        self.conditionings = nn.ModuleDict({name: _Conditioning(fusion, name) for name in fusion.modalities})
        self.fields = {}
        for name, width in fusion.encoded_sizes.items():
            self.fields[f"user_{name}"] = Field(("batch", width), f"users' {name} features, as encoded")
            self.fields[f"has_user_{name}"] = Field(
                ("batch",), f"whether a user has {name}; without, it is not read", torch.bool
            )

    def forward(self, inputs: Tensors) -> Tensor:
        """Representations, ``[B, U]``."""
        names = list(self.conditionings)
        parts = [self.projections[name](self.conditionings[name](inputs[f"user_{name}"])) for name in names]
        present = torch.stack([inputs[f"has_user_{name}"] for name in names], dim=1)
        found: Tensor = self.combine(torch.where(present[..., None], torch.stack(parts, dim=1), self.missing))[0]
        return found


class _Conditioning(nn.Module):
    """Features as encoded to features as the model sees them, in double precision as in training."""

    def __init__(self, fusion: ContentFusion, modality: str) -> None:
        super().__init__()
        fitted = fusion.content[modality].conditioning
        self.is_fitted = fitted is not None
        if fitted is not None:
            self.register_buffer("mean", fitted.mean)
            self.register_buffer("weight", fitted.weight)

    def forward(self, values: Tensor) -> Tensor:
        if not self.is_fitted:
            return values
        mean, weight = self.get_buffer("mean").double(), self.get_buffer("weight").double()
        return ((values.double() - mean) @ weight).float()


class Reader(nn.Module):
    """Events as the tracker reads them: items, and what is known of their times.

    Args:
        model: trained.
        shape: of the inputs, by the names of the sizes.
    """

    def __init__(self, model: LLMInterest, shape: tuple[str, ...]) -> None:
        super().__init__()
        self.register_buffer("representations", model.item_table().representations)
        self.embeddings = model.time_embeddings
        self.fields = {
            f"time_{name}": Field(shape, _TIMES[name], torch.int64, TIME_FEATURES[name]) for name in self.embeddings
        }

    def forward(self, items: Tensor, inputs: Tensors) -> Tensor:
        """Representations of events, with one more dimension than ``items`` has."""
        events = self.get_buffer("representations")[items]
        for name, embedding in self.embeddings.items():
            events = events + embedding(inputs[f"time_{name}"])
        return events


class Scorer(nn.Module):
    """Scores of all items for an interest, with what the history adds; or of the best ``k`` of them.

    Args:
        model: trained.
        k: how many; None for all items.
    """

    def __init__(self, model: LLMInterest, k: int | None) -> None:
        super().__init__()
        self.k = k
        self.history_bias = model.history_bias
        self.temperature = model.temperature
        self.register_buffer("factors", model.item_table().factors)
        if k is None:
            self.meanings = {"scores": "of every item, [batch, items]; that of row 0, which is no item, is -inf"}
        else:
            self.meanings = {
                "scores": f"of the best {k} items, the best first, [batch, {k}]",
                "items": f"their rows in the vocabulary, [batch, {k}]",
            }

    def forward(self, interest: Tensor, item_seq: Tensor, last: Tensor) -> Tensors:
        """From interests ``[B, D]`` after the events at ``last``, ``[B]``, of histories ``[B, L]``."""
        factors = self.get_buffer("factors")
        scores = ItemTable(factors, factors, self.temperature).scores(interest, self.history_bias(item_seq, last))
        if self.k is None:
            return {"scores": scores}
        best = scores.topk(self.k, dim=1)
        return {"scores": best.values, "items": best.indices}


class Score(Program):
    """A padded history to scores.

    Args:
        model: trained, in evaluation mode.
        k: as for ``Scorer``.
    """

    def __init__(self, model: LLMInterest, k: int | None = None) -> None:
        super().__init__()
        self.profile = None if model.user_fusion is None else Profile(model.user_fusion)
        self.reader, self.tracker, self.scorer = Reader(model, ("batch", "length")), model.tracker, Scorer(model, k)
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
            **({} if self.profile is None else self.profile.fields),
        }
        self.meanings = self.scorer.meanings

    def example(self, max_length: int) -> Tensors:
        """As for any program; no history is empty."""
        drawn = super().example(max_length)
        return drawn | {"item_seq_len": torch.ones_like(drawn["item_seq_len"])}

    def forward(self, inputs: Tensors) -> Tensors:
        item_seq, last = inputs["item_seq"], inputs["item_seq_len"] - 1
        if self.profile is None:
            state = self.tracker.neutral_state(item_seq.shape[0])
        else:
            state = self.tracker.initial_state(self.profile(inputs))
        interest = self.tracker(self.reader(item_seq, inputs), state)
        at_last = interest.gather(1, last[:, None, None].expand(-1, -1, interest.shape[2])).squeeze(1)
        scores: Tensors = self.scorer(at_last, item_seq, last)
        return scores


class Start(Program):
    """Who users are to their state before the first event. There is none for models that know no users by content.

    Args:
        model: trained, in evaluation mode.
    """

    def __init__(self, model: LLMInterest) -> None:
        super().__init__()
        if model.user_fusion is None:
            raise ValueError("the model does not know users by content: its states start from zeros")
        self.profile, self.tracker = Profile(model.user_fusion), model.tracker
        self.fields = self.profile.fields
        self.meanings = {"carried": "for step", "user": "for step"}

    def forward(self, inputs: Tensors) -> Tensors:
        user = self.profile(inputs)
        return {"carried": self.tracker.initial_state(user).carried, "user": user}


class Step(Program):
    """One more event: the state before, to the state after and the scores then.

    Args:
        model: trained, in evaluation mode.
        k: as for ``Scorer``.
    """

    def __init__(self, model: LLMInterest, k: int | None = None) -> None:
        super().__init__()
        self.reader, self.tracker, self.scorer = Reader(model, ("batch",)), model.tracker, Scorer(model, k)
        tracker, hidden = model.tracker, model.tracker.hidden_size
        self.has_attention = tracker.readout is not None
        rows = "carried" if isinstance(tracker.encoder, TransformerEncoder) else tracker.encoder.initial_size
        self.fields = {
            "item": Field(("batch",), "row of the item that is chosen", torch.int64, model.n_items),
            **self.reader.fields,
            "history": Field(
                ("batch", "events"),
                "rows of the items chosen before, 0 in front of shorter histories",
                torch.int64,
                model.n_items,
            ),
            "carried": Field((rows, "batch", hidden), "what the tracker carries: from start, or next_carried"),
        }
        if self.has_attention:
            self.fields["past"] = Field(
                ("batch", "past", hidden), "next_past of the step before; of no length before the first event"
            )
        if model.user_fusion is not None:
            self.fields["user"] = Field(("batch", model.user_fusion.output_size), "who they are, from start")
        self.meanings = {
            **{f"next_{name}": f"{name} for the next step" for name in ("history", "carried")},
            **({"next_past": "past for the next step"} if self.has_attention else {}),
            "interest": "after the event, [batch, width]",
            **self.scorer.meanings,
        }

    def forward(self, inputs: Tensors) -> Tensors:
        item = inputs["item"]
        neutral = self.tracker.neutral_state(item.shape[0])
        state = InterestState(inputs["carried"], inputs.get("past", neutral.past), inputs.get("user"))
        interest, state = self.tracker.step(self.reader(item, inputs), state)
        history = torch.cat([inputs["history"], item[:, None]], dim=1)
        past = {"next_past": state.past} if self.has_attention else {}
        scores = self.scorer(interest, history, torch.full_like(item, history.shape[1] - 1))
        return {"next_history": history, "next_carried": state.carried, **past, "interest": interest, **scores}


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
        if model.user_fusion is not None:
            found["start"] = Start(model)
    return {name: program.eval() for name, program in found.items()}


def trace(program: Program, max_length: int) -> ExportedProgram:
    """A program as torch keeps it, without Python, for any number of users and any length of their histories.

    Args:
        program: of ``programs_of``.
        max_length: events that a tracker with attention reads at once.

    Raises:
        ExportError: torch cannot follow it.
    """
    tracker = getattr(program, "tracker", None)
    has_attention = tracker is not None and isinstance(tracker.encoder, TransformerEncoder)
    sizes = {name: Dim(name) for name in ("batch", "events")} | dict.fromkeys(("carried", "past"), Dim.DYNAMIC)
    sizes["length"] = Dim("length", max=max_length) if has_attention else Dim.DYNAMIC
    shapes = {
        name: {place: sizes[size] for place, size in enumerate(field.shape) if isinstance(size, str)}
        for name, field in program.fields.items()
    }
    example = program.example(max_length)
    try:
        with torch.no_grad(), traceable():
            exported = torch.export.export(program, (example,), dynamic_shapes=(shapes,))
    except Exception as error:  # torch has a dozen kinds for what it cannot follow, in pages
        reason = str(error).strip().split("\n")[0]
        raise ExportError(
            f"{type(program).__name__.lower()} cannot be exported by torch {torch.__version__}: {reason}"
        ) from error
    exported.example_inputs = None  # they would be written as a pickle
    for module in exported.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            node.meta.pop("stack_trace", None)  # it names this machine's folders
    return exported


@contextmanager
def traceable() -> Iterator[None]:
    """Let torch keep recurrent layers whole, whatever the length, by its own patches, which torch.onnx uses as well.

    And attention in plain operations, of which every runtime knows some, not in the one that is fast on this machine.
    """
    from torch.export._patches import register_gru_while_loop_decomposition, register_lstm_while_loop_decomposition

    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # of torch about itself
        stack.enter_context(register_lstm_while_loop_decomposition())
        stack.enter_context(register_gru_while_loop_decomposition())
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        torch.backends.mha.set_fastpath_enabled(False)
        yield
