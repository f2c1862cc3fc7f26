"""The words and phrases of an item's text that may name a group of items."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

#: function words of other European languages that have three letters or more
_FUNCTION_WORDS = set(
    re.findall(
        r"\w+",
        "les des une aux dans pour avec sur par qui que est der die das und den dem ein eine einer mit von vom zum zur "
        "für auf ist nicht los las del una con por para como gli dei della delle nel che dos uma com não het een van "
        "voor och att som det",
    )
)
_STOP_WORDS = ENGLISH_STOP_WORDS | _FUNCTION_WORDS
#: fewer letters make no name; a letter of Hangul is a syllable
_MIN_LETTERS, _MIN_HANGUL = 3, 2
#: the name of a column before its value, as ``text_writer`` writes it
_COLUMN = re.compile(r"(^|, )\w+: ")
#: punctuation and symbols; neither the hyphen nor the apostrophe, which are parts of words
_PUNCTUATION = re.compile(
    r"[!-&(-,./:-@\[-`{-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\xd7\xf7\u060c\u061b\u061f\u0964\u0965\u2012-\u2018\u201a-\u2bff"
    r"\u3000-\u303f\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]+"
)
#: what is part of a word only between letters
_INNER = "-'\u2019"
_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_KATAKANA, _HIRAGANA = r"\u30a1-\u30fa\u30fc-\u30ff", r"\u3040-\u309f"
#: writing without spaces: runs of one script in it; hiragana, which Japanese function words are written in, are none
_UNSPACED = re.compile(f"[{_HAN}{_KATAKANA}{_HIRAGANA}]")
_RUN = re.compile(f"(?P<han>[{_HAN}]+)|[{_KATAKANA}]+|[^{_HAN}{_KATAKANA}{_HIRAGANA}]+")
#: characters of Chinese function words
_HAN_FUNCTION = re.compile("[的了是在与與及之我你他她它这這]")
#: lengths of the n-grams of Han characters that may be words
_HAN_LENGTHS = (2, 3, 4)


def terms_of_text(text: str) -> set[str]:
    """The words of a text in lower case, and phrases of two, without numbers, function words and names of columns.

    Chinese and Japanese are written without spaces. There, a run of katakana is a word, and so is every n-gram of two
    to four Han characters; those of parts of words are as rare as the word, so the longest names the group.

    Example:
        >>> sorted(terms_of_text("title: The Long Train, 1995, genres: Sci-Fi"))
        ['long', 'long train', 'sci-fi', 'train']
        >>> sorted(terms_of_text("星际旅行"))
        ['旅行', '星际', '星际旅', '星际旅行', '际旅', '际旅行']
    """
    terms: set[str] = set()
    for segment in _PUNCTUATION.split(_COLUMN.sub(r"\1", text).lower()):
        before = ""
        for token in segment.split():
            if _UNSPACED.search(token):
                terms.update(_unspaced_terms(token))
                before = ""
                continue
            word = token.strip(_INNER)
            if not _is_name(word):
                word = ""
            elif before:
                terms.update((word, f"{before} {word}"))
            else:
                terms.add(word)
            before = word
    return terms


def carries_term(text: str, term: str) -> bool:
    """Whether a text has a word or phrase of ``terms_of_text``, as a whole: Sci-Fi does not carry sci.

    Example:
        >>> carries_term("genres: Sci-Fi", "sci-fi"), carries_term("genres: Sci-Fi", "sci")
        (True, False)
    """
    values = _COLUMN.sub(r"\1", text).lower()
    return term in values if _UNSPACED.search(term) else _pattern(term).search(values) is not None


def _unspaced_terms(token: str) -> Iterator[str]:
    """The terms of a token in which Han characters or kana occur."""
    for run in _RUN.finditer(token):
        if not run["han"]:
            if _is_name(run[0]):
                yield run[0]
            continue
        for part in _HAN_FUNCTION.split(run[0]):
            for length in _HAN_LENGTHS:
                yield from (part[start : start + length] for start in range(len(part) - length + 1))


def _is_name(word: str) -> bool:
    """Whether it has letters enough, no digit, and is no function word."""
    least = _MIN_HANGUL if "\uac00" <= word[:1] <= "\ud7a3" else _MIN_LETTERS
    return len(word) >= least and word not in _STOP_WORDS and not any(map(str.isdigit, word))


@lru_cache(maxsize=1024)
def _pattern(term: str) -> re.Pattern[str]:
    words = r"\s+".join(map(re.escape, term.split()))
    return re.compile(rf"(?<!\w)(?<!\w[{_INNER}]){words}(?!\w)(?![{_INNER}]\w)")
