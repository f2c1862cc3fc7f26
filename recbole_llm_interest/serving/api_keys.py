"""The keys of a service: who may read, write events, and change users and items."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.opening import FileKind, read_lines

#: what a client may do, each role all of those before it
ROLES = ("read", "write", "admin")
#: shorter keys could be guessed
_LEAST_CHARACTERS = 20
_KEYS = FileKind("API keys", SettingsError, 1_000_000, "write one key a line: NAME KEY ROLE")


@dataclass(frozen=True)
class Client:
    """Who has sent a request.

    Attributes:
        name: as in the file of keys, or the address where there are none.
        role: what the client may do.
    """

    name: str
    role: str

    def may(self, role: str) -> bool:
        """Whether the client has a role, or one that includes it."""
        return ROLES.index(self.role) >= ROLES.index(role)


class ApiKeys:
    """Finds the client of a key. Keys are compared in constant time, and not kept in memory.

    Args:
        clients: by the SHA-256 digest of their key.

    Example:
        >>> keys = ApiKeys.of_lines(["shop 0123456789abcdef0123456789abcdef write"])
        >>> keys.client("0123456789abcdef0123456789abcdef").name, keys.client("another")
        ('shop', None)
    """

    def __init__(self, clients: Mapping[bytes, Client]) -> None:
        self._clients = dict(clients)

    @classmethod
    def read(cls, path: Path) -> ApiKeys:
        """Read a file of keys.

        Raises:
            SettingsError: it cannot be read, or a line of it is no key.
        """
        return cls.of_lines(read_lines(path, _KEYS), str(path))

    @classmethod
    def of_lines(cls, lines: Iterable[str | bytes], place: str = "API keys") -> ApiKeys:
        """The keys of lines such as ``NAME KEY ROLE``; those that begin with # are comments.

        Raises:
            SettingsError: a line is no key, or there is none.
        """
        clients = {}
        for number, line in enumerate(lines, start=1):
            words = (line.decode() if isinstance(line, bytes) else line).split()
            if not words or words[0].startswith("#"):
                continue
            if len(words) != 3 or words[2] not in ROLES:
                raise SettingsError(f"{place}, line {number}: write NAME KEY ROLE, with a role of {', '.join(ROLES)}")
            name, key, role = words
            if len(key) < _LEAST_CHARACTERS:
                raise SettingsError(f"{place}, line {number}: the key has fewer than {_LEAST_CHARACTERS} characters")
            clients[_digest(key)] = Client(name, role)
        if not clients:
            raise SettingsError(f"{place} has no key: write NAME KEY ROLE")
        return cls(clients)

    def client(self, key: str) -> Client | None:
        """The client whose key this is; None if it is nobody's."""
        given, found = _digest(key), None
        for digest, client in self._clients.items():  # all of them, so that time does not tell which is near
            if hmac.compare_digest(given, digest):
                found = client
        return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
