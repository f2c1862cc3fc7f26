"""Recall among a few candidates, from the ranks among all that a table of run_recbole.py has.

    python benchmarks/among.py --table=dialogues.json --candidates=100 --k=1,10

The candidates are the true item and others drawn at random. No draw is needed: of N items, with r - 1 better than the
true one, the number of better ones among those drawn is hypergeometric, so that the mean over all draws is exact.
Sampled metrics can order models differently from full ones (Krichene and Rendle, KDD 2020): report both.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom, ttest_rel, wilcoxon
from tabulate import tabulate

from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.evaluation.results import read_results


def recall_among(ranks: NDArray[np.int64], items: int, candidates: int, k: int) -> NDArray[np.float64]:
    """The mean recall@k of each event over all draws, from its rank among all items, ``[E]``."""
    return np.asarray(hypergeom.cdf(k - 1, items - 1, ranks - 1, candidates - 1))


def main() -> None:
    """Print a table with one row for each row of the given one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="JSON file of run_recbole.py")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--k", default="1,10", help="separated by commas")
    options = parser.parse_args()
    ranks: dict[str, list[list[int]]] = defaultdict(list)
    for result in read_results(options.table):
        items = int(result.data_card["items"])
        if not 0 < options.candidates <= items:
            raise SettingsError(f"--candidates={options.candidates}: there are {items} items")
        if not all(result.ranks):
            raise DataError(f"{options.table}: {result.variant} lacks ranks: run it with --topk=[1,10,{items}]")
        ranks[result.variant].append(result.ranks)
    rows = []
    first: dict[int, NDArray[np.float64]] = {}
    for name, of_seeds in ranks.items():
        row = [name, str(len(of_seeds))]
        for k in map(int, options.k.split(",")):
            recall = recall_among(np.array(of_seeds), items, options.candidates, k).mean(axis=0)
            base = first.setdefault(k, recall)
            p = "-" if base is recall else f"{ttest_rel(recall, base).pvalue:.2g}, {wilcoxon(recall, base).pvalue:.2g}"
            row += [f"{recall.mean():.4f}", p]
        rows.append(row)
    header = ["model", "seeds", *(text for k in options.k.split(",") for text in (f"recall@{k}", "p (t, W)"))]
    print(f"among {options.candidates} of {items} items; p against the first row\n")
    print(tabulate(rows, header, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing was written"))
