"""Who is to be erased, how files write their ids, and what was done."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from recbole_llm_interest.errors import StorageError
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.io.files import write_atomically
from recbole_llm_interest.io.opening import FileKind, FileReadError, open_file

#: any file that may hold an id: it is read in blocks
ANY_FILE = FileKind("file", StorageError, None, "allow this user to read it")
#: what is before and after an id in the formats of this package: quotes, tabs, ends of lines, tags
_BEFORE, _AFTER = rb"(?<![^\t\r\n\"'`>])", rb"(?![^\t\r\n\"'`<\\])"
_SHORT_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}


@dataclass(frozen=True)
class Forgotten:
    """Users or items to erase.

    Attributes:
        kind: ``user`` or ``item``.
        id_field: column of their ids.
        tokens: their ids.
    """

    kind: str
    id_field: str
    tokens: frozenset[str]

    @cached_property
    def json_member(self) -> re.Pattern[bytes]:
        """Matches the id column with one of the ids in JSON, also in a line that is not JSON as a whole."""
        numbers = [token for token in self.tokens if re.fullmatch(r"-?[0-9]+", token)]
        number = b"|".join(re.escape(token.encode()) for token in numbers) or b"(?!)"
        key = b'(?<!\\\\)"' + _as_json(self.id_field) + b'"'
        return re.compile(key + b'\\s*:\\s*(?:"(?:%b)"|(?:%b)(?![0-9.eE]))' % (self._json, number))

    @cached_property
    def quoted(self) -> re.Pattern[bytes]:
        """Matches one of the ids between quotes, tabs, ends of lines or tags, with any format's escapes."""
        texts = {text for token in self.tokens for text in (token, one_line(token), repr(token)[1:-1])}
        forms = _any_of({form for text in texts for form in (text, *_in_html(text))})
        return re.compile(_BEFORE + b"(?:%b|%b)" % (forms, self._json) + _AFTER)

    @cached_property
    def in_report(self) -> re.Pattern[bytes]:
        """Matches one of the ids as a report names it, also in the comments of its drawings."""
        forms = _any_of({form for token in self.tokens for form in (token, *_in_html(one_line(token)))})
        return re.compile(b"(?:user |<!-- )(?:%b)(?![^ <,:;.)])|" % forms + self.quoted.pattern)

    @cached_property
    def _json(self) -> bytes:
        return b"|".join(map(_as_json, sorted(self.tokens)))


def _any_of(forms: Iterable[str]) -> bytes:
    return b"|".join(re.escape(form.encode("utf-8", "surrogatepass")) for form in sorted(forms))


def _in_html(text: str) -> tuple[str, str]:
    """A text in HTML as Python and as Jinja escape it."""
    escaped = html.escape(text)
    return escaped, escaped.replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


def _as_json(text: str) -> bytes:
    """A pattern of a text inside a JSON string: each character as it is or escaped."""
    return b"".join(map(_json_character, text))


def _json_character(character: str) -> bytes:
    units = character.encode("utf-16-be", "surrogatepass")
    escaped = b"".join(b"\\\\u(?i:%04x)" % int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2))
    forms = [escaped]
    if character in _SHORT_ESCAPES:
        forms.append(re.escape(f"\\{_SHORT_ESCAPES[character]}".encode()))
    if character not in '"\\':
        forms.append(re.escape(character.encode("utf-8", "surrogatepass")))
    return b"(?:%b)" % b"|".join(forms)


@dataclass
class Erasure:
    """What was erased, and what was not.

    Attributes:
        rewritten: files that were written again without the erased users or items.
        deleted: files that were deleted.
        left: files that still hold something of them or may do so, each with why and what to do about it.
        unknown: for each id that no file of the data set has, one line.
    """

    rewritten: list[Path] = field(default_factory=list)
    deleted: list[Path] = field(default_factory=list)
    left: dict[Path, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def rewrite(self, path: Path, parts: Iterable[bytes]) -> None:
        """Replace a file as a whole. Where it is a link, the file that it leads to is left."""
        target = path.resolve() if path.is_symlink() else None
        write_atomically(path, lambda file: file.writelines(parts))
        if path not in self.rewritten:
            self.rewritten.append(path)
        self._leave_target(path, target)

    def rewrite_lines(self, path: Path, is_erased: Callable[[bytes], bool]) -> None:
        """Remove lines from a file, if it has any of them; the others stay byte for byte."""
        try:
            with open_file(path) as file:
                lines = list(file)
        except FileReadError as error:
            self.leave(path, error.reason)
            return
        kept = [line for line in lines if not is_erased(line)]
        if len(kept) < len(lines):
            self.rewrite(path, kept)

    def delete(self, path: Path) -> None:
        """Delete a file that exists. Where it is a link, the file that it leads to is left."""
        if os.path.lexists(path):
            target = path.resolve() if path.is_symlink() else None
            path.unlink()
            self.deleted.append(path)
            self._leave_target(path, target)

    def _leave_target(self, path: Path, target: Path | None) -> None:
        """Say that the file behind a former link is left: it may be another's, too."""
        if target is not None and target.exists():
            self.leave(target, f"is what {path} was a link to, with all that it had: delete it if nobody needs it")

    def leave(self, path: Path, why: str) -> None:
        """Say that a file is left; the first reason counts."""
        self.left.setdefault(path, why)
