"""Stands in for the program of RecTools: counts transitions once more each epoch."""

from __future__ import annotations

import os
import sys

import numpy as np
from worker.channel import Channel

channel = Channel(sys.stdin.buffer, os.fdopen(os.dup(1), "wb"))
start, arrays = channel.receive()
if unknown := [name for name in start["settings"] if name not in ("weight", "lr")]:
    channel.send({"error": f"TypeError: Counts has no setting {unknown[0]!r}", "kind": "settings"})
    sys.exit(1)
users, items = arrays["users"], arrays["items"]
counts = np.zeros((start["items"], start["items"]), dtype=np.float32)
state = {"counts": counts}
channel.send({"version": "0", "trainable": ["counts"]}, state)
while True:
    try:
        request, given = channel.receive()
    except EOFError:
        break
    if request["do"] == "train":
        follows = users[1:] == users[:-1]
        np.add.at(counts, (items[:-1][follows], items[1:][follows]), start["settings"].get("weight", 1))
        channel.send({"loss": 1.0, "cpu_seconds": 0.5, "peak_memory_mb": 100.0, "trainable": ["counts"]}, state)
    elif request["do"] == "load":
        counts[:] = given["counts"]
        channel.send({})
    elif request["do"] == "score":
        histories = given["histories"]
        last = histories[np.arange(len(histories)), (histories > 0).sum(axis=1) - 1]
        channel.send({}, {"scores": counts[last]})
