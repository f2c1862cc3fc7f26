"""Names for users in messages and logs, which nobody can turn back into their ids."""

from __future__ import annotations

import hashlib
import secrets

#: another one in each process, and kept nowhere: without it, short ids could be found by trying them all
_SALT = secrets.token_bytes(16)


def pseudonym(user: str) -> str:
    """A name for a user, the same throughout this process and no other."""
    return f"user-{hashlib.blake2b(user.encode('utf-8', 'surrogatepass'), digest_size=6, key=_SALT).hexdigest()}"
