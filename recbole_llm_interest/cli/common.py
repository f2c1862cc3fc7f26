"""What the commands share: settings as ``--key=value``, output, errors in one line, exit codes, SIGTERM."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from pydantic_core import to_jsonable_python

from recbole_llm_interest.errors import LLMInterestError, Terminated
from recbole_llm_interest.io.escaping import LogFormatter, json_text, one_line, several_lines


def show(text: object, stream: TextIO | None = None) -> None:
    """Print text with control characters escaped. Commands print only by this function.

    Args:
        text: of several lines. What comes from files and should not begin a line has been through ``one_line``.
        stream: standard output if None.
    """
    stream = sys.stdout if stream is None else stream
    encoding = stream.encoding or "utf-8"
    print(several_lines(text).encode(encoding, "backslashreplace").decode(encoding), file=stream)


def show_json(result: Mapping[str, Any]) -> None:
    """Print a command's result as one JSON object in one line, in ASCII: what ``--json`` asks for.

    Args:
        result: by plain names; paths become text.
    """
    show(json_text(to_jsonable_python(result), ascii_only=True))


def exit_code(job: Callable[[], object], kept: str) -> int:
    """Run a command's job; report an error or an interrupt in one line.

    Args:
        job: the command's work.
        kept: what is kept after an interrupt. The line also has the notes of the ``KeyboardInterrupt``.

    Returns:
        0 on success, 2 for an ``LLMInterestError`` or a file that cannot be used, 130 after SIGINT, 143 after SIGTERM.
    """
    try:
        with _sigterm_as_interrupt(), _escaped_warnings():
            job()
    except LLMInterestError as error:
        show(f"error: {one_line(error)}", sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:  # such as a closed pipe
            raise
        show(f"error: {one_line(f'{error.filename}: {error.strerror}')}", sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        is_terminated = isinstance(interrupt, Terminated)
        notes = "; ".join([*getattr(interrupt, "__notes__", []), kept])
        show(f"\n{'terminated' if is_terminated else 'interrupted'}: {one_line(notes)}", sys.stderr)
        return 128 + (signal.SIGTERM if is_terminated else signal.SIGINT)
    return 0


@contextmanager
def _escaped_warnings() -> Iterator[None]:
    """Escape the messages of warnings, and those of logs where nothing else is set up to show them."""
    format_warning, last_resort = warnings.formatwarning, logging.lastResort

    def format_escaped(message: Warning | str, *place: Any) -> str:
        return format_warning(one_line(message), *place)

    warnings.formatwarning = format_escaped  # type: ignore[assignment]
    if last_resort is not None:
        last_resort.setFormatter(LogFormatter(logging.Formatter()))
    try:
        yield
    finally:
        warnings.formatwarning = format_warning
        if last_resort is not None:
            last_resort.setFormatter(None)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Raise ``Terminated``, a ``KeyboardInterrupt``, on SIGTERM, which schedulers send to end a job."""

    def terminate(*_: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # signal handlers are the main thread's
        yield
        return
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
