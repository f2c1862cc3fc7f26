"""Runs cases in forked processes with limits. Crashes, hangs, connections and unpickling are findings."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

#: bytes of address space that a process may add to those at its start
MEMORY = 2**30
#: CPU seconds of a case; after four times as many seconds of wall-clock time, a case that waits is a finding
SECONDS = 5.0
#: audit events that a case must not cause
FORBIDDEN = {
    *("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"),
    *("os.system", "os.exec", "pty.spawn", "pickle.find_class"),
}


class Hang(BaseException):
    """A case takes too long."""


class Forbidden(BaseException):
    """A case connects, starts a program or unpickles."""


@dataclass(frozen=True)
class Outcome:
    """The result of a case.

    Attributes:
        case: its number.
        result: ``loaded`` or ``refused`` if it passed, otherwise the kind of finding.
        detail: of a finding: what happened and where.
        seconds: CPU time that it took.
        megabytes: peak memory of its process so far, beyond that at its start.
    """

    case: int
    result: str
    detail: str = ""
    seconds: float = 0.0
    megabytes: int = 0

    @property
    def is_finding(self) -> bool:
        return self.result not in ("loaded", "refused")


def run_cases(
    attempt: Callable[[int], str], cases: Sequence[int], *, seconds: float = SECONDS, memory: int = MEMORY,
    cases_per_process: int = 1000, forbidden: frozenset[str] = frozenset(FORBIDDEN),
) -> Iterator[Outcome]:  # fmt: skip
    """Run cases, one after the other, in processes that are replaced when they die.

    Args:
        attempt: runs a case by its number and returns the result; any exception is a finding.
        cases: their numbers.
        seconds: CPU time of a case.
        memory: bytes of address space beyond those of this process.
        cases_per_process: number of cases after which a process is replaced.
        forbidden: audit events that are a finding.
    """
    remaining = list(cases)
    while remaining:
        batch = remaining[:cases_per_process]
        done = 0
        for outcome in _run_batch(attempt, batch, seconds, memory, forbidden):
            done += 1
            yield outcome
        remaining = remaining[done:]


def _run_batch(
    attempt: Callable[[int], str], batch: Sequence[int], seconds: float, memory: int, forbidden: frozenset[str]
) -> Iterator[Outcome]:
    """Run cases in one process. If a case kills the process, its outcome is the last."""
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as trace:
        sys.stdout.flush()
        if (process := os.fork()) == 0:
            os.close(reader)
            _run_worker(attempt, batch, seconds, memory, forbidden, writer, trace)
        os.close(writer)
        done, is_silent = 0, False
        with os.fdopen(reader) as lines:
            while select.select([lines], [], [], 4 * seconds)[0]:
                if not (line := lines.readline()):
                    break
                done += 1
                yield Outcome(**json.loads(line))
            else:
                is_silent = True
                os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if done < len(batch):
            trace.seek(0)
            result = "hang" if is_silent else "crash"
            yield Outcome(batch[done], result, f"status {status}: {trace.read().decode(errors='replace')[-3000:]}")


def _run_worker(
    attempt: Callable[[int], str], batch: Sequence[int], seconds: float, memory: int, forbidden: frozenset[str],
    writer: int, trace: Any,
) -> None:  # fmt: skip
    """Run cases and write their outcomes. Does not return."""
    faulthandler.enable(trace)
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_kilobytes("VmSize") * 1024 + memory,) * 2)
    before = _kilobytes("VmRSS")
    events = _audit(forbidden)
    for case in batch:
        start = time.process_time()
        result, detail = _attempt(attempt, case, seconds, events)
        grown = max(0, _kilobytes("VmHWM") - before) // 1024
        outcome = Outcome(case, result, detail, round(time.process_time() - start, 4), grown)
        os.write(writer, json.dumps(asdict(outcome)).encode() + b"\n")
    os._exit(0)


def _attempt(attempt: Callable[[int], str], case: int, seconds: float, events: list[str]) -> tuple[str, str]:
    events.clear()
    try:
        with _time_limit(seconds):
            result, detail = attempt(case), ""
    except Hang:
        result, detail = "hang", traceback.format_exc()
    except Forbidden:
        result, detail = "forbidden", traceback.format_exc()
    except BaseException:
        result, detail = "traceback", traceback.format_exc()
    if events:  # even if the case caught the exception
        result, detail = "forbidden", f"{events} {detail}"
    return result, detail[-3000:]


def _audit(forbidden: frozenset[str]) -> list[str]:
    """Raise on forbidden events from now on, and return the list that records them."""
    noted: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in forbidden:
            noted.append(f"{event}{arguments!r}"[:200])
            raise Forbidden(event)

    def refuse(*arguments: Any, **_: Any) -> None:
        hook("socket.connect", ("init_process_group", *arguments))

    sys.addaudithook(hook)
    torch.distributed.init_process_group = refuse  # it connects in C++, without an audit event
    return noted


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _kilobytes(name: str) -> int:
    """Return a value of ``/proc/self/status``, such as ``VmRSS``."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{name}:"))
