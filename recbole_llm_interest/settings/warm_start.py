"""The settings of a training that starts from a trained model."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import NonNegativeFloat, PositiveFloat
from pydantic.dataclasses import dataclass

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.settings.declaration import setting

#: attributes of LLMInterest that hold its parts
ModelPart: TypeAlias = Literal["item_encoder", "user_encoder", "event_encoder", "context", "tracker", "history_bias"]


@dataclass(frozen=True)
class WarmStartSettings:
    """What a training starts from, which events and weights it learns, and how long it may take."""

    init_from: str | None = setting(
        None,
        "checkpoint, exported folder or hub name whose weights training starts from; the data may have other items",
        section="Warm start",
    )
    init_conditioning: Literal["source", "target"] = setting(
        "source", "conditioning of frozen features: that of init_from, or one that is fitted to this data set"
    )
    replay: NonNegativeFloat | None = setting(
        None,
        "with init_from: targets in an epoch that are drawn from histories without new events, for each new target; ~ "
        "for all events",
    )
    replay_by: Literal["time", "items"] = setting(
        "time",
        "new targets for replay: those since the last training event of init_from, or of items that it does not have",
    )
    init_anew: tuple[ModelPart, ...] = setting(
        (), "parts of the model that do not start from init_from, such as history_bias in a shop with other habits"
    )
    frozen: tuple[ModelPart, ...] = setting((), "parts of the model whose weights stay as they are")
    minutes: PositiveFloat | None = setting(
        None, "minutes after which training ends, in the middle of an epoch if need be; ~ for no limit"
    )


def check_warm_start(model: str, settings: WarmStartSettings, processes: int = 1) -> None:
    """Check that what a model starts from, replays and freezes, and how long it may take, can be meant.

    Args:
        model: name of the model.
        settings: of its training.
        processes: that train it.

    Raises:
        SettingsError: the model is not ours, ``replay`` has nothing that it is relative to, or ``minutes`` is set for
            several processes.

    Example:
        >>> check_warm_start("LLMInterest", WarmStartSettings(replay=1.0))
        Traceback (most recent call last):
        ...
        recbole_llm_interest.errors.SettingsError: replay needs init_from: ...
    """
    if settings.replay is None and settings.replay_by != "time":
        raise SettingsError(f"replay_by={settings.replay_by} needs replay: without it, an epoch has all events")
    if settings.init_from is None:
        _check_without_source(settings)
    if model != "LLMInterest":
        _check_other_model(model, settings)
    if settings.minutes is not None and processes > 1:
        raise SettingsError("minutes needs a training by one process: set it to ~, or nproc=1")


def _check_without_source(settings: WarmStartSettings) -> None:
    if settings.replay is not None:
        raise SettingsError("replay needs init_from: events from before its last training event are replayed")
    if settings.init_anew:
        raise SettingsError("init_anew needs init_from: without it, all parts of a model start anew")


def _check_other_model(model: str, settings: WarmStartSettings) -> None:
    if settings.init_from is not None:
        raise SettingsError(f"init_from is for LLMInterest: {model} starts from random weights")
    for name in ("frozen", "minutes"):
        if getattr(settings, name):
            raise SettingsError(f"{name} is for LLMInterest: it has no effect on {model}")
