"""What a model reads of events beside their items."""

from __future__ import annotations

from dataclasses import dataclass, field

from recbole_llm_interest.content.event_fields import EventField
from recbole_llm_interest.content.features import Content


@dataclass(frozen=True)
class EventInputs:
    """What a model reads of events, or of what is known before an item is chosen.

    Attributes:
        content: features of distinct contents by modality, of which row 0 is none.
        fields: the columns that are embedded.

    Example:
        >>> bool(EventInputs()), bool(EventInputs(fields=(EventField.fitted("device", ["phone"]),)))
        (False, True)
    """

    content: Content = field(default_factory=dict)
    fields: tuple[EventField, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.content or self.fields)


#: nothing
NO_INPUTS = EventInputs()
