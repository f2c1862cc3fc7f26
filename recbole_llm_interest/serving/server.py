"""Starts the processes of a service, replaces those that end, and loads the model in each."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from recbole_llm_interest.errors import LLMInterestError, SettingsError
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.io.event_store import EVENTS
from recbole_llm_interest.io.files import exclusive_lock, make_folder
from recbole_llm_interest.io.opening import is_folder
from recbole_llm_interest.io.shared_event_store import SharedEventStore
from recbole_llm_interest.recommender import Recommender, UserState, join
from recbole_llm_interest.serving import metrics
from recbole_llm_interest.serving.api_keys import ApiKeys
from recbole_llm_interest.serving.app import create_app
from recbole_llm_interest.serving.gate import request_logger
from recbole_llm_interest.serving.options import ServeOptions
from recbole_llm_interest.serving.service import Service
from recbole_llm_interest.serving.stores import open_store, stores_in_folder

_logger = logging.getLogger(__name__)
#: what a user can correct is said as by other commands
_mistakes = logging.getLogger(f"{__name__}.mistakes")
#: what a process may take to load a model before it counts as hung, s
_LOADING = 600
#: users on whom the recall of an index is measured
_MEASURED_USERS = 500
#: requests that are received at a time, at most
_MOST_CONNECTIONS = 5000


def run_service(options: ServeOptions, on_listening: Callable[[], object] = lambda: None) -> bool:
    """Serve until SIGTERM or SIGINT. SIGHUP loads the checkpoint anew, in new processes before the former ones end.

    Args:
        options: how to serve.
        on_listening: is called when requests can come; they wait until the model is loaded.

    Returns:
        Whether the processes could start. If not, they have said why.

    Raises:
        SettingsError: the address is in use, or cannot be used.
        StorageError: another service uses the folder of the store.
    """
    options.hand_over()
    _log_as_json(options.quiet)
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # its processes say what is wrong
    # a process that a signal ends leaves the lock of a progress bar, which is removed then, with a warning
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning:multiprocessing.resource_tracker"
    with ExitStack() as stack:
        if stores_in_folder(options.store):
            make_folder(Path(options.store))
            stack.enter_context(exclusive_lock(Path(options.store) / EVENTS, "name another folder by --store"))
        os.environ[metrics.FOLDER_VARIABLE] = stack.enter_context(tempfile.TemporaryDirectory())
        listening = stack.enter_context(_listening(options.host, options.port))
        on_listening()
        supervisor = _Supervisor(_config(options), [listening])
        supervisor.run()
        return all(process.exitcode != STARTUP_FAILURE for process in supervisor.processes)


def _config(options: ServeOptions) -> uvicorn.Config:
    return uvicorn.Config(
        f"{__name__}:application",
        factory=True,
        workers=options.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=int(options.timeout) + 5,
        timeout_worker_healthcheck=_LOADING,
    )


class _Supervisor(Multiprocess):
    """Starts processes, and replaces those that end."""

    def keep_subprocess_alive(self) -> None:
        """Look for processes that have ended or hang."""
        before = [process.pid for process in self.processes]
        for process in self.processes:
            # this process's copy of the other end: while it is open, an answer is waited for that an ended one owes
            process.child_conn.close()
        super().keep_subprocess_alive()
        if before != [process.pid for process in self.processes]:
            _logger.warning("a process has ended, and another one takes its place")


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that processes inherit.

    Raises:
        SettingsError: the address is in use, or cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        opened = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise SettingsError(f"command line: --host={host} --port={port}: {error}: give others") from error
    with opened:
        opened.set_inheritable(True)
        yield opened


def application() -> ASGIApp:
    """The application of a process that ``run_service`` has started."""
    options = ServeOptions.handed_over()
    _log_as_json(options.quiet)
    threading.excepthook = _log_fault_of_thread
    torch.set_num_threads(1)  # several would wait for each other: processes are what more cores are used by
    try:
        keys = None if options.api_keys is None else ApiKeys.read(Path(options.api_keys))
        return create_app(load_service(options), options, keys)
    except LLMInterestError as error:
        _mistakes.error("%s", one_line(error))
        sys.exit(STARTUP_FAILURE)
    except Exception:  # a fault of this package: started again, the process would only fail again
        traceback.print_exc()
        sys.exit(STARTUP_FAILURE)


def load_service(options: ServeOptions) -> Service:
    """Load the model, and open the store.

    Raises:
        LLMInterestError: one of them cannot be used.
    """
    path = Path(options.checkpoint)
    if is_folder(path):
        recommender = Recommender.from_pretrained(path, **options.settings)
    else:
        recommender = Recommender.load(path, **options.settings)
    _ = recommender.interest_map  # found at first use, which no request should wait for
    if options.recall is not None:
        reached = recommender.build_index(_typical_states(recommender), options.recall)
        _logger.info("the index finds %.3f of the ten best items", reached)
    store = open_store(options.store)
    if isinstance(store, SharedEventStore):
        recommender.record_store(store.path)
    return Service(recommender, store, options.cached_users)


def _typical_states(recommender: Recommender) -> UserState:
    """States of users of the data set, as many as can be one batch.

    Raises:
        SettingsError: there are no users.
    """
    states = recommender.start_each(list(recommender.users)[:_MEASURED_USERS])
    if not states:
        raise SettingsError("command line: --recall is measured on users, and a folder has none: give a checkpoint")
    (size, _), *_ = Counter(state.tracker_size for state in states).most_common(1)
    return join([state for state in states if state.tracker_size == size])


class _JsonFormatter(logging.Formatter):
    """One line of JSON for each entry."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the entry. A traceback is left out: its last line may have what a user wrote."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": record.process,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            fields["error"] = record.exc_info[0].__name__
        return json.dumps(fields)


def _log_fault_of_thread(fault: threading.ExceptHookArgs) -> None:
    if fault.exc_type is not EOFError:  # of the thread that answers the process which has just ended this one
        _logger.error("%s in a thread", fault.exc_type.__name__)


def _log_as_json(quiet: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter())
    plain = logging.StreamHandler()
    plain.setFormatter(logging.Formatter("error: %(message)s"))
    _mistakes.handlers, _mistakes.propagate = [plain], False
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("recbole_llm_interest.serving").setLevel(logging.INFO)
    request_logger.setLevel(logging.WARNING if quiet else logging.INFO)
