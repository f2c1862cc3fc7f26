"""From the interaction file to the first batch: stock SASRec's data set against LLMInterest's.

Each preparation is a process of its own, which reports how long it took, the most memory that it had beyond what it had
after its imports, and what the prepared data keep: the tensors that are there in the end. Content is left out, since
stock models have none. The baseline reads files as RecBole ships it; with ``--patched``, it reads them as this
package does.

    python benchmarks/preparation.py --dataset=ml-1m-mm --data_path=…
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor

import pandas
import recbole.data.dataset.dataset
import torch
from figure import memory, print_figure, seconds
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed
from tqdm import tqdm
from training import LEAVE_ONE_OUT

import recbole_llm_interest  # noqa: F401  (RecBole runs, and knows LLMInterest, once this is imported)


def prepare(model: str, options: argparse.Namespace) -> dict[str, float]:
    """Prepare the data for a model: seconds, MB at the peak, and MB of tensors in the end."""
    sys.argv = sys.argv[:1]  # RecBole reads the command line too
    torch.set_num_threads(1)
    if model != "LLMInterest" and not options.patched:
        recbole.data.dataset.dataset.pd = pandas
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            **{"MAX_ITEM_LIST_LENGTH": options.length, "checkpoint_dir": folder, "show_progress": False},
            **{"loss_type": "CE", "train_neg_sample_args": None, "modalities": []},
            "eval_args": LEAVE_ONE_OUT,
            **({"data_path": options.data_path} if options.data_path else {}),
        }
        config = Config(model, options.dataset, config_dict=settings)
        init_seed(config["seed"], config["reproducibility"])
        with memory() as used, seconds() as taken:
            data = data_preparation(config, create_dataset(config))
            next(iter(data[0]))
    return {"seconds": taken[0], "cpu_seconds": taken[1], "peak_mb": used.peak, "kept_mb": tensors_mb()}


def tensors_mb() -> float:
    """Size of all tensors of this process, each stretch of memory counted once."""
    storages = [thing.untyped_storage() for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values()) / 1e6


def main() -> None:
    """Prepare in both ways and print the figure, in words and then as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data_path", default=None)
    parser.add_argument("--baseline", default="SASRec")
    parser.add_argument("--length", type=int, default=200, help="MAX_ITEM_LIST_LENGTH")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--patched", action="store_true", help="let the baseline read files as this package does")
    options = parser.parse_args()

    spawn = multiprocessing.get_context("spawn")
    runs: dict[str, list[dict[str, float]]] = {options.baseline: [], "LLMInterest": []}
    for _ in tqdm(range(options.repeats), desc="repeats"):
        for model, done in runs.items():
            with ProcessPoolExecutor(1, mp_context=spawn) as process:
                done.append(process.submit(prepare, model, options).result())

    baseline, ours = runs.values()
    columns = {name: ([run[name] for run in baseline], [run[name] for run in ours]) for name in ours[0]}
    medians = {name: [statistics.median(side) for side in sides] for name, sides in columns.items()}
    for name, (theirs, own) in medians.items():
        print(f"{name}: {options.baseline} {theirs:.2f}, LLMInterest {own:.2f}, ratio {theirs / own:.1f}")
    print_figure(
        f"data preparation of {options.dataset} at length {options.length}, {options.baseline} / LLMInterest",
        "CPU seconds",
        *columns["cpu_seconds"],
        medians={name: [round(value, 2) for value in values] for name, values in medians.items()},
        ratios={name: round(theirs / own, 1) for name, (theirs, own) in medians.items()},
        baseline_reads_as_shipped=not options.patched,
    )


if __name__ == "__main__":
    main()
