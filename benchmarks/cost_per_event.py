"""Training time per event with the sampled loss, as the catalogue or the users grow a hundredfold.

Made-up events and features, of which nothing can be learnt, go through RecBole's files, data set, loader, model and
optimiser. Neighbours by content are off: finding them is no part of a step, and takes a time that grows with the square
of the catalogue. The number of events is the same whatever the catalogue, and grows with the users.

    python benchmarks/cost_per_event.py --grow=items
    python benchmarks/cost_per_event.py --grow=users
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figure import print_figure
from tqdm import tqdm
from training import ready_to_train

#: events of each user: what is left for training of the first one's history once two are held out is one window
_EVENTS_A_USER = {"items": 22, "users": 5}
_AIM = {"items": 1.5, "users": 1.3}


def write_dataset(folder: Path, users: int, items: int, events_a_user: int, width: int) -> None:
    """Every item is chosen about as often as any other; features are noise."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    item = random.permutation(np.arange(users * events_a_user) % items)
    user = np.repeat(np.arange(users), events_a_user)
    table = np.column_stack([user, item, np.arange(len(item))])
    header = "user_id:token\titem_id:token\ttimestamp:float"
    np.savetxt(folder / f"{folder.name}.inter", table, "%d", delimiter="\t", header=header, comments="")
    for kind, count in (("items", items), ("users", users)):
        np.save(folder / f"{kind}.npy", random.standard_normal((count, width), dtype=np.float32))
        (folder / f"{kind}.ids.txt").write_text("\n".join(map(str, range(count))) + "\n")


class Side:
    """A model of one size, ready to train."""

    def __init__(self, folder: Path, users: int, items: int, options: argparse.Namespace) -> None:
        name = f"users-{users}-items-{items}"
        write_dataset(folder / name, users, items, _EVENTS_A_USER[options.grow], options.width)
        settings = {
            "data_path": str(folder),
            "checkpoint_dir": str(folder),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "item_text_features": "items.npy",
            "user_text_features": "users.npy",
            "feature_conditioning": "none",
            "content_neighbours": 0,
            "id_min_events": 1,
            "loss_candidates": options.candidates,
            "train_batch_size": options.batch_size,
        }
        self.trainer, self.data, *_ = ready_to_train("LLMInterest", name, settings)
        self.batches = iter(self.data)
        self.time(3, time.process_time)

    def time(self, steps: int, clock: Any) -> float:
        """Microseconds per event of the next steps."""
        start, events = clock(), 0
        batches = list(itertools.islice(self.batches, steps))
        if len(batches) < steps:
            self.batches = iter(self.data)
            return self.time(steps, clock)
        self.trainer._train_epoch(batches, 0)
        events = sum(int(batch["item_length"].sum()) for batch in batches)
        return (clock() - start) / events * 1e6


def main() -> None:
    """Time a small and a large side in turn and print the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grow", choices=["items", "users"], default="items")
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--other", type=int, default=50_000, help="of what does not grow")
    parser.add_argument("--candidates", type=int, default=4096, help="loss_candidates")
    parser.add_argument("--batch_size", type=int, default=2048, help="targets a batch")
    parser.add_argument("--width", type=int, default=64, help="of the features")
    parser.add_argument("--steps", type=int, default=10, help="that are timed at once")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="with 1, CPU time is what counts")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter

    with tempfile.TemporaryDirectory() as folder:
        sides = []
        for size in (options.small, options.large):
            counts = {"items": options.other, "users": options.other} | {options.grow: size}
            sides.append(Side(Path(folder), options=options, **counts))
        small, large = [], []
        for _ in tqdm(range(options.repeats), desc="repeats"):
            small.append(sides[0].time(options.steps, clock))
            large.append(sides[1].time(options.steps, clock))
    print_figure(
        f"time per event, {options.large:,} {options.grow} / {options.small:,}, sampled loss",
        "CPU microseconds" if options.threads == 1 else "microseconds",
        large,
        small,
        aim=_AIM[options.grow],
        loss_candidates=options.candidates,
        batch_size=options.batch_size,
    )


if __name__ == "__main__":
    main()
