"""Converts former checkpoints, which are pickles, in a separate process with limits."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom, BufferedReader
from pathlib import Path

import numpy as np

#: registers the package without running its ``__init__``, which would import RecBole and torch
_START = """
import sys, types
package = types.ModuleType("recbole_llm_interest")
package.__path__ = [sys.argv[1]]
sys.modules[package.__name__] = package
sys.path.append(sys.argv[2])
from recbole_llm_interest.io.checkpoints.pickles import convert_standard_input
convert_standard_input()
"""
#: the conversion may take this many seconds, and one more for each ``_LEAST_RATE`` bytes
_GRACE_SECONDS = 30
_LEAST_RATE = 20 * 2**20


@contextmanager
def converted(file: BufferedReader) -> Iterator[BufferedRandom]:
    """Convert a former checkpoint, and yield an open temporary file in the current format.

    The child process does not import or call anything that the pickle names. It has no environment variables of this
    process, no open files but these two, no network, and limits of memory and time.

    Args:
        file: open for reading; its position changes.

    Raises:
        ValueError: it is damaged, or contains objects that no training writes.
        OSError: there is no space for the temporary file.
    """
    folders = [str(Path(__file__).parents[2]), str(Path(np.__file__).parents[1])]
    seconds = _GRACE_SECONDS + os.fstat(file.fileno()).st_size // _LEAST_RATE
    with tempfile.TemporaryFile() as new:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", _START, *folders],
                stdin=file,
                stdout=new,
                stderr=subprocess.PIPE,
                env={"OPENBLAS_NUM_THREADS": "1"},  # threads would use up the memory limit
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"it takes more than {seconds} seconds to convert") from error
        if done.returncode:
            lines = done.stderr.decode(errors="replace").split("\n")
            raise ValueError(next(filter(None, lines), f"its conversion ended with {done.returncode}"))
        new.seek(0)
        yield new
