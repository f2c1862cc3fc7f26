"""A log file of its own for each run."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from recbole.config import Config
from recbole.utils import init_logger

from recbole_llm_interest.distributed import is_main_process
from recbole_llm_interest.io.files import is_write_error


@contextlib.contextmanager
def log_to_file(config: Config) -> Iterator[str]:
    """A log file of its own for each run; the console gets warnings only, unless ``state`` is set.

    RecBole sets logging up once a process, so that a second run's lines would go to the first one's file. Of processes
    that train together, only the first logs; the others have no file, ``""``. A log that cannot be written ends the
    run: a checkpoint could not be, either.
    """
    root = logging.getLogger()
    handlers, level, in_threads = root.handlers[:], root.level, threading.excepthook
    threading.excepthook = functools.partial(_but_of_full_disks, in_threads)
    root.handlers = []
    if is_main_process():
        init_logger(config)
    else:
        root.addHandler(logging.NullHandler())
    try:
        for handler in root.handlers:
            if not isinstance(handler, logging.FileHandler) and "state" not in config.external_config_dict:
                handler.setLevel(logging.WARNING)
            if isinstance(handler, logging.FileHandler):
                handler.handleError = _end_the_run  # type: ignore[method-assign]
        files = [handler.baseFilename for handler in root.handlers if isinstance(handler, logging.FileHandler)]
        yield str(Path(files[0]).relative_to(Path.cwd())) if files else ""
    finally:
        for handler in root.handlers:
            with contextlib.suppress(OSError):  # what of it could not be written has been said
                handler.close()
        root.handlers = handlers
        threading.excepthook = in_threads
        root.setLevel(level)


def _end_the_run(record: logging.LogRecord) -> None:
    """Raise what kept a line from being logged, where logging would print it and go on."""
    raise


def _but_of_full_disks(in_threads: Callable[..., object], error: threading.ExceptHookArgs) -> None:
    """Print what ends a thread, unless it is that TensorBoard's cannot write: the run ends by the same error."""
    if not (isinstance(error.exc_value, OSError) and is_write_error(error.exc_value)):
        in_threads(error)
