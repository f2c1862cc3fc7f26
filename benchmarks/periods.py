"""A model that is trained again after each period: from the last one's weights, anew on everything, or not at all.

    python benchmarks/periods.py split --dataset=online-retail --data_path=… --output=data --periods=8
    python benchmarks/periods.py run --dataset=online-retail --data_path=data --seed=1 --output=periods.json \
        --warm="--epochs=3 --replay=1" --MAX_ITEM_LIST_LENGTH=100
    python benchmarks/periods.py show periods.json …

`split` writes NAME-1, NAME-2, …, of which the p-th ends with period p + 1: its test are the events of that period, and
its validation the last tenth before it. Periods have equally many events. `run` calls run_recbole.py with the settings
that are given, for the model that is trained anew at each period, for the one that starts from the former period's
weights (`--warm` has its own settings), and for that one as it was, of which no weight changes (`--epochs=0`;
neighbours of items and of events are looked up in the new data, and IDs of new items start from neighbours). Killed, it
goes on.
`show` prints means over the periods from the second on, with tests over all tested events.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from hold_out import copy_atomic_files, copy_content, new_folder, read_source, write_text
from scipy.stats import ttest_rel, wilcoxon
from tabulate import tabulate
from tqdm import tqdm

from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.errors import DataError, LLMInterestError, SettingsError
from recbole_llm_interest.evaluation.metrics import event_gains
from recbole_llm_interest.io.files import write_text as write_result

#: of the events before a period that validate
VALIDATION = 0.1
ANEW, WARM, UNCHANGED = "trained anew", "warm start", "unchanged"
_COMMAND = Path(__file__).parent.parent / "run_recbole.py"


class Run(NamedTuple):
    """One model of one period.

    Attributes:
        seed: of the training.
        period: whose events precede the tested ones.
        method: how it was trained.
        seconds: of training, CPU time, without validation and test.
        wall_seconds: of the whole command.
        epochs: trained.
        ranks: of the tested events, seen items kept; 0 beyond the list.
        filtered_ranks: the same, seen items filtered.
        best_valid: validation NDCG@10.
        checkpoint: of the model.
        settings: of all runs, and those of the warm start.
    """

    seed: int
    period: int
    method: str
    seconds: float
    wall_seconds: float
    epochs: int
    ranks: list[int]
    filtered_ranks: list[int]
    best_valid: float | None
    checkpoint: str
    settings: list[str]


def split(options: argparse.Namespace) -> None:
    """Write one data set for each period but the last, and print the moments of its split."""
    source = options.data_path / options.dataset
    events = read_source(source, options.output / f"{options.dataset}-1")
    ordered = events.in_order()
    ends = np.linspace(0, len(ordered), options.periods + 1).round().astype(int)[1:]
    for period, (begin, end) in enumerate(itertools.pairwise(ends), start=1):
        name = f"{options.dataset}-{period}"
        with new_folder(options.output / name) as folder:
            write_text(ordered.iloc[:end], folder / f"{name}.inter")
            copy_atomic_files(source, folder, ("item", "user"))
            copy_content(source, folder)
        print(json.dumps({"dataset": name, "events": int(end), "time_split": moments(begin, end)}))


def moments(begin: int, end: int) -> list[float]:
    """When validation and test begin, as quantiles of the times of ``end`` events: ``begin`` precede the test."""
    return [round((1 - VALIDATION) * begin / end, 6), round(begin / end, 6)]


def run(options: argparse.Namespace, settings: list[str]) -> None:
    """Train and test every model, and keep each as soon as it is done."""
    done = [Run(**one) for one in json.loads(options.output.read_text())] if options.output.exists() else []
    chosen = [*settings, options.warm]
    if done and done[0].settings != chosen:
        raise SettingsError(f"{options.output} has runs with {shlex.join(done[0].settings)}: name another --output")
    found = {(one.seed, one.period, one.method): one for one in done}
    sizes = [
        sum(1 for _ in (options.data_path / name / f"{name}.inter").open()) - 1
        for name in (f"{options.dataset}-{period}" for period in range(1, options.periods))
    ]
    begins = [round(sizes[0] / 2), *sizes]
    plan = [(period, method) for period in range(1, options.periods) for method in (ANEW, WARM, UNCHANGED)]
    for period, method in tqdm(plan, desc=f"seed {options.seed}", unit="run"):
        if (options.seed, period, method) in found or (period == 1 and method != ANEW):
            continue
        former = found.get((options.seed, period - 1, WARM)) or found.get((options.seed, period - 1, ANEW))
        start = [] if method == ANEW or former is None else [f"--init_from={former.checkpoint}"]
        more = {ANEW: [], WARM: shlex.split(options.warm), UNCHANGED: ["--epochs=0"]}[method]
        own = {one.partition("=")[0] for one in more}
        common = [one for one in settings if one.partition("=")[0] not in own]
        split_at = f"--time_split={moments(begins[period - 1], sizes[period - 1])}"
        table = options.output.with_suffix(".run.json")
        table.unlink(missing_ok=True)
        command = [
            *(sys.executable, str(_COMMAND), "--model=LLMInterest", f"--dataset={options.dataset}-{period}"),
            *(
                f"--data_path={options.data_path}",
                f"--seed={options.seed}",
                f"--table={table}",
                "--show_progress=False",
            ),
            *(split_at, *common, *start, *more),
        ]
        begun = time.perf_counter()
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise LLMInterestError(f"{shlex.join(command)} failed: {made.stderr.strip().splitlines()[-1:]}")
        found[options.seed, period, method] = _run_of(table, period, method, time.perf_counter() - begun, chosen)
        write_result(options.output, json.dumps([one._asdict() for one in found.values()]))
    print(f"runs: {options.output}")


def _run_of(table: Path, period: int, method: str, wall_seconds: float, settings: list[str]) -> Run:
    (result,) = json.loads(table.read_text())
    seconds = (result["cpu_seconds_per_epoch"] or 0.0) * result["epochs"]
    ranks = result["ranks"], result["filtered_ranks"]
    best, checkpoint = result["best_valid"], result["checkpoint"]
    return Run(
        result["seed"], period, method, seconds, wall_seconds, result["epochs"], *ranks, best, checkpoint, settings
    )


def show(options: argparse.Namespace) -> None:
    """Print NDCG@10 and times of each method, means over periods and seeds."""
    runs = [Run(**one) for path in options.files for one in json.loads(path.read_text()) if one["period"] > 1]
    found = {(one.seed, one.period, one.method) for one in runs}
    last = max((one.period for one in runs), default=0)
    methods = (ANEW, WARM, UNCHANGED)
    whole = {(seed, period, method) for seed, *_ in found for period in range(2, last + 1) for method in methods}
    if not found or found != whole:
        raise DataError(f"{', '.join(map(str, options.files))}: {len(whole - found)} runs are missing: run them first")
    gains = {method: _gains(runs, method) for method in (ANEW, WARM, UNCHANGED)}
    rows = []
    for method, (kept, filtered) in gains.items():
        of_method = [one for one in runs if one.method == method]
        seconds, wall = (np.mean([getattr(one, key) for one in of_method]) for key in ("seconds", "wall_seconds"))
        valid = [one.best_valid for one in of_method if one.best_valid is not None]
        rows.append([method, np.mean(valid) if valid else None, kept.mean(), filtered.mean(), seconds, wall])
    head = ["", "validation NDCG@10", "NDCG@10", "filtered NDCG@10", "CPU s of training", "s in all"]
    print(tabulate(rows, head, tablefmt="github", floatfmt=("", ".4f", ".4f", ".4f", ".1f", ".1f")))
    for method in (ANEW, UNCHANGED):
        for name, ours, other in zip(("kept", "filtered"), gains[WARM], gains[method], strict=True):
            p = ttest_rel(ours, other).pvalue, wilcoxon(ours, other).pvalue
            print(f"{name}: warm start / {method} {ours.mean() / other.mean():.3f}; p {p[0]:.2g} (t), {p[1]:.2g} (W)")
    print(f"{len(gains[WARM][0])} tested events; seeds {sorted({one.seed for one in runs})}")


def _gains(runs: list[Run], method: str) -> tuple[Any, Any]:
    """NDCG@10 of each tested event, seen items kept and filtered: means over seeds."""
    seeds = sorted({one.seed for one in runs})
    of_seeds = [
        sorted((one for one in runs if one.method == method and one.seed == seed), key=lambda one: one.period)
        for seed in seeds
    ]
    return tuple(  # type: ignore[return-value]
        np.mean(
            [
                np.concatenate([event_gains("ndcg", torch.tensor(getattr(one, key)), 10).numpy() for one in of_seed])
                for of_seed in of_seeds
            ],
            axis=0,
        )
        for key in ("ranks", "filtered_ranks")
    )


def main() -> None:
    """Run the subcommand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    commands = parser.add_subparsers(required=True)
    splitting = commands.add_parser("split", help="write the data sets")
    splitting.set_defaults(run=lambda options, _: split(options))
    running = commands.add_parser("run", help="train and test the models", allow_abbrev=False)
    running.set_defaults(run=run)
    running.add_argument("--seed", type=int, default=1)
    running.add_argument("--warm", default="--epochs=3 --replay=1", help="settings of the warm start alone")
    showing = commands.add_parser("show", help="print what was found")
    showing.set_defaults(run=lambda options, _: show(options))
    showing.add_argument("files", type=Path, nargs="+", help="written by run")
    for command in (splitting, running):
        command.add_argument("--dataset", required=True)
        command.add_argument("--data_path", type=Path, required=True)
        command.add_argument("--output", type=Path, required=True, help="folder of data sets, or file of runs")
        command.add_argument("--periods", type=int, default=8)
    options, settings = parser.parse_known_args()
    options.run(options, settings)


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="finished runs are kept"))
