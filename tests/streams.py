"""Streams of events for tests, after those of the data set ``cycle``."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fakeredis import TcpFakeServer


def later(users: int, steps: int, skip: int = 2) -> list[dict[str, Any]]:
    """Events after those of ``cycle``, in which users skip some items of the round."""
    return [
        {"user_id": f"u{user}", "item_id": f"i{(user + skip * step) % 8}", "timestamp": 100_000.0 + 100 * step + user}
        for step in range(steps)
        for user in range(users)
    ]


def write_events(path: Path, events: Iterable[Mapping[str, Any] | str]) -> Path:
    """Write events as JSON lines; texts as they are."""
    with path.open("a") as file:
        file.writelines((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in events)
    return path


@contextmanager
def redis_server() -> Iterator[str]:
    """A server that speaks Redis' protocol; yields its address."""
    with TcpFakeServer(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        server.shutdown()
        thread.join()
