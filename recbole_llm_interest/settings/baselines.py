"""The settings of the baselines, in RecBole's configuration of a run of each."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from recbole_llm_interest.settings.declaration import setting

_Weighting = Literal["same", "div", "linear", "log", "quadratic"]


@dataclass(frozen=True)
class RecentPopSettings:
    """Popularity in the last days."""

    popularity_days: PositiveFloat = setting(
        7.0, "days before the predicted event in which events are counted", section="Baseline RecentPop"
    )


@dataclass(frozen=True)
class VSKNNSettings:
    """Nearest neighbours among the training histories."""

    k: PositiveInt = setting(100, "nearest training histories that are read", section="Baseline VSKNN")
    sample_size: PositiveInt | None = setting(
        None, "latest of the histories that share an item, of which the nearest are chosen; ~ for all"
    )
    weighting: _Weighting = setting("div", "decrease of an event's weight in the similarity with its age")
    score_weighting: _Weighting = setting("div", "decrease of a neighbour's weight with the age of what it shares")
    idf_weighting: NonNegativeFloat = setting(0.0, "weight of rare items in the score, by their IDF; 0 for none")


@dataclass(frozen=True)
class TransitionTextSettings:
    """Transitions over one and two steps, and similar texts."""

    history_decay: float = setting(
        0.5, "weight of an event relative to the event after it", section="Baseline TransitionText", gt=0, le=1
    )
    reverse_weight: NonNegativeFloat = setting(0.5, "weight of a transition from the later item to the earlier one")
    two_apart_weight: NonNegativeFloat = setting(0.25, "weight of a transition over an item between the two")
    hop_weight: NonNegativeFloat = setting(0.5, "weight of two transitions in a row")
    text_weight: NonNegativeFloat = setting(0.2, "weight of the cosine of the items' TF-IDF vectors; 0 for no texts")


@dataclass(frozen=True)
class BaselineRecBoleSettings:
    """RecBole's own settings that have another default for baselines. RecBole reads them, not this package."""

    MAX_ITEM_LIST_LENGTH: PositiveInt = setting(
        1000,
        "latest events of a history that a baseline reads",
        section="RecBole's settings with another default for baselines",
    )
    loss_type: Literal["CE"] = setting("CE", "no negatives are sampled; baselines have no loss")
    train_neg_sample_args: dict[str, Any] | None = setting(None, "RecBole's negative sampling, which is not used")


#: the groups of each baseline's own settings, by the model's name
BASELINE_SETTINGS: dict[str, tuple[type[Any], ...]] = {
    "RepeatLast": (),
    "RecentPop": (RecentPopSettings,),
    "MostRecent": (),
    "VSKNN": (VSKNNSettings,),
    "TransitionText": (TransitionTextSettings,),
    "BM25": (),
    "NearestText": (),
}
