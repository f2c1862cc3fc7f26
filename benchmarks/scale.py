"""A large catalogue prepared, trained on for some steps and evaluated on some users, in bounded memory.

The data are made here: items by Zipf's law, in histories of like length, and features of the items that are random
numbers, if ``--feature_size`` asks for them. Each size is a process of its own. ``--users``, ``--items`` and
``--length`` are the one size whose memory has to stay below ``--limit_gb``; ``--curve`` also measures smaller ones, in
which one of them at a time is a part of that, and draws time and memory against it. Settings of the model follow as
``--key=value``.

    python benchmarks/scale.py --users=20000 --items=20000 --events=1000000 --curve=0.25,0.5 --output=saved/scale
    python benchmarks/scale.py --users=1000000 --items=1000000 --events=50000000 --limit_gb=20 --steps=20
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from figure import memory, print_figure, seconds
from matplotlib.figure import Figure
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.utils import get_model, get_trainer, init_seed
from tqdm import tqdm
from training import LEAVE_ONE_OUT

from recbole_llm_interest.patches.security import parse_literal

STAGES = ("prepare", "build", "train", "evaluate")
#: events that are made and written at once
_BLOCK = 2_000_000


@dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
        users: how many there are.
        items: how many there are to choose from; those that nobody chose are no part of the data set.
        events: how many there are in all.
        length: events of a history that the model sees.
    """

    users: int
    items: int
    events: int
    length: int


def write_events(path: Path, size: Size) -> None:
    """Users in turn, items by Zipf's law (exponent 1), each event a second after the one before."""
    chance = np.random.default_rng(1)
    share = np.cumsum(1 / np.arange(1, size.items + 1))
    names = chance.permutation(size.items)
    path.parent.mkdir(parents=True)
    for start in tqdm(range(0, size.events, _BLOCK), desc=f"Writing {size.events:,} events", leave=False):
        place = np.arange(start, min(start + _BLOCK, size.events))
        items = names[np.searchsorted(share, chance.random(len(place)) * share[-1])]
        block = {"user_id:token": place % size.users, "item_id:token": items, "timestamp:float": place}
        pd.DataFrame(block).to_csv(path, sep="\t", index=False, mode="a", header=start == 0)


def write_features(folder: Path, items: int, width: int) -> str:
    """Random features of every item; the file's name, as the settings want it."""
    np.save(folder / "features.npy", np.random.default_rng(2).standard_normal((items, width), dtype=np.float32))
    (folder / "features.ids.txt").write_text("".join(f"{item}\n" for item in range(items)))
    return "features.npy"


class Run:
    """One size, from the file to the metrics, in this process.

    Args:
        size: what is measured.
        options: the command line's.
        settings: the model's.
    """

    def __init__(self, size: Size, options: argparse.Namespace, settings: dict[str, Any]) -> None:
        self.size = size
        self.options = options
        self.settings = settings
        self.result: dict[str, Any] = asdict(size)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Note what a stage takes."""
        with memory() as used, seconds() as taken:
            yield
        self.result[name] = {"seconds": round(taken[0], 2), "peak_mb": round(used.peak), "kept_mb": round(used.kept)}

    def measure(self) -> dict[str, Any]:
        """All stages, and the most memory that the process had, its libraries included."""
        sys.argv = sys.argv[:1]  # RecBole reads the command line too
        torch.set_num_threads(self.options.threads)
        torch.optim.Adam([torch.nn.Parameter(torch.ones(1))])  # the first optimiser imports torch's compiler
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_events(folder / "zipf" / "zipf.inter", self.size)
            self._run(folder)
        self.result["peak_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 3)
        return self.result

    def _run(self, folder: Path) -> None:
        settings = {
            **{"data_path": str(folder), "checkpoint_dir": str(folder), "MAX_ITEM_LIST_LENGTH": self.size.length},
            **{"modalities": [], "show_progress": False, "metrics": ["Recall", "NDCG"], "topk": [10]},
            **{"valid_metric": "NDCG@10", "epochs": 1},
            "eval_args": LEAVE_ONE_OUT,
        }
        if self.options.feature_size:
            file = write_features(folder / "zipf", self.size.items, self.options.feature_size)
            settings |= {"modalities": ["text"], "item_text_features": file}
        config = Config("LLMInterest", "zipf", config_dict={**settings, **self.settings})
        init_seed(config["seed"], config["reproducibility"])
        with self.stage("prepare"):
            dataset = create_dataset(config)
            train, _, test = data_preparation(config, dataset)
        self.result["items_chosen"] = dataset.item_num - 1
        with self.stage("build"):
            model = get_model("LLMInterest")(config, train._dataset).to(config["device"])
            trainer = get_trainer(config["MODEL_TYPE"], "LLMInterest")(config, model)
        with self.stage("train"):
            steps = min(self.options.steps, len(train))
            trainer._train_epoch(itertools.islice(train, steps), 0)
        self.result["train"]["steps"] = steps
        self.result["train"]["of"] = len(train)
        tested = test._dataset
        some_users = FullSortEvalDataLoader(config, tested.copy(tested.inter_feat[: self.options.eval_users]), None)
        with self.stage("evaluate"):
            trainer.evaluate(some_users, load_best_model=False)
        self.result["evaluate"]["users"] = len(some_users._dataset)


def measure(size: Size, options: argparse.Namespace, settings: dict[str, Any]) -> dict[str, Any]:
    """One size in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        result: dict[str, Any] = process.submit(Run(size, options, settings).measure).result()
    print(json.dumps(result), flush=True)
    return result


def curve(largest: Size, axis: str, share: float) -> Size:
    """``largest`` with a part of its users (and their events), of its items or of its length."""
    part = {axis: max(int(getattr(largest, axis) * share), 1)}
    if axis == "users":
        part["events"] = max(int(largest.events * share), 1)
    return replace(largest, **part)


def draw(curves: dict[str, list[dict[str, Any]]], path: Path) -> Path:
    """Time and memory of each stage against users, items and length."""
    figure = Figure(figsize=(4 * len(curves), 6), layout="constrained")
    axes = figure.subplots(2, len(curves), squeeze=False)
    for column, (axis, results) in enumerate(curves.items()):
        for row, (value, title) in enumerate((("seconds", "seconds"), ("peak_mb", "MB above what was there"))):
            plot = axes[row, column]
            for stage in STAGES:
                values = [max(result[stage][value], 0.01 if value == "seconds" else 1) for result in results]
                plot.plot([result[axis] for result in results], values, "o-", label=stage)
            plot.set(xlabel=axis, ylabel=title if column == 0 else None, xscale="log", yscale="log")
            plot.grid(color="0.9")
    axes[0, 0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def main() -> None:
    """Measure, draw, and print the figure, in words and then as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--length", type=int, default=50, help="MAX_ITEM_LIST_LENGTH")
    parser.add_argument("--steps", type=int, default=10, help="training steps")
    parser.add_argument("--eval_users", type=int, default=1000, help="users that are evaluated, among all items")
    parser.add_argument("--feature_size", type=int, default=0, help="width of the items' random features; 0 for none")
    parser.add_argument("--limit_gb", type=float, default=20, help="memory that the largest size may take")
    parser.add_argument("--curve", default="", help="parts of the size that are measured too, as in 0.01,0.1")
    parser.add_argument("--output", default="saved/scale", help="where the curves are drawn, and written as JSON")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options, others = parser.parse_known_args()
    if any("=" not in word or not word.startswith("--") for word in others):
        parser.error(f"a setting is written --key=value, not {' '.join(others)}")
    settings = {}
    for key, value in (word[2:].split("=", 1) for word in others):
        try:
            settings[key] = parse_literal(value)
        except SyntaxError:
            settings[key] = value

    largest = Size(options.users, options.items, options.events, options.length)
    shares = [float(share) for share in options.curve.split(",") if share]
    curves = {
        axis: [measure(curve(largest, axis, share), options, settings) for share in sorted(shares)]
        for axis in ("users", "items", "length")
        if shares
    }
    result = measure(largest, options, settings)
    if curves:
        for results in curves.values():
            results.append(result)
        path = draw(curves, Path(f"{options.output}.png"))
        path.with_suffix(".json").write_text(json.dumps(curves, indent=1))
        print(f"curves: {path}, {path.with_suffix('.json')}")
    print(
        f"{largest.users:,} users, {largest.items:,} items, {largest.events:,} events: {result['peak_gb']} GB at most; "
        + ", ".join(f"{stage} {result[stage]['seconds']} s" for stage in STAGES)
    )
    print_figure(
        f"peak memory at {largest.users} users, {largest.items} items, {largest.events} events, limit / measured",
        "GB",
        [options.limit_gb],
        [result["peak_gb"]],
        settings=settings,
        **{name: value for name, value in result.items() if name != "peak_gb"},
    )
    if result["peak_gb"] > options.limit_gb:
        sys.exit(f"error: {result['peak_gb']} GB is more than the limit of {options.limit_gb} GB")


if __name__ == "__main__":
    main()
