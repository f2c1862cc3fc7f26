"""The ids to erase, patterns that match them in each file format, and the record of what was done."""

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

#: any file that may contain an id; it is read in blocks
ANY_FILE = FileKind("file", StorageError, None, "allow this user to read it")
#: what is before and after an id in the formats of this package: quotes, tabs, ends of lines, tags
_BEFORE, _AFTER = rb"(?<![^\t\r\n\"'`>])", rb"(?![^\t\r\n\"'`<\\])"
_SHORT_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}


@dataclass(frozen=True)
class ErasureRequest:
    """Users or items to erase.

    Attributes:
        kind: ``user`` or ``item``.
        id_field: column of their ids.
        tokens: the ids.
    """

    kind: str
    id_field: str
    tokens: frozenset[str]

    @cached_property
    def json_member(self) -> re.Pattern[bytes]:
        """Matches the id column with one of the ids in JSON, including malformed lines."""
        key = b'(?<!\\\\)"' + _as_json(self.id_field) + b'"'
        return re.compile(key + b'\\s*:\\s*(?:"(?:%b)"|(?:%b)(?![0-9.eE]))' % (self._json, self._numbers))

    @cached_property
    def json_element(self) -> re.Pattern[bytes]:
        """Matches one of the ids in a list in JSON, such as the items that were shown beside another one."""
        return re.compile(b'[\\[,]\\s*(?:"(?:%b)"|(?:%b))\\s*[,\\]]' % (self._json, self._numbers))

    @property
    def _numbers(self) -> bytes:
        numbers = [token for token in self.tokens if re.fullmatch(r"-?[0-9]+", token)]
        return b"|".join(re.escape(token.encode()) for token in numbers) or b"(?!)"

    @cached_property
    def quoted(self) -> re.Pattern[bytes]:
        """Matches one of the ids between quotes, tabs, ends of lines or tags, with any format's escapes."""
        texts = {text for token in self.tokens for text in (token, one_line(token), repr(token)[1:-1])}
        forms = _any_of({form for text in texts for form in (text, *_in_html(text))})
        return re.compile(_BEFORE + b"(?:%b|%b)" % (forms, self._json) + _AFTER)

    @cached_property
    def in_report(self) -> re.Pattern[bytes]:
        """Matches one of the ids as a report shows it: in comments of SVG images, in reasons, in names of titles."""
        forms = _any_of({form for token in self.tokens for form in (token, *_in_html(one_line(token)))})
        after_words = rb"(?:user |<!-- |/ |[+-]\d+\.\d\d )(?:%b)(?![^ <,:;.)])" % forms
        first_of_name = rb"(?<![^ >\"'])(?:%b) / " % forms
        return re.compile(b"|".join([after_words, first_of_name, self.quoted.pattern]))

    @cached_property
    def _json(self) -> bytes:
        return b"|".join(map(_as_json, sorted(self.tokens)))


def _any_of(forms: Iterable[str]) -> bytes:
    return b"|".join(re.escape(form.encode("utf-8", "surrogatepass")) for form in sorted(forms))


def _in_html(text: str) -> tuple[str, str]:
    """Escape text for HTML as Python does and as Jinja does."""
    escaped = html.escape(text)
    return escaped, escaped.replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


def _as_json(text: str) -> bytes:
    """Return a pattern of text inside a JSON string, with each character literal or escaped."""
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
    """Erases from single files, and records what was done.

    Attributes:
        rewritten: files that were rewritten without the erased users or items.
        deleted: files that were deleted.
        left: files that contain or may contain data about them, each with the reason and what to do.
        unknown: one line for each id that is in no file of the data set.
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
        """Remove lines from a file. Other lines stay byte for byte; a file without such lines is not written."""
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
        """Delete a file if it exists. If it is a link, the file that it leads to is left."""
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
        """Record that a file is left. Only the first reason is kept."""
        self.left.setdefault(path, why)
