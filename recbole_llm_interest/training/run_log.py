"""The log file of a run."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from recbole.config import Config
from recbole.utils import init_logger

from recbole_llm_interest.distributed import is_main_process
from recbole_llm_interest.io.escaping import LogFormatter
from recbole_llm_interest.io.files import is_write_error
from recbole_llm_interest.io.manifest import record_run


@contextlib.contextmanager
def log_to_file(config: Config) -> Iterator[str]:
    """Log to a file of its own for each run; the console gets warnings only, unless ``state`` is set.

    RecBole configures logging once per process: the log of a second run would go to the file of the first. If several
    processes train together, only the main process logs. A log that cannot be written ends the run, as a checkpoint
    could not be written either.

    Returns:
        The path of the log file; an empty string in processes that do not log.
    """
    root = logging.getLogger()
    handlers, level, original_hook = root.handlers[:], root.level, threading.excepthook
    threading.excepthook = functools.partial(_ignore_write_errors, original_hook)
    root.handlers = []
    if is_main_process():
        init_logger(config)
    else:
        root.addHandler(logging.NullHandler())
    try:
        for handler in root.handlers:
            _set_up(handler, is_quiet="state" not in config.external_config_dict)
        files = [handler.baseFilename for handler in root.handlers if isinstance(handler, logging.FileHandler)]
        _record(config, files)
        yield str(Path(files[0]).relative_to(Path.cwd())) if files else ""
    finally:
        for handler in root.handlers:
            with contextlib.suppress(OSError):  # the error was raised when the log was written
                handler.close()
        root.handlers = handlers
        threading.excepthook = original_hook
        root.setLevel(level)


def _set_up(handler: logging.Handler, is_quiet: bool) -> None:
    """Escape a handler's entries, raise errors of writing them, and keep the console quiet if asked."""
    handler.setFormatter(LogFormatter(handler.formatter or logging.Formatter()))
    if isinstance(handler, logging.FileHandler):
        handler.handleError = _raise_logging_error  # type: ignore[method-assign]
    elif is_quiet:
        handler.setLevel(logging.WARNING)


def _record(config: Config, files: Sequence[str]) -> None:
    for file in map(Path, files):
        record_run(config, "log", [file, file.with_suffix("")])  # TensorBoard's events are beside the log


def _raise_logging_error(record: logging.LogRecord) -> None:
    """Raise the error of writing a log line, which ``logging`` would print and ignore."""
    raise


def _ignore_write_errors(original_hook: Callable[..., object], error: threading.ExceptHookArgs) -> None:
    """Handle a thread's exception, except that TensorBoard's cannot write: the main thread raises the same error."""
    if not (isinstance(error.exc_value, OSError) and is_write_error(error.exc_value)):
        original_hook(error)
