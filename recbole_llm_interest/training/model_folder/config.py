"""What the JSON files of an exported folder say, and its check."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt

from recbole_llm_interest.content.event_fields import EVENT_KINDS, EventField


def _check_kinds(values: dict[str, Any]) -> dict[str, Any]:
    if not {"item", "user"} <= values.keys() <= {"item", "user", *EVENT_KINDS}:
        raise ValueError("it has to have item and user")
    return values


class FolderConfig(BaseModel):
    """What ``config.json`` says of a model.

    Example:
        >>> sorted(name for name, field in FolderConfig.model_fields.items() if not field.is_required())
        ['data', 'event_fields', 'time_unit', 'trained_until']
    """

    model_config = ConfigDict(strict=True)

    dataset: str
    counts: dict[str, NonNegativeInt]
    data: dict[str, str] = {}  # folders of version 0.1.0 do not say
    id_fields: Annotated[dict[str, str], AfterValidator(_check_kinds)]
    time_unit: Literal["s", "ms"] | None = None
    trained_until: FiniteFloat | None = None
    max_length: int = Field(ge=1, lt=2**31)
    encoders: Annotated[dict[str, dict[str, str]], AfterValidator(_check_kinds)]
    settings: dict[str, Any]
    event_fields: dict[
        str, Annotated[Any, AfterValidator(EventField.restored)]
    ] = {}  # folders of version 0.1.0 have none
    sha256: dict[str, str]


class Texts(BaseModel):
    """Texts, titles and categories of items, by their ids.

    Example:
        >>> Texts.model_validate({"labels": {"i1": "A film about chess"}}).texts
        {}
    """

    model_config = ConfigDict(strict=True)

    texts: dict[str, str] = {}
    labels: dict[str, str] = {}
    categories: dict[str, list[str]] = {}  # folders of version 0.1.0 have none
