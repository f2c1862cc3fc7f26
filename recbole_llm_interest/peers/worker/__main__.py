"""Trains one RecTools model and scores histories with it, as another process asks through pipes.

The first message has the training events and the model's settings. After that come ``train`` for one epoch, ``load``
for other weights, and ``score`` for a batch of histories; each is answered by one message.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback

from .channel import Channel


def answer_requests() -> int:
    """Serve one training. Returns the exit code."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no message
    channel = Channel(sys.stdin.buffer, target)
    try:
        from .rectools_models import serve

        serve(channel)
    except EOFError:  # the other process needs no more
        return 0
    except Exception as error:
        traceback.print_exc()
        kind = "settings" if isinstance(error, (TypeError, ValueError)) else "training"
        channel.send({"error": f"{type(error).__name__}: {' '.join(str(error).split())}", "kind": kind})
        return 1
    return 0


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, even in the middle of an epoch."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(answer_requests())
