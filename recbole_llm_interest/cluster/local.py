"""Runs tasks in this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


class LocalExecutor:
    """The executor of one machine.

    Attributes:
        is_remote: False: nothing is pickled.
    """

    is_remote = False

    def map(
        self,
        make_worker: Callable[[], Callable[[_Task], _Result]],
        tasks: Iterable[_Task],
        *,
        uses_gpu: bool,
        ahead: int = 0,
    ) -> Iterator[_Result]:
        """Yield the result of each task, in their order; as for ``Executor``."""
        worker = make_worker()
        for task in tasks:
            yield worker(task)
