"""Full-sort evaluation among many items: RecBole's own way against this package's, of the same model and data.

Both are RecBole's ``Trainer.evaluate``, in one process, taking turns. The baseline's batches are as large as
``eval_batch_size`` says, and RecBole's own collector finds the hits. The data are random, and so is the model, which
makes no difference to the time. Every metric has to be the same to 1e-9. The figure is what it takes to get from the
scores to the hits; making the scores is the model's part, and the same for both. Seen items stay candidates, as in
RecBole; what it takes to rank without them, too, is noted.

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --model=LLMInterest
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from figure import memory, print_figure, seconds
from recbole.evaluator import Collector
from tqdm import tqdm
from training import LEAVE_ONE_OUT, ready_to_train

LENGTH = 20


def stock_collector() -> Any:
    """RecBole's collector as it is shipped, from a second copy of its module."""
    spec = importlib.util.find_spec("recbole.evaluator.collector")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Collector


def write_events(folder: Path, users: int, items: int) -> None:
    """Random histories in which every item comes up, whatever their number."""
    chance = np.random.default_rng(1)
    count = max(users * LENGTH, items)
    events = pd.DataFrame(
        {
            "user_id:token": np.arange(count) % users,
            "item_id:token": np.append(chance.permutation(items), chance.integers(items, size=count - items)),
            "timestamp:float": np.arange(count),
        }
    )
    folder.mkdir(parents=True)
    events.to_csv(folder / f"{folder.name}.inter", sep="\t", index=False)


class Side:
    """One way to evaluate.

    Args:
        options: the command line's.
        folder: where the data lie.
        collector: the class that finds the hits.
        scores_mb: the most scores that a batch may have.
        seen_items: the candidates.
    """

    def __init__(
        self, options: argparse.Namespace, folder: Path, collector: Any, scores_mb: float, seen_items: str = "kept"
    ) -> None:
        settings = {
            **{"data_path": str(folder), "checkpoint_dir": str(folder), "MAX_ITEM_LIST_LENGTH": LENGTH},
            **{"eval_batch_size": options.batch_size, "eval_scores_mb": scores_mb, "metric_decimal_place": 15},
            **{"metrics": ["Recall", "NDCG", "MRR"], "topk": [10], "valid_metric": "NDCG@10"},
            **{"loss_type": "CE", "train_neg_sample_args": None, "modalities": [], "use_gpu": options.use_gpu},
            **{"eval_args": LEAVE_ONE_OUT, "seen_items": seen_items},
        }
        self.trainer, _, _, self.test = ready_to_train(options.model, "random", settings)
        self.trainer.eval_collector = collector(self.trainer.config)
        self.trainer.eval_collector.eval_batch_collect = self._timed(self.trainer.eval_collector.eval_batch_collect)
        self.collecting: list[float] = []
        self.processor: list[float] = []
        self.wall: list[float] = []
        self.peak = 0.0

    def evaluate(self) -> dict[str, float]:
        """Evaluate once, and note how long it took and what memory."""
        self.collecting.append(0.0)
        with memory() as used, seconds() as taken:
            result = self.trainer.evaluate(self.test, load_best_model=False)
        self.wall.append(taken[0])
        self.processor.append(taken[1])
        self.peak = max(self.peak, used.peak)
        return result

    def _timed(self, collect: Any) -> Any:
        def timed(*batch: Any) -> None:
            with seconds() as taken:
                collect(*batch)
            self.collecting[-1] += taken[1]

        return timed


def main() -> None:
    """Evaluate in both ways and print the figure, in words and then as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="GRU4Rec")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=4096, help="one test event each")
    parser.add_argument("--batch_size", type=int, default=4096, help="eval_batch_size, whose default it is")
    parser.add_argument("--scores_mb", type=float, default=256, help="eval_scores_mb, whose default it is")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="CPU seconds count those of all threads")
    parser.add_argument("--use_gpu", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_events(folder / "random", options.users, options.items)
        stock = Side(options, folder, stock_collector(), scores_mb=float("inf"))
        ours = Side(options, folder, Collector, options.scores_mb)
        both = Side(options, folder, Collector, options.scores_mb, "both")
        for _ in tqdm(range(options.repeats), desc="repeats"):
            theirs, own, doubled = stock.evaluate(), ours.evaluate(), both.evaluate()
            difference = max(abs(theirs[metric] - other[metric]) for metric in theirs for other in (own, doubled))
            if theirs.keys() != own.keys() or difference > 1e-9:
                sys.exit(f"error: not the same metrics: {dict(theirs)} and {dict(own)}")

    print(
        f"{options.model}, {options.users} events among {options.items} items, whole evaluation: RecBole "
        f"{min(stock.processor):.2f} CPU seconds and {stock.peak:.0f} MB, ours {min(ours.processor):.2f} and "
        f"{ours.peak:.0f}; of that from scores to hits: {min(stock.collecting):.2f} and {min(ours.collecting):.2f}; "
        f"with seen items kept and filtered, ours {min(both.processor):.2f} and {min(both.collecting):.2f}"
    )
    print_figure(
        f"full-sort evaluation of {options.model} among {options.items} items, from scores to hits, RecBole / package",
        "CPU seconds",
        stock.collecting,
        ours.collecting,
        on=stock.trainer.device,
        whole_evaluation={
            "cpu_seconds": [round(min(stock.processor), 2), round(min(ours.processor), 2)],
            "wall_clock_seconds": [round(min(stock.wall), 2), round(min(ours.wall), 2)],
            "peak_mb": [round(stock.peak), round(ours.peak)],
        },
        kept_and_filtered={
            "cpu_seconds": round(min(both.processor), 2),
            "over_kept": round(min(both.processor) / min(ours.processor), 2),
            "peak_mb": round(both.peak),
        },
        largest_difference_of_a_metric=difference,
        events=options.users,
        eval_batch_size=options.batch_size,
        eval_scores_mb=options.scores_mb,
    )


if __name__ == "__main__":
    main()
