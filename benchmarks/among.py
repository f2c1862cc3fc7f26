"""Recall among a few candidates, from the ranks among all that a table of run_recbole.py has.

    python benchmarks/among.py --table=dialogues.json --candidates=100 --k=1,10

The candidates are the true item and others drawn at random. No draw is needed: of N items, with r - 1 better than the
true one, the number of better ones among those drawn is hypergeometric, so that the mean over all draws is exact.
Sampled metrics can order models differently from full ones (Krichene and Rendle, KDD 2020): report both.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom
from tabulate import tabulate

from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.evaluation.results import RunResult, read_results
from recbole_llm_interest.evaluation.significance import means_by_user, paired_p_values


def recall_among(ranks: NDArray[np.int64], items: int, candidates: int, k: int) -> NDArray[np.float64]:
    """The mean recall@k of each event over all draws, from its rank among all items, ``[E]``."""
    return np.asarray(hypergeom.cdf(k - 1, items - 1, ranks - 1, candidates - 1))


def comparable_runs(table: Path) -> tuple[dict[str, list[RunResult]], int]:
    """The runs of a table by row, and the number of items that each event was ranked among.

    Raises:
        DataError: a run lacks ranks, or was tested on other events than the first.
    """
    rows: dict[str, list[RunResult]] = defaultdict(list)
    for run in read_results(table):
        rows[run.variant].append(run)
    runs = [run for of_row in rows.values() for run in of_row]
    found = re.match(r"all (\d+) items", runs[0].candidates)
    if found is None:
        raise DataError(f"{table}: events are not ranked among all items, but {runs[0].candidates}")
    for run in runs:
        if run.test_digest != runs[0].test_digest:
            raise DataError(f"{table}: {run.variant} was tested on other events than {runs[0].variant}")
        if not run.ranks or not all(run.ranks):
            raise DataError(f"{table}: {run.variant} lacks ranks: run it with --topk=[1,10,{found[1]}]")
    return rows, int(found[1])


def main() -> None:
    """Print a table with one row for each row of the given one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="JSON file of run_recbole.py")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--k", default="1,10", help="separated by commas")
    options = parser.parse_args()
    rows, items = comparable_runs(options.table)
    if not 0 < options.candidates <= items:
        raise SettingsError(f"--candidates={options.candidates}: there are {items} items")
    cells = [[name, str(len(runs))] for name, runs in rows.items()]
    users = next(iter(rows.values()))[0].event_users
    for k in map(int, options.k.split(",")):
        recalls = [
            recall_among(np.array([run.ranks for run in runs]), items, options.candidates, k).mean(axis=0)
            for runs in rows.values()
        ]
        first, *others = (means_by_user(recall, users) for recall in recalls)
        tests = [paired_p_values(first, others, test) for test in ("t", "wilcoxon")] if others else [[], []]
        p_values = ["-", *(f"{t:.2g}, {w:.2g}" for t, w in zip(*tests, strict=True))]
        for row, recall, p_value in zip(cells, recalls, p_values, strict=True):
            row += [f"{recall.mean():.4f}", p_value]
    header = ["model", "seeds", *(text for k in options.k.split(",") for text in (f"recall@{k}", "p (t, W)"))]
    print(f"among {options.candidates} of {items} items; p against the first row, over means of users, by Holm\n")
    print(tabulate(cells, header, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing was written"))
