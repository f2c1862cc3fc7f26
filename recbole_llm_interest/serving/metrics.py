"""What Prometheus reads: requests, their durations, the queue, events and states, of all processes together."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

#: s; the last ones are beyond what a list should take
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
#: where processes of one service leave their figures
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

REQUESTS = Counter("llm_interest_requests", "Requests by route and status.", ["method", "route", "status"])
SECONDS = Histogram(
    "llm_interest_request_seconds", "Duration of requests by route.", ["method", "route"], buckets=_SECONDS
)
EVENTS = Counter("llm_interest_events", "Events by what became of them.", ["result"])
QUEUE = Gauge("llm_interest_queue", "Requests that wait for the model.", multiprocess_mode="livesum")
USERS = Gauge("llm_interest_users_in_memory", "Users whose states are in memory.", multiprocess_mode="livesum")
ITEMS = Gauge("llm_interest_items", "Items that can be recommended.", multiprocess_mode="livemax")


def all_figures() -> bytes:
    """The figures of all processes in the format of Prometheus."""
    if FOLDER_VARIABLE not in os.environ:
        return generate_latest()
    _drop_ended()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _drop_ended() -> None:
    """Remove the gauges of processes that have ended; their counters stay."""
    for path in Path(os.environ[FOLDER_VARIABLE]).glob("gauge_live*_*.db"):
        process = path.stem.rpartition("_")[2]
        if not Path(f"/proc/{process}").exists():
            multiprocess.mark_process_dead(int(process))  # type: ignore[no-untyped-call]
