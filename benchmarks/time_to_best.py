"""How long a stock model takes to its best validation score, and LLMInterest to the same score.

Both train under RecBole's trainer with the learning rate, batch size and history length that are given, and are
evaluated after each epoch. What counts is the training so far; evaluation, the same for both, does not. The stock model
trains until it has had no better epoch for ``--patience`` ones.

    python benchmarks/time_to_best.py --baseline=GRU4Rec
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from figure import print_figure
from tqdm import tqdm
from training import LEAVE_ONE_OUT, ready_to_train

METRIC = "ndcg@10"


def curve(model_name: str, options: argparse.Namespace, folder: str, *, target: float) -> list[tuple[float, float]]:
    """Train until the score is ``target``, or no longer rises; after each epoch, the time so far and the score."""
    clock = time.process_time if options.threads == 1 else time.perf_counter
    settings = {
        "MAX_ITEM_LIST_LENGTH": options.length,
        "train_batch_size": options.batch_size,
        "epochs": options.epochs,
        "seed": options.seed,
        "eval_args": LEAVE_ONE_OUT,
        "valid_metric": METRIC,
        "metrics": ["NDCG"],
        "topk": [10],
        "metric_decimal_place": 6,
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "feature_cache": options.feature_cache,
        "checkpoint_dir": folder,
    }
    trainer, train_data, valid_data, _ = ready_to_train(model_name, options.dataset, settings)
    trainer.eval_collector.data_collect(train_data)
    points: list[tuple[float, float]] = []
    trained, best_epoch = 0.0, 0
    for epoch in tqdm(range(options.epochs), desc=f"epochs of {model_name}"):
        start = clock()
        trainer._train_epoch(train_data, epoch)
        trained += clock() - start
        points.append((trained, float(trainer.evaluate(valid_data, load_best_model=False)[METRIC])))
        if points[epoch][1] > points[best_epoch][1]:
            best_epoch = epoch
        if points[epoch][1] >= target or epoch - best_epoch >= options.patience:
            break
    return points


def rounded(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points of a curve as they are kept."""
    return [(round(seconds, 1), round(score, 4)) for seconds, score in points]


def main() -> None:
    """Train both and print the figure, in words and then as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--baseline", default="GRU4Rec")
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--length", type=int, default=50, help="MAX_ITEM_LIST_LENGTH")
    parser.add_argument("--batch_size", type=int, default=2048, help="targets a batch, for both")
    parser.add_argument("--epochs", type=int, default=200, help="epochs at most")
    parser.add_argument("--patience", type=int, default=5, help="epochs without a better one that end the training")
    parser.add_argument("--seed", type=int, default=2020)
    parser.add_argument("--threads", type=int, default=1, help="with 1, CPU time is what counts")
    parser.add_argument("--feature_cache", default=str(Path("saved") / "features"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    with tempfile.TemporaryDirectory() as folder:
        theirs = curve(options.baseline, options, folder, target=float("inf"))
        time_of_best, best = max(theirs, key=lambda point: point[1])
        ours = curve("LLMInterest", options, folder, target=best)
    own_time, reached = ours[-1]
    if reached < best:
        sys.exit(f"error: LLMInterest got no further than {max(score for _, score in ours):.4f} of {best:.4f}")
    print(
        f"{options.baseline}: validation {METRIC} {best:.4f} after {time_of_best:.0f} s of training; "
        f"LLMInterest: {reached:.4f} after {own_time:.1f} s, {len(ours)} epochs"
    )
    print_figure(
        f"training time to the best validation {METRIC} of {options.baseline}, {options.dataset}",
        "CPU seconds" if options.threads == 1 else "seconds",
        [time_of_best],
        [own_time],
        aim=30,
        curves={"baseline": rounded(theirs), "ours": rounded(ours)},
        seed=options.seed,
    )


if __name__ == "__main__":
    main()
