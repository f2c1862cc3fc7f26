"""Requests that wait for the model: a bounded queue, which is emptied batch by batch into one thread."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

from recbole_llm_interest.errors import LLMInterestError

#: events, users and other questions that are answered together: one more request begins before there are so many
_MOST_TOGETHER = 256


class Job(Protocol):
    """What a request asks for."""

    @property
    def size(self) -> int:
        """How many events, users or other questions it has."""


class OverloadedError(LLMInterestError):
    """A request was not answered, and changed nothing: too many wait, it has waited too long, or the service ends."""


class _Waiting(NamedTuple):
    job: Job
    answer: asyncio.Future[Any]
    until: float


class RequestQueue:
    """Collects requests while a thread answers the former ones.

    Args:
        answer: gives the result of each of several jobs, or an exception in its place. Runs in a thread.
        most: requests that may wait.
        patience: how long each may wait, s.
    """

    def __init__(self, answer: Callable[[Sequence[Any]], Sequence[Any]], most: int, patience: float) -> None:
        self._answer = answer
        self._most = most
        self._patience = patience
        self._waiting: deque[_Waiting] = deque()
        self._is_woken = asyncio.Event()
        self._is_closing = False
        self._thread = ThreadPoolExecutor(1, "model")

    def __len__(self) -> int:
        """Number of requests that wait."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether further requests are refused."""
        return len(self._waiting) >= self._most

    async def result(self, job: Job) -> Any:
        """Wait for the result of a job.

        Raises:
            OverloadedError: it was not begun.
            Exception: what ``answer`` gives in place of a result.
        """
        if self.is_full or self._is_closing:
            raise OverloadedError("the service ends" if self._is_closing else "too many requests wait: try again later")
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(job, answer, time.monotonic() + self._patience))
        self._is_woken.set()
        return await answer

    async def run(self) -> None:
        """Answer requests until ``close``, and those that wait then."""
        loop = asyncio.get_running_loop()
        while not self._is_closing or self._waiting:
            batch = self._next_batch()
            if batch:
                try:
                    results = await loop.run_in_executor(self._thread, self._answer, [one.job for one in batch])
                except Exception as error:  # the queue goes on, and each request says what happened
                    results = [error] * len(batch)
                self._give(batch, results)
            else:
                self._is_woken.clear()
                await self._is_woken.wait()
        self._thread.shutdown()

    def close(self) -> None:
        """Accept no more requests."""
        self._is_closing = True
        self._is_woken.set()

    def _next_batch(self) -> list[_Waiting]:
        """Requests that are answered next, without those that nobody waits for."""
        batch: list[_Waiting] = []
        size, now = 0, time.monotonic()
        while self._waiting and size < _MOST_TOGETHER:
            one = self._waiting.popleft()
            if one.answer.done():  # the client is gone
                continue
            if one.until < now:
                one.answer.set_exception(OverloadedError("the request has waited too long: try again later"))
            else:
                batch.append(one)
                size += one.job.size
        return batch

    @staticmethod
    def _give(batch: Sequence[_Waiting], results: Sequence[Any]) -> None:
        for one, result in zip(batch, results, strict=True):
            if one.answer.done():
                continue
            if isinstance(result, Exception):
                one.answer.set_exception(result)
            else:
                one.answer.set_result(result)
