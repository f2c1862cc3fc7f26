"""How a service runs: the options of the command line, which its processes read from the environment."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

#: variable of the environment by which the processes get the options
_VARIABLE = "LLM_INTEREST_SERVE"


@dataclass(frozen=True)
class ServeOptions:
    """How a service runs.

    Attributes:
        checkpoint: a checkpoint or an exported folder.
        settings: those that differ from training.
        store: a folder, ``redis://…`` or ``memory``.
        host: address that it listens at.
        port: likewise.
        workers: number of processes.
        api_keys: file of the keys that are accepted; None for none.
        rate: requests a second that each client may send to each process.
        max_body: bytes of a request's body.
        timeout: seconds that a request may wait for the model, or its body take.
        queue: requests that may wait for the model.
        cached_users: users whose states stay in memory of each process.
        quiet: whether requests get no line in the log.
        recall: share of the ten best items that an approximate index has to find; None to score all items.
    """

    checkpoint: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    store: str = "served"
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    api_keys: str | None = None
    rate: float = 2000.0
    max_body: int = 2**20
    timeout: float = 10.0
    queue: int = 1000
    cached_users: int = 20_000
    quiet: bool = False
    recall: float | None = None

    def hand_over(self) -> None:
        """Put the options where the processes that are started next find them."""
        os.environ[_VARIABLE] = json.dumps(asdict(self))

    @classmethod
    def handed_over(cls) -> Self:
        """The options of the process that has started this one."""
        return cls(**json.loads(os.environ[_VARIABLE]))


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
