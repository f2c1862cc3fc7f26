"""Memory of the next-item loss over a large catalogue, forwards and backwards.

Counted is what the process grows by, from before the items' table is there: the table and its gradient included, and
all that the loss holds on its way.

    python benchmarks/loss_memory.py
"""

from __future__ import annotations

import argparse
import time

import torch
from figure import memory, print_figure

from recbole_llm_interest.model.item_bias import ItemBias
from recbole_llm_interest.model.losses import next_item_loss
from recbole_llm_interest.model.scoring import ScoringRule


def main() -> None:
    """Take the loss and its gradient once and print the peak."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--targets", type=int, default=4096)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--biases", type=int, default=291, help="items of each history that have a history bias")
    parser.add_argument("--aim", type=float, default=1000.0, help="MB")
    options = parser.parse_args()
    torch.randn(64, 64).requires_grad_().square().sum().backward()  # what torch itself takes
    start = time.perf_counter()
    with memory() as taken:
        items = torch.randn(options.items, options.width, requires_grad=True)
        interest = torch.randn(options.targets, options.width, requires_grad=True)
        target = torch.randint(options.items, (options.targets,))
        bias = torch.zeros(options.biases, requires_grad=True)
        biased_items = torch.randint(options.items, (options.targets, options.biases))
        next_item_loss(interest, items, target, ScoringRule(0.07), ItemBias(biased_items, bias)).backward()
    print_figure(
        f"peak memory of the next-item loss, {options.items:,} items, {options.targets:,} targets, table and gradient "
        "included; the baseline is the aim",
        "MB",
        [options.aim],
        [taken.peak],
        seconds=round(time.perf_counter() - start, 1),
        all_scores_at_once_mb=round(options.targets * options.items * 4 / 1e6),
    )


if __name__ == "__main__":
    main()
