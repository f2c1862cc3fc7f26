"""Mutation fuzzing: ``python tests/fuzz/mutate.py state --cases=20000 --seed=1``; ``--case=N`` repeats one case.

A case is determined by its kind, the seed and its number. It passes if the file is read, or refused with a one-line
error, within limits of time and memory, and without opening a connection, starting a program or unpickling an object.
Cases of ``commands`` are command lines. Findings are printed as they occur; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import commands
import files
import torch
from sandbox import Outcome, run_cases

KINDS = [*files.KINDS, "commands"]


@contextmanager
def campaign(name: str, seed: int) -> Iterator[Callable[[Sequence[int]], Iterator[Outcome]]]:
    """Create the valid files of a kind, and yield a function that runs cases by their numbers."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        valid_files = files.ValidFiles(folder)
        if name == "commands":
            made = valid_files.files_by_name()
            # import modules now, so that forked processes need not
            for module in commands.modules_of_commands(folder / "case", made):
                with suppress(ImportError):
                    importlib.import_module(module)
            yield lambda cases: run_cases(
                lambda case: commands.attempt_call(seed, case, folder / "case", made), cases, **commands.LIMITS
            )
        else:
            kind = getattr(valid_files, name)()
            yield lambda cases: run_cases(lambda case: files.attempt(kind, name, seed, case, folder / "case"), cases)
    finally:
        torch.set_num_threads(threads)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Run the cases that the command line names. Returns the exit code: 1 if there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", type=int, help="repeat this case alone")
    options = parser.parse_args()
    sys.argv = sys.argv[:1]  # RecBole reads them
    logging.disable(logging.CRITICAL if options.kind != "commands" else logging.NOTSET)
    cases = range(options.cases) if options.case is None else [options.case]
    start, results, most, slowest = time.monotonic(), Counter[str](), 0, 0.0
    with campaign(options.kind, options.seed) as run:
        for outcome in run(cases):
            results[outcome.result] += 1
            most, slowest = max(most, outcome.megabytes), max(slowest, outcome.seconds)
            if outcome.is_finding:
                what = commands.hostile_call(options.seed, outcome.case) if options.kind == "commands" else options.kind
                sys.stdout.write(f"case {outcome.case} ({what}): {outcome.result}\n{outcome.detail}\n\n")
                sys.stdout.flush()
    figures = {"figure": f"fuzzing_{options.kind}", "seed": options.seed, "cases": len(cases), **results}
    figures |= {"most_megabytes": most, "slowest_seconds": slowest, "seconds": round(time.monotonic() - start)}
    sys.stdout.write(json.dumps(figures) + "\n")
    return int(results.total() > results["loaded"] + results["refused"])


if __name__ == "__main__":
    sys.exit(main())
