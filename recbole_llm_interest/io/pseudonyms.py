"""Pseudonyms of users in messages and logs, which cannot be turned back into their ids."""

from __future__ import annotations

import hashlib
import secrets

#: differs in each process and is never stored; without it, short ids could be found by trying all of them
_SALT = secrets.token_bytes(16)


def pseudonym(user: str) -> str:
    """Return a user's pseudonym. It is the same throughout this process and differs in every other.

    Example:
        >>> pseudonym("ada") == pseudonym("ada") != pseudonym("bob")
        True
    """
    return f"user-{hashlib.blake2b(user.encode('utf-8', 'surrogatepass'), digest_size=6, key=_SALT).hexdigest()}"
