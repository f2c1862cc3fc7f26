"""Executors: independent tasks by this process, or by the actors of a Ray cluster, through one interface.

A task and a result are small; large content is read where the task runs. Results come as they are finished, so tasks
must not depend on each other. The process that calls an executor is the only one that writes results.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Protocol, TypeVar

from recbole_llm_interest.cluster.local import LocalExecutor
from recbole_llm_interest.errors import SettingsError, Terminated

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

#: address of Ray on this machine alone, started for the command and ended with it
LOCAL = "local"
#: address of the cluster that this machine belongs to, or that RAY_ADDRESS names
AUTO = "auto"
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9._-]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}")


class Executor(Protocol):
    """Runs independent tasks.

    Attributes:
        is_remote: whether tasks run in other processes, so that they and ``make_worker`` are pickled.
    """

    is_remote: bool

    def map(
        self,
        make_worker: Callable[[], Callable[[_Task], _Result]],
        tasks: Iterable[_Task],
        *,
        uses_gpu: bool,
        ahead: int = 0,
    ) -> Iterator[_Result]:
        """Yield the result of each task, in the order in which they are finished.

        Args:
            make_worker: makes the function that runs tasks, such as an encoder with its weights; once a worker.
            tasks: read as far ahead as the workers need.
            uses_gpu: whether a worker works on a GPU where the cluster has some.
            ahead: tasks that a worker has beside the one that it runs. With one, it never waits for the next, which
                matters if they take less than a second; with none, no long task waits for a busy worker.

        Raises:
            ProcessError: workers were killed again and again.
            LLMInterestError: what a task or ``make_worker`` raises. Any other exception of theirs is raised, too.
        """
        ...


def check_cluster(address: str | None, algorithm: str | None = None) -> None:
    """Check that Ray is installed and that its address can be one, without importing Ray.

    Args:
        address: ``local``, ``auto`` or ``HOST:PORT``; None for this process.
        algorithm: of the search whose trials are to run at the same time; None for other jobs.

    Raises:
        SettingsError: it is not installed, the address has another form, or the trials depend on each other.
    """
    if address is None:
        return
    if algorithm == "bayes":
        raise SettingsError("--algorithm=bayes chooses a trial by the last ones: leave out --ray, or choose random")
    if not (find_spec("ray") and find_spec("pkg_resources")):
        raise SettingsError("--ray needs the packages ray and setuptools: pip install ray==2.6.3 'setuptools<82'")
    if address not in (LOCAL, AUTO) and not _HOST_AND_PORT.fullmatch(address):
        raise SettingsError(f"--ray={address}: give {LOCAL}, {AUTO}, or HOST:PORT of the cluster's head node")


@contextmanager
def open_executor(address: str | None, *, with_gpus: bool = True) -> Iterator[Executor]:
    """Open an executor, which is closed at the end of the block.

    Args:
        address: as for ``check_cluster``.
        with_gpus: whether the GPUs of a cluster may be used.

    Raises:
        SettingsError: Ray is not installed, or there is no cluster at the address.
    """
    check_cluster(address)
    if address is None:
        yield LocalExecutor()
        return
    handler = signal.getsignal(signal.SIGTERM)  # Ray sets one that ends the process without a word
    # imported here because Ray is not needed on one machine
    from recbole_llm_interest.cluster.ray_actors import RayExecutor

    with RayExecutor(address, with_gpus=with_gpus) as executor, _sigterm_handled(handler):
        yield executor


@contextmanager
def _sigterm_handled(handler: Any) -> Iterator[None]:
    """Handle SIGTERM by ``handler`` again. What it raises inside of Ray, Ray would turn into a KeyboardInterrupt."""
    received: list[int] = []
    is_main_thread = threading.current_thread() is threading.main_thread()  # the only one that may set handlers

    def note(number: int, frame: Any) -> None:
        received.append(number)
        handler(number, frame)

    if is_main_thread:
        signal.signal(signal.SIGTERM, note if callable(handler) else handler)
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if received and not isinstance(interrupt, Terminated):
            raise Terminated from interrupt
        raise
    finally:
        if is_main_thread:
            signal.signal(signal.SIGTERM, handler)
