"""One training epoch of LLMInterest against one of a stock RecBole model: same data, targets, batch size, threads.

Both train through RecBole's trainer, loading of batches included, each in a process of its own, taking turns. The
baseline may be timed on its first ``--batches`` batches, which the output states; its epoch is scaled up from those.

On a GPU, which is used where there is one, the wall clock waits for it at the end of each epoch.

Stock RecBole trains every sequential model under torch's anomaly detection, since looking one up imports SINE, which
turns it on. Our package turns it off, here for the baseline too; ``--as_shipped`` times the baseline with it on.

    python benchmarks/epoch_time.py --baseline=GRU4Rec
    python benchmarks/epoch_time.py --baseline=SASRec --dataset=ml-1m-mm --data_path=… --length=200 --batches=20
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from figure import device
from tqdm import tqdm
from training import ready_to_train

from recbole_llm_interest.training.environment_info import environment_info


class Side:
    """A model, ready to train, in this process."""

    trainer: Any
    train_data: Any

    @classmethod
    def prepare(cls, model_name: str, options: argparse.Namespace) -> None:
        """Build the model, its data and RecBole's trainer, and warm them up."""
        torch.set_num_threads(options.threads)
        is_ours = model_name == "LLMInterest"
        settings = {
            "MAX_ITEM_LIST_LENGTH": options.length,
            "train_batch_size": options.our_batch_size if is_ours else options.batch_size,
            "checkpoint_dir": options.checkpoint_dir,
            "feature_cache": options.feature_cache,
        }
        if options.data_path is not None:
            settings["data_path"] = options.data_path
        if is_ours and options.precision == "bfloat16":
            settings |= {"loss_precision": "bfloat16", "enable_amp": True}
        files = options.config_files if is_ours else ()
        cls.trainer, cls.train_data, *_ = ready_to_train(model_name, options.dataset, settings, files)
        torch.autograd.set_detect_anomaly(options.as_shipped and not is_ours)
        cls.time_epoch(2)

    @classmethod
    def time_epoch(cls, batches: int) -> float:
        """Seconds of one epoch, timed on its first ``batches`` batches (0 for all) and scaled up to all."""
        total = len(cls.train_data)
        timed = min(batches or total, total)
        start = time.perf_counter()
        cls.trainer._train_epoch(itertools.islice(cls.train_data, timed), 0)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return (time.perf_counter() - start) * total / timed

    @classmethod
    def work(cls) -> tuple[int, int]:
        """Batches and targets of one epoch."""
        data = cls.train_data
        targets = int((data.end - data.start).sum()) if hasattr(data, "start") else len(data._dataset)
        return len(data), targets


def process_of(model_name: str, options: argparse.Namespace) -> ProcessPoolExecutor:
    """A process that holds one side."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=spawn, initializer=Side.prepare, initargs=(model_name, options))


def main() -> None:
    """Time both sides and print the figure, in words and then as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--baseline", default="GRU4Rec")
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data_path", help="where the data set's folder is; RecBole's own are found without")
    parser.add_argument("--batches", type=int, default=6, help="batches of the baseline's epoch to time; 0 for all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--config_files", nargs="*", default=[], help="YAML files with further settings of LLMInterest")
    parser.add_argument("--length", type=int, default=50, help="MAX_ITEM_LIST_LENGTH")
    parser.add_argument("--batch_size", type=int, default=2048, help="targets a batch, for both")
    parser.add_argument("--our_batch_size", type=int, help="the same for LLMInterest alone")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--as_shipped", action="store_true", help="leave torch's anomaly detection on for the baseline")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="of LLMInterest")
    parser.add_argument("--feature_cache", default=str(Path("saved") / "features"))
    options = parser.parse_args()
    options.our_batch_size = options.our_batch_size or options.batch_size

    with tempfile.TemporaryDirectory() as folder:
        options.checkpoint_dir = folder
        with process_of("LLMInterest", options) as ours, process_of(options.baseline, options) as baseline:
            _, our_targets = ours.submit(Side.work).result()
            batches, targets = baseline.submit(Side.work).result()
            if our_targets != targets:
                sys.exit(f"error: {our_targets} targets against {targets}: not the same work")
            our_times, baseline_times = [], []
            for _ in tqdm(range(options.repeats), desc="repeats"):
                our_times.append(ours.submit(Side.time_epoch, 0).result())
                baseline_times.append(baseline.submit(Side.time_epoch, options.batches).result())

    our_time, baseline_time = statistics.median(our_times), statistics.median(baseline_times)
    ratios = [theirs / own for theirs, own in zip(baseline_times, our_times, strict=True)]
    figure = {
        "figure": f"epoch time, {options.dataset}, {options.baseline} / LLMInterest",
        "baseline_seconds": round(baseline_time, 2),
        "our_seconds": round(our_time, 3),
        "ratio": round(baseline_time / our_time, 1),
        "repeats": options.repeats,
        "spread": [round(min(ratios), 1), round(max(ratios), 1)],
        "targets": targets,
        "baseline_batches": batches,
        "baseline_batches_timed": min(options.batches or batches, batches),
        "baseline_as_shipped": options.as_shipped,
        "our_precision": options.precision,
        "batch_size": options.batch_size,
        "our_batch_size": options.our_batch_size,
        "threads": options.threads,
        "length": options.length,
        **environment_info(device()),
    }
    print(
        f"{options.baseline}: {figure['baseline_seconds']} s an epoch ({figure['baseline_batches_timed']} of {batches} "
        f"batches timed); LLMInterest: {figure['our_seconds']} s; ratio {figure['ratio']} "
        f"({figure['spread'][0]} to {figure['spread'][1]} over {options.repeats} repeats)"
    )
    print(json.dumps(figure))


if __name__ == "__main__":
    main()
