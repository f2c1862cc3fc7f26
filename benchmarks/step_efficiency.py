"""How much of a training step is arithmetic: its matrix products alone, by the same shapes, against the whole step.

One step's matrix products are recorded as they are dispatched, those inside the recurrent layer by its sizes (as one
product over all steps of time, which the recurrence itself does not allow). Timed by themselves, on matrices that are
there already, they are the limit; the step is RecBole's: loading, losses, gradients, optimiser.

    python benchmarks/step_efficiency.py
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from figure import print_figure
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm
from training import ready_to_train

aten = torch.ops.aten


class MatrixProducts(TorchDispatchMode):
    """Counts the matrix products that run under it, by their sizes ``[m, k] @ [k, n]``."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[tuple[int, int, int]] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = function.overloadpacket
        if packet in (aten.mm, aten.addmm, aten.addmm_):
            left, right = args[-2:]
            self.count[left.shape[0], left.shape[1], right.shape[1]] += 1
        elif packet in (aten.mkldnn_rnn_layer, aten.mkldnn_rnn_layer_backward):
            events, *weights = args[:3]
            rows = events.shape[0] * events.shape[1]
            for gates, inputs in (weight.shape for weight in weights):
                if packet is aten.mkldnn_rnn_layer:
                    self.count[rows, inputs, gates] += 1
                else:
                    self.count[rows, gates, inputs] += 1
                    self.count[gates, rows, inputs] += 1
        return function(*args, **(kwargs or {}))

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        return sum(2 * m * k * n * times for (m, k, n), times in self.count.items())


def main() -> None:
    """Time steps and their products in turn and print the share."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=8, help="steps that are timed at once")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--length", type=int, default=50, help="MAX_ITEM_LIST_LENGTH")
    parser.add_argument("--batch_size", type=int, default=2048, help="targets a batch")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="with 1, CPU time is what counts")
    parser.add_argument("--feature_cache", default=str(Path("saved") / "features"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter

    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "MAX_ITEM_LIST_LENGTH": options.length,
            "train_batch_size": options.batch_size,
            "checkpoint_dir": folder,
            "feature_cache": options.feature_cache,
        }
        trainer, train_data, *_ = ready_to_train("LLMInterest", "ml-100k", settings)
        batches = list(itertools.islice(train_data, options.batches))
        trainer._train_epoch(batches, 0)
        with MatrixProducts() as products:
            trainer._train_epoch(batches, 0)
        matrices = {
            (m, k, n): (torch.randn(m, k), torch.randn(k, n), torch.empty(m, n), times)
            for (m, k, n), times in products.count.items()
        }
        limit, steps = [], []
        for _ in tqdm(range(options.repeats), desc="repeats"):
            start = clock()
            trainer._train_epoch(batches, 0)
            steps.append((clock() - start) / options.batches * 1e3)
            start = clock()
            for left, right, out, times in matrices.values():
                for _ in range(times):
                    torch.mm(left, right, out=out)
            limit.append((clock() - start) / options.batches * 1e3)
    print_figure(
        "matrix products alone / training step, ml-100k",
        "CPU ms a step" if options.threads == 1 else "ms a step",
        limit,
        steps,
        aim=0.6,
        gflop_a_step=round(products.operations / options.batches / 1e9, 2),
        length=options.length,
        batch_size=options.batch_size,
    )


if __name__ == "__main__":
    main()
