"""Tells checkpoints from other files by their first bytes, without torch, which takes seconds to import."""

from __future__ import annotations

import os
from pathlib import Path

from recbole_llm_interest.errors import CheckpointError
from recbole_llm_interest.io.checkpoints.layout import HEADER_START, LENGTH_BYTES, MAX_HEADER_BYTES
from recbole_llm_interest.io.opening import MEMORY_BYTES, FileKind, is_folder, is_there, open_regular

CHECKPOINT_FILE = FileKind("checkpoint", CheckpointError, MEMORY_BYTES, "give one that a training wrote")
#: the first bytes of a former file, a ZIP archive
FORMER_START = b"PK\x03\x04"
_SUFFIXES = (".safetensors", ".pth")


def has_header(start: bytes, size: int) -> bool:
    """Return whether a file of the present format begins with these bytes.

    Args:
        start: its first bytes.
        size: bytes of the file.
    """
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    is_ours = start[LENGTH_BYTES:].startswith(HEADER_START)
    return is_ours and len(HEADER_START) <= length <= min(MAX_HEADER_BYTES, size)


def names_a_checkpoint(name: str) -> bool:
    """Return whether a name is that of a checkpoint, and not of a folder or of a model on the Hub.

    Example:
        >>> names_a_checkpoint("saved/LLMInterest.safetensors"), names_a_checkpoint("someone/model")
        (True, False)
    """
    path = Path(name)
    return not is_folder(path) and (is_there(path) or name.endswith(_SUFFIXES))


def check_first_bytes(path: Path) -> None:
    """Check that a file exists and begins as a checkpoint does, present or former.

    Raises:
        CheckpointError: it does not.
    """
    with open_regular(path, CHECKPOINT_FILE) as file:
        start, size = file.read(LENGTH_BYTES + len(HEADER_START)), os.fstat(file.fileno()).st_size
    if not start.startswith(FORMER_START) and not has_header(start, size):
        raise CHECKPOINT_FILE.refusal(path, "is not one that this package or RecBole wrote")
