"""Short texts about interests, users and recommendations, by a language model that is held to given facts.

The model proposes, and a check decides: a text is refused if it names anything beyond the facts, or leaves out a
required one. If all are refused, the text lists the facts, and the result says so. Scores do not depend on it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from recbole_llm_interest.recommender.explanation import Explanation
from recbole_llm_interest.recommender.interests import Interest
from recbole_llm_interest.recommender.words import terms_of_text

_NAME_TOKENS, _SENTENCE_TOKENS = 12, 48
#: events of a history, and categories, that a profile is written of
_EVENTS, _CATEGORIES = 3, 3
#: letters that two forms of a word begin with, at least
_STEM = 4
#: what forms of a word end in after that: comedy and comedies, drama and dramatic
_ENDINGS = frozenset(["", *re.findall(r"\w+", "s es e y ies ed er ers ing ion ic tic ical al ous ious ful ly")])
#: pairs of endings that are forms of one another alone: romance and romantic
_PAIRED_ENDINGS = frozenset({frozenset(("ce", "tic"))})
_NEGATION = re.compile(r"\b(no|not|never|nor|neither|none|without|hardly|cannot)\b|n['\u2019]t\b")
_WORD = re.compile(r"[^\W\d_][\w'\u2019-]*")
_NUMBER = re.compile(r"\d+")
#: words that name nothing, beside function words
_PLAIN = frozenset(
    re.findall(
        r"\w+",
        "like likes liked enjoy enjoys enjoyed watch watched watches read reads chose chosen choose chooses want wants "
        "recommend recommended recommends user users item items mostly mainly also recent recently interest interested "
        "interests about because stories story last latest",
    )
)
_NAMES = """\
Attributes: Documentary, War
Name: documentaries about war
Attributes: Comedy, Romance
Name: romantic comedies
Attributes: Jazz
Name: jazz
Attributes: knife, kitchen
Name: kitchen knives
Attributes: {facts}
Name:"""
_PROFILES = """\
Facts: mostly Horror, Thriller; last chosen: Psycho
Sentence: The user mostly likes horror and thrillers, and has last chosen Psycho.
Facts: mostly garden tools; last chosen: Steel Rake, Hand Trowel
Sentence: The user mostly likes garden tools, and has last chosen Steel Rake and Hand Trowel.
Facts: {facts}
Sentence:"""
_REASONS = """\
Facts: recommended: Aliens; because of: Alien, The Thing
Sentence: Aliens is recommended because you chose Alien and The Thing.
Facts: recommended: Bread Knife; because of: Cutting Board
Sentence: Bread Knife is recommended because you chose Cutting Board.
Facts: {facts}
Sentence:"""


class Continues(Protocol):
    """What a writer needs of a language model.

    Example:
        >>> from recbole_llm_interest.recommender.language_model import LanguageModel
        >>> callable(LanguageModel.continuations)
        True
    """

    def continuations(self, prompt: str, tokens: int) -> list[str]:
        """Continuations of a text, the best first."""
        ...


@dataclass(frozen=True)
class WrittenText:
    """A text with the facts that it was made of.

    Attributes:
        text: one line.
        facts: all that the model was told.
        is_written: whether the words are the model's; otherwise the facts stand by themselves.

    Example:
        >>> WrittenText("war dramas", ("War", "Drama"), is_written=True).text
        'war dramas'
    """

    text: str
    facts: tuple[str, ...]
    is_written: bool


class Writer:
    """Writes about what a recommender knows.

    Args:
        model: that proposes texts.

    Example:
        >>> class Fixed:
        ...     def continuations(self, prompt, tokens):
        ...         return ["films by Spielberg about war", "war dramas"]
        >>> Writer(Fixed()).name(Interest("War", 0.5, (), 0.9, ("War", "Drama")))
        WrittenText(text='war dramas', facts=('War', 'Drama'), is_written=True)
    """

    def __init__(self, model: Continues) -> None:
        self._model = model

    def name(self, interest: Interest) -> WrittenText:
        """A name of an interest, of the attributes that its items carry; all of them are named."""
        facts = interest.attributes
        if not facts:
            return WrittenText(interest.name, (interest.name,), is_written=False)
        prompt = _NAMES.format(facts=", ".join(facts))
        return self._written(prompt, facts, _NAME_TOKENS, " and ".join(facts), required=facts)

    def profile(self, titles: Sequence[str], categories: Sequence[Sequence[str]]) -> WrittenText:
        """A sentence on a user: the most frequent categories of the history and its last items.

        Args:
            titles: of the history's items, in chronological order; at least one.
            categories: of the same items.
        """
        counts = Counter(name for of_item in categories for name in dict.fromkeys(of_item)).most_common(_CATEGORIES)
        frequent = [name for name, count in counts if 2 * count >= len(titles)]
        last = list(dict.fromkeys(reversed(titles)))[:_EVENTS]
        parts = [f"mostly {', '.join(frequent)}"] if frequent else []
        told = "; ".join([*parts, f"last chosen: {', '.join(last)}"])
        facts = (*frequent, *last)
        required = (*frequent, last[0])
        return self._written(_PROFILES.format(facts=told), facts, _SENTENCE_TOKENS, f"{told}.", required=required)

    def reason(self, explanation: Explanation, title: str) -> WrittenText:
        """A sentence on a recommendation, of the events with the largest positive parts in its score.

        Args:
            explanation: of the recommendation.
            title: of the recommended item.
        """
        causes = [part.title for part in explanation.of_user if part.points > 0 and part.title][:2]
        if not causes:
            return WrittenText(f"{title} is recommended.", (title,), is_written=False)
        told = f"recommended: {title}; because of: {', '.join(causes)}"
        facts = (title, *causes)
        return self._written(_REASONS.format(facts=told), facts, _SENTENCE_TOKENS, f"{told}.", required=facts)

    def _written(
        self, prompt: str, facts: Sequence[str], tokens: int, plain: str, required: Sequence[str]
    ) -> WrittenText:
        """The first proposal that is grounded in the facts and has all of ``required``; else ``plain``."""
        for text in self._model.continuations(prompt, tokens):
            if self.is_grounded(text, facts) and all(_mentions(text, fact) for fact in required):
                return WrittenText(text, tuple(facts), is_written=True)
        return WrittenText(plain, tuple(facts), is_written=False)

    @staticmethod
    def is_grounded(text: str, facts: Sequence[str]) -> bool:
        """Whether a text names nothing beyond the facts, and denies nothing.

        Its numbers are those of facts. Each of its words is a form of one in the facts, a function word, or one of some
        plain verbs and nouns, such as chosen and user. Words such as not and never are those of facts.

        Example:
            >>> Writer.is_grounded("stories of war", ["War"]), Writer.is_grounded("a war comedy", ["War"])
            (True, False)
            >>> Writer.is_grounded("war films by Kubrick", ["War"]), Writer.is_grounded("war in 1945", ["War"])
            (False, False)
        """
        told = " ".join(facts)
        known = [word.lower() for word in _WORD.findall(told)]
        words = [word.lower() for word in _WORD.findall(text)]
        if _NEGATION.search(text.lower()) and not _NEGATION.search(told.lower()):
            return False
        return set(_NUMBER.findall(text)) <= set(_NUMBER.findall(told)) and all(
            word in _PLAIN or not terms_of_text(word) or any(_is_form(word, other) for other in known) for word in words
        )


def _mentions(text: str, fact: str) -> bool:
    """Whether a text has each word of a fact, in any form; of a fact of numbers or function words, each as it is."""
    words = [*map(str.lower, _WORD.findall(text)), *_NUMBER.findall(text)]
    told = [*map(str.lower, _WORD.findall(fact)), *_NUMBER.findall(fact)]
    needed = [word for word in told if terms_of_text(word)] or told
    return all(any(_is_form(word, need) for word in words) for need in needed)


def _is_form(word: str, other: str) -> bool:
    """Whether two words, in lower case, are forms of one: after what they share, they have known endings."""
    if word.removesuffix("s") == other.removesuffix("s"):
        return True
    stem = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(word, other, strict=False)))
    endings = frozenset((word[stem:], other[stem:]))
    return stem >= _STEM and (endings <= _ENDINGS or endings in _PAIRED_ENDINGS)
