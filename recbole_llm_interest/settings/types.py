"""Types of settings that have rules of their own."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, ValidationInfo

from recbole_llm_interest.settings.registry import REGISTRIES, known_names

#: kinds of content, in the order of tables and reports
Modality = Literal["text", "image", "audio"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)


def _check_registered(value: str, info: ValidationInfo) -> str:
    registry = REGISTRIES.get(info.field_name or "")
    if registry is not None and value not in registry:  # without the registry's module, every value passes
        raise ValueError(known_names(value, registry))
    return value


#: type of a setting whose values are the names in ``REGISTRIES[setting]``
RegisteredName = Annotated[str, AfterValidator(_check_registered)]


def _check_repeat_context(value: bool, info: ValidationInfo) -> bool:
    if value and not info.data.get("repeat_bias", True):
        raise ValueError(
            "repeat_context refines repeat_bias, which is off: set repeat_bias=True, or repeat_context=False"
        )
    return value


#: type of `repeat_context`, which the setting before it may exclude
RepeatContext = Annotated[bool, AfterValidator(_check_repeat_context)]


def _check_moment(value: Any) -> float | str:
    """Return a quantile as a float, or a date as text: YAML makes dates of their own type of unquoted ones."""
    try:
        quantile = float(value)
    except (TypeError, ValueError):
        return datetime.fromisoformat(str(value)).isoformat()
    if not 0 < quantile < 1:
        raise ValueError(f"{value} is no quantile between 0 and 1, nor an ISO date such as '2011-09-30'")
    return quantile


#: a quantile of event times, or an ISO date
Moment = Annotated[float | str, BeforeValidator(_check_moment)]
