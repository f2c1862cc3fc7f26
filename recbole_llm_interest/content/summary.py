"""The summary of encoding one modality of the items or users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from recbole_llm_interest.io.pseudonyms import pseudonym
from recbole_llm_interest.settings import ContentSettings, Modality


@dataclass
class EncodingSummary:
    """What became of one modality of the items or users.

    Attributes:
        kind: item or user.
        modality: text, image or audio.
        source: the encoder's name, or the file of precomputed features.
        tokens: number of items or users.
        encoded: tokens whose content was encoded in this run.
        cached: tokens whose features were in the store or in the file of precomputed features.
        missing: tokens without content.
        refused: tokens whose content was rejected, with the reason.
        seconds: duration of the encoding.
    """

    kind: str
    modality: Modality
    source: str
    tokens: int
    encoded: int = 0
    cached: int = 0
    missing: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def pseudonymized(self, settings: ContentSettings) -> EncodingSummary:
        """Return the summary for output: with pseudonyms of users, unless ``name_users`` is set."""
        if self.kind == "item" or settings.name_users:
            return self
        return replace(
            self,
            missing=[pseudonym(token) for token in self.missing],
            refused={pseudonym(token): reason for token, reason in self.refused.items()},
        )

    @property
    def is_incomplete(self) -> bool:
        """Whether content is rejected or missing.

        Users without any content of a modality are common and no problem, and neither are events without one.
        """
        is_used = self.kind == "item" or (self.kind == "user" and self.encoded + self.cached > 0)
        return bool(self.refused) or (bool(self.missing) and is_used)

    def problems(self) -> list[str]:
        """Return a sentence about rejected content and one about missing content; they name the first tokens."""
        of_all = f"of {self.tokens} {self.kind}s"
        sentences = []
        if self.refused:
            names = first_words([f"{token!r} {reason}" for token, reason in self.refused.items()], "; ")
            sentences.append(f"{len(self.refused)} {of_all} have {self.modality} content that cannot be used ({names})")
        if self.missing:
            names = first_words([repr(token) for token in self.missing])
            sentences.append(f"{len(self.missing)} {of_all} have no {self.modality} ({names})")
        return sentences


def first_words(words: Sequence[str], separator: str = ", ", limit: int = 5) -> str:
    """Join the first words, followed by an ellipsis if there are more."""
    return separator.join(words[:limit]) + (f"{separator}…" if len(words) > limit else "")
