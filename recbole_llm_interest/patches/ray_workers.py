"""RecBole's ``objective_function`` in workers of Ray, as in its script ``run_hyper.py --tool=Ray``."""

from __future__ import annotations

import importlib
import sys
import uuid
from typing import Any

from recbole_llm_interest.activation import activate


def set_up_worker() -> None:
    """Prepare a process of Ray for RecBole: the ``worker_process_setup_hook`` of ``ray.init``.

    Three faults are removed (no upstream issues). ``ray.tune`` 2.6.3 uses an alias that numpy 2 has removed, and a
    worker imports it before anything else can restore the alias. RecBole reads the words that Ray gives a process as
    settings. Trainers name their checkpoint by the second, so trials that start together test each other's.

    Example:
        >>> import recbole_llm_interest
        >>> from recbole_llm_interest.patches.ray_workers import set_up_worker
        >>> environment = {"worker_process_setup_hook": set_up_worker}  # for ray.init(runtime_env=environment)
    """
    sys.argv = sys.argv[:1]
    activate()
    trainers: Any = importlib.import_module("recbole.trainer.trainer")
    local_time = trainers.get_local_time
    trainers.get_local_time = lambda: f"{local_time()}-{uuid.uuid4().hex[:8]}"
