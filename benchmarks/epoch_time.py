"""One training epoch of LLMInterest against one of a stock RecBole model: same data, targets, batch size, threads.

Both train through RecBole's trainer, loading of batches included, taking turns in one process. The baseline may be
timed on its first ``--batches`` batches, which the output states; its epoch is then scaled up from those.

    python benchmarks/epoch_time.py --baseline=GRU4Rec
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

import recbole_llm_interest


def prepare(model_name: str, options: argparse.Namespace, checkpoint_dir: str) -> tuple[Any, Any]:
    """RecBole's trainer and training batches for a model on ml-100k."""
    settings = {
        "MAX_ITEM_LIST_LENGTH": options.length,
        "train_batch_size": options.batch_size,
        "checkpoint_dir": checkpoint_dir,
        "feature_cache": options.feature_cache,
        "show_progress": False,
    }
    config = Config(model_name, "ml-100k", config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train_data, _, _ = data_preparation(config, dataset)
    model = get_model(model_name)(config, train_data._dataset).to(config["device"])
    return get_trainer(config["MODEL_TYPE"], model_name)(config, model), train_data


def seconds(trainer: Any, train_data: Any, batches: int) -> float:
    """Time of one epoch, timed on its first ``batches`` batches and scaled up to all."""
    total = len(train_data)
    timed = min(batches or total, total)
    start = time.perf_counter()
    trainer._train_epoch(itertools.islice(train_data, timed), 0)
    return (time.perf_counter() - start) * total / timed


def main() -> None:
    """Time both sides and print the figure, in words and then as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--baseline", default="GRU4Rec")
    parser.add_argument("--batches", type=int, default=6, help="batches of the baseline's epoch to time; 0 for all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--length", type=int, default=50, help="MAX_ITEM_LIST_LENGTH")
    parser.add_argument("--batch_size", type=int, default=2048, help="targets a batch, for both")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--feature_cache", default=str(Path("saved") / "features"))
    options = parser.parse_args()
    sys.argv = sys.argv[:1]  # RecBole reads the command line too
    torch.set_num_threads(options.threads)

    with tempfile.TemporaryDirectory() as checkpoint_dir:
        ours, our_data = prepare("LLMInterest", options, checkpoint_dir)
        baseline, baseline_data = prepare(options.baseline, options, checkpoint_dir)
        our_targets = int((our_data.end - our_data.start).sum())
        if our_targets != len(baseline_data._dataset):
            sys.exit(f"error: {our_targets} targets against {len(baseline_data._dataset)}: not the same work")
        seconds(ours, our_data, 3)  # warms both up
        seconds(baseline, baseline_data, 1)
        our_times, baseline_times = [], []
        for _ in range(options.repeats):
            our_times.append(seconds(ours, our_data, 0))
            baseline_times.append(seconds(baseline, baseline_data, options.batches))

    ratios = [theirs / own for theirs, own in zip(baseline_times, our_times, strict=True)]
    figure = {
        "figure": f"epoch time, ml-100k, {options.baseline} / LLMInterest",
        "baseline_seconds": round(statistics.median(baseline_times), 2),
        "our_seconds": round(statistics.median(our_times), 3),
        "ratio": round(statistics.median(baseline_times) / statistics.median(our_times), 1),
        "repeats": options.repeats,
        "spread": [round(min(ratios), 1), round(max(ratios), 1)],
        "targets": our_targets,
        "baseline_batches_timed": min(options.batches or len(baseline_data), len(baseline_data)),
        "baseline_batches": len(baseline_data),
        "threads": options.threads,
        "length": options.length,
        "torch": torch.__version__,
        "version": recbole_llm_interest.__version__,
    }
    print(
        f"{options.baseline}: {figure['baseline_seconds']} s an epoch ({figure['baseline_batches_timed']} of "
        f"{figure['baseline_batches']} batches timed); LLMInterest: {figure['our_seconds']} s; "
        f"ratio {figure['ratio']} ({figure['spread'][0]} to {figure['spread'][1]} over {options.repeats} repeats)"
    )
    print(json.dumps(figure))


if __name__ == "__main__":
    main()
