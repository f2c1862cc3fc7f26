"""Coverage-guided fuzzing by atheris: ``python tests/fuzz/fuzz.py jsonl -max_total_time=60``.

It starts from ``corpus/<target>`` and writes what crashes the target, or finds a new way through it, into the current
folder and into ``-artifact_prefix``; options behind the target's name are libFuzzer's. ``pip install atheris`` first.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["recbole_llm_interest"]):
    from targets import TARGETS


def main() -> None:
    """Fuzz the target that the command line names."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python tests/fuzz/fuzz.py {{{','.join(TARGETS)}}} [libFuzzer's options]")
    name = sys.argv.pop(1)
    logging.disable(logging.CRITICAL)
    atheris.Setup([*sys.argv, "/tmp/fuzz-new-inputs", str(Path(__file__).parent / "corpus" / name)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    Path("/tmp/fuzz-new-inputs").mkdir(exist_ok=True)
    main()
