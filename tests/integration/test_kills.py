"""The benchmark that kills jobs at random moments, with a few kills of each kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY


@pytest.mark.slow
def test_killed_jobs_lose_nothing_and_end_as_undisturbed_ones():
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "kills.py"), "--what=all", "--kills=3"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    figure = json.loads(done.stdout.splitlines()[-1])
    assert figure["kills"] == 18
    assert (figure["rows_lost"], figure["corrupt_files"], figure["left_over"]) == (0, 0, 0)
    assert figure["what"]["encoding"]["largest_difference"] <= 1e-5
    assert figure["what"]["training"]["largest_difference"] == 0
    assert figure["what"]["checkpointing"]["largest_difference"] == 0
    for kind in ("reporting", "export", "forget"):
        assert figure["what"][kind]["largest_difference"] == 0
    assert sum(kind["killed_in_writing"] for kind in figure["what"].values()) > 0  # of one kind, chance may spare all
