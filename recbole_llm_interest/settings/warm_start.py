"""The settings of a training that starts from a trained model."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat
from pydantic.dataclasses import dataclass

from recbole_llm_interest.settings.declaration import setting


@dataclass(frozen=True)
class WarmStartSettings:
    """What a training starts from, which events and weights it learns, and how long it may take."""

    init_from: str | None = setting(
        None,
        "checkpoint whose weights the training starts from; the data set may have other items",
        section="Warm start",
    )
    init_conditioning: Literal["source", "target"] = setting(
        "source", "conditioning of frozen features: that of init_from, or one that is fitted to this data set"
    )
    replay: NonNegativeFloat | None = setting(
        None,
        "with init_from: targets from before its last training event in an epoch, drawn at random, for each one since "
        "then; ~ for all",
    )
    frozen: tuple[
        Literal["item_encoder", "user_encoder", "event_encoder", "context", "tracker", "history_bias"], ...
    ] = setting((), "parts of the model whose weights stay as they are")
    minutes: PositiveFloat | None = setting(
        None, "minutes after which training ends, in the middle of an epoch if need be; ~ for no limit"
    )
