"""Types and ranges of RecBole's own settings, whose wrong values RecBole reports late, unclearly or never."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat, StrictBool, TypeAdapter, ValidationError

from recbole_llm_interest.settings.reading import invalid_value

# integers are strict: RecBole does not convert texts of files
_Natural = Annotated[int, Field(ge=0, strict=True)]
_Positive = Annotated[int, Field(gt=0, strict=True)]
#: numpy takes no other seeds
_Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
#: one k, or several
_Ks = Annotated[list[_Positive], Field(min_length=1), BeforeValidator(lambda k: [k] if isinstance(k, int) else k)]
_Switch = StrictBool | Literal[0, 1]
#: RecBole takes these names in any case, and trains by Adam after a warning if it does not know the name
_Learner = Annotated[
    Literal["adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam"],
    BeforeValidator(lambda name: name.lower() if isinstance(name, str) else name),
]
_TYPES: dict[str, Any] = {
    "epochs": _Natural,
    "train_batch_size": _Positive,
    "eval_batch_size": _Positive,
    "learning_rate": PositiveFloat,
    "weight_decay": NonNegativeFloat,
    "learner": _Learner,
    "eval_step": _Natural,
    "stopping_step": _Natural,
    "MAX_ITEM_LIST_LENGTH": _Positive,
    "seed": _Seed,
    "topk": _Ks,
    "worker": _Natural,
    **dict.fromkeys(("use_gpu", "show_progress", "reproducibility", "shuffle", "repeatable", "save_dataset"), _Switch),
    **dict.fromkeys(("log_wandb", "save_dataloaders", "enable_amp", "enable_scaler"), _Switch),
}


def check_recbole_values(given: Mapping[str, Any]) -> None:
    """Check the values of RecBole's own settings that every model has.

    Args:
        given: the settings of a user, by key; other keys are not looked at.

    Raises:
        SettingsError: a value has the wrong type or is out of range.

    Example:
        >>> check_recbole_values({"learning_rate": -1})
        Traceback (most recent call last):
        ...
        recbole_llm_interest.errors.SettingsError: learning_rate=-1 is not a value of this setting: ...
    """
    for key, kind in _TYPES.items():
        if key in given:
            try:
                TypeAdapter(kind).validate_python(given[key])
            except ValidationError as error:
                raise invalid_value(key, given[key], error) from error
