"""How much of the texts a text encoder can read: models of one language do not know the letters of others."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from recbole_llm_interest.content.blobs import Blob, Text
from recbole_llm_interest.io.opening import is_there

_logger = logging.getLogger(__name__)
#: texts that are looked at
_SAMPLE = 500
#: shares of letters above which a line is logged: of those beyond ASCII that are not read, and of these in all letters
_UNREAD, _FOREIGN = 0.2, 0.1
#: from here on, a letter is a word or a syllable, so that a token of one letter has a meaning
_FIRST_IDEOGRAPH = 0x2E80


class Reading(NamedTuple):
    """What a tokenizer makes of texts.

    Attributes:
        letters: number of letters.
        foreign: number of letters beyond ASCII.
        unread: number of these in words with an unknown token, or that are spelt letter by letter.
        example: the first text with such a word; empty if there is none.
    """

    letters: int
    foreign: int
    unread: int
    example: str

    @property
    def is_poor(self) -> bool:
        """Whether letters beyond ASCII matter, and too many of them are not read."""
        return self.foreign > _FOREIGN * self.letters and self.unread > _UNREAD * self.foreign


def warn_of_unread_letters(encoder: Any, blobs: Iterable[Blob], of: str) -> None:
    """Log one line if an encoder cannot read the texts.

    Args:
        encoder: that reads them. Nothing is logged without a ``folder`` that has a ``tokenizer.json``.
        blobs: to encode, of which a sample of the texts is looked at.
        of: what they are of, for the message: ``items``.
    """
    folder = getattr(encoder, "folder", None)
    texts = [blob.text for blob in blobs if isinstance(blob, Text)]
    if not texts or not isinstance(folder, Path) or not is_there(folder / "tokenizer.json"):
        return
    if find_spec("tokenizers") is None:
        return
    sample = texts[:: math.ceil(len(texts) / _SAMPLE)]
    try:
        reading = read_letters(folder, [text.encode(errors="replace").decode() for text in sample])
    except Exception:  # tokenizers' own, of a damaged file: the encoder names it when it loads
        return
    if reading.is_poor:
        _logger.warning(
            "text encoder %s does not know %.0f%% of the letters beyond a-z in %s' texts, such as %r: name one that "
            "reads them, such as text_encoder=multilingual",
            *(encoder.name, 100 * reading.unread / reading.foreign, of, reading.example[:60]),
        )


def read_letters(folder: Path, texts: Sequence[str]) -> Reading:
    """Count the letters that a model's tokenizer reads, and those that it does not.

    Args:
        folder: of the model, with a ``tokenizer.json``.
        texts: any number of them.
    """
    from tokenizers import Tokenizer  # here because features of the store need no package of encoders

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    letters = foreign = unread = 0
    example = ""
    for text, encoding in zip(texts, tokenizer.encode_batch(list(texts), add_special_tokens=False), strict=True):
        letters += sum(map(str.isalpha, text))
        foreign += _foreign(text)
        lost = sum(_foreign(word) for word, is_read in _words(text, encoding, _unknown(tokenizer)) if not is_read)
        unread, example = unread + lost, example or (text if lost else "")
    return Reading(letters, foreign, unread, example)


def _foreign(text: str) -> int:
    return sum(letter.isalpha() and not letter.isascii() for letter in text)


def _unknown(tokenizer: Any) -> set[str]:
    """Tokens that stand for what the vocabulary lacks."""
    return {token.content for token in tokenizer.get_added_tokens_decoder().values() if "unk" in token.content.lower()}


def _words(text: str, encoding: Any, unknown: set[str]) -> Iterator[tuple[str, bool]]:
    """Yield the words of a text, and whether the tokenizer reads each."""
    tokens = zip(encoding.word_ids, encoding.offsets, encoding.tokens, strict=True)
    for _, group in groupby(tokens, key=lambda token: token[0]):
        parts = list(group)
        word = text[min(start for _, (start, _), _ in parts) : max(end for _, (_, end), _ in parts)]
        yield word, not any(token in unknown for _, _, token in parts) and not _is_spelt(word, len(parts))


def _is_spelt(word: str, tokens: int) -> bool:
    """Whether a word has as many tokens as letters; of syllables and ideographs, more tokens than letters."""
    letters = sum(map(str.isalpha, word))
    is_alphabetic = all(ord(letter) < _FIRST_IDEOGRAPH for letter in word)
    return tokens > max(letters, 1) or (is_alphabetic and tokens == letters > 1)
