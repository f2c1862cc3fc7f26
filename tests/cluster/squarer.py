"""Tasks of workers that are killed. A module of its own: workers import it without pytest."""

from __future__ import annotations

import os
import signal
import time

from recbole_llm_interest.errors import DataError


class Squarer:
    """Squares numbers, and says by which process; ``deadly`` ones kill it, ``deaths`` times or always."""

    def __init__(self, folder, deadly=(), deaths=1):
        self.folder, self.deadly, self.deaths = folder, deadly, deaths

    def __call__(self, number):
        time.sleep(0.05)
        if number in self.deadly and len(list(self.folder.iterdir())) < self.deaths:
            (self.folder / f"{os.getpid()}-{number}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if number < 0:
            raise DataError(f"{number} is negative")
        return number * number, os.getpid()
