"""Where a training step's time goes: how long the device is busy, with what, and how often it is waited for.

Steps are timed as they are, and then profiled by torch, which slows them; the share is the profiled time of the
device's kernels in the time of a step as it is. Well below one, a step is bound by what the processor does between
kernels: Python and their launches. Without a GPU, operations of the processor are listed and there is no share.

    python benchmarks/step_profile.py
    python benchmarks/step_profile.py --dataset=ml-1m-mm --data_path=… --length=200 --batch_size=32768
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path

import torch
from tabulate import tabulate
from torch.profiler import ProfilerActivity, profile
from training import ready_to_train

from recbole_llm_interest.training.environment_info import environment_info

#: how the processor waits for the device, or copies from it, in a profile
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def main() -> None:
    """Time and profile steps, print the operations that take most, and then the figure as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="LLMInterest")
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data_path", help="where the data set's folder is; RecBole's own are found without")
    parser.add_argument("--config_files", nargs="*", default=[], help="YAML files with further settings")
    parser.add_argument("--length", type=int, default=50, help="MAX_ITEM_LIST_LENGTH")
    parser.add_argument("--batch_size", type=int, default=2048, help="targets a batch")
    parser.add_argument("--batches", type=int, default=20, help="steps that are timed, and profiled")
    parser.add_argument("--rows", type=int, default=15, help="operations to list")
    parser.add_argument("--feature_cache", default=str(Path("saved") / "features"))
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "MAX_ITEM_LIST_LENGTH": options.length,
            "train_batch_size": options.batch_size,
            "loss_type": "CE",
            "train_neg_sample_args": None,
            "checkpoint_dir": folder,
            "feature_cache": options.feature_cache,
        }
        if options.data_path is not None:
            settings["data_path"] = options.data_path
        trainer, train_data, *_ = ready_to_train(options.model, options.dataset, settings, options.config_files)
    has_gpu = trainer.device.type == "cuda"
    batches = min(options.batches, len(train_data))

    def steps() -> float:
        start = time.perf_counter()
        trainer._train_epoch(itertools.islice(train_data, batches), 0)
        if has_gpu:
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / batches * 1e3

    steps()
    times = sorted(steps() for _ in range(5))
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if has_gpu else [])]
    with profile(activities=activities) as profiled:
        steps()
    events = profiled.key_averages()
    clock = "self_device_time_total" if has_gpu else "self_cpu_time_total"
    # A kernel's time also counts for the operation that launched it; only kernels run on the device.
    on_device = [event for event in events if (event.device_type.name == "CUDA") == has_gpu]
    busy = sum(getattr(event, clock) for event in on_device) / batches / 1e3
    most = sorted(on_device, key=lambda event: getattr(event, clock), reverse=True)[: options.rows]
    print(
        tabulate(
            [
                {
                    "operation": event.key[:90],
                    "ms a step": f"{getattr(event, clock) / batches / 1e3:.3f}",
                    "share": f"{getattr(event, clock) / batches / 1e3 / busy:.1%}",
                    "a step": f"{event.count / batches:.1f}",
                }
                for event in most
            ],
            headers="keys",
            tablefmt="github",
        )
    )
    median = times[len(times) // 2]
    figure = {
        "figure": f"training step, {options.model}, {options.dataset}",
        "unit": "ms a step",
        "step": round(median, 3),
        "spread": [round(times[0], 3), round(times[-1], 3)],
        "device_busy": round(busy, 3) if has_gpu else None,
        "device_share": round(busy / median, 3) if has_gpu else None,
        "kernels": round(sum(event.count for event in on_device) / batches, 1),
        "waits": round(sum(event.count for event in events if event.key in _WAITS) / batches, 1) if has_gpu else None,
        "batches": batches,
        "batches_an_epoch": len(train_data),
        "length": options.length,
        "batch_size": options.batch_size,
        **environment_info(trainer.device),
    }
    print(json.dumps(figure))


if __name__ == "__main__":
    main()
