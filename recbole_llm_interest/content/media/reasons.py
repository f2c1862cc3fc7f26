"""Reasons for rejecting images and audio, from the errors of the libraries that read them."""

from __future__ import annotations

import re

from recbole_llm_interest.errors import ContentError

#: the address of an object, or the descriptor that FFmpeg opened; both change from run to run
_OBJECT = re.compile(r"(?:image )?(?:file )?<[^<>]*>|: '(?:\d+|<[^<>]*>)'$")


def unreadable(what: str, error: Exception, *, is_lasting: bool) -> ContentError:
    """Return the rejection of a file that a library cannot read.

    Args:
        what: ``image`` or ``audio``, for the reason.
        error: of the library; object addresses and file descriptors are removed from it.
        is_lasting: whether another attempt would also fail.

    Example:
        >>> unreadable("audio", ValueError("cannot read <_io.BytesIO object at 0x7f>"), is_lasting=True).args[0]
        'is not readable audio: ValueError: cannot read the file'
    """
    details = _OBJECT.sub(lambda found: "" if found[0].startswith(":") else "the file", str(error))
    kind = "readable audio" if what == "audio" else f"a readable {what}"
    return ContentError(f"is not {kind}: {type(error).__name__}: {details}", is_lasting=is_lasting)
