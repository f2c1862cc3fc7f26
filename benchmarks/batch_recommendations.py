"""The best items of all users: users a second, peak memory, and whether a killed run ends in the same file.

    python benchmarks/batch_recommendations.py --users=100000 --items=100000 --width=128
    python benchmarks/batch_recommendations.py --users=100000 --items=100000 --width=128 --kill

Data set and model are made here. The weights are random: time and memory do not depend on what a model has learned.
Histories have 1 to 2 * EVENTS - 1 events, with items by Zipf's law. The run is the command's own, `llm-interest
recommend --all`: its rate counts everything between the first and the last user, its seconds also the start of the
process, the model and the data set. With --kill, a second run is ended by SIGKILL when half of its parts are finished,
the same command goes on, and both files are compared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed
from tqdm import tqdm

import recbole_llm_interest  # noqa: F401  (makes RecBole work with current libraries)
from recbole_llm_interest.io.table_parts import find_parts, parts_folder
from recbole_llm_interest.training.environment_info import environment_info

NAME = "crowd"
_BLOCK = 100_000


def write_data(folder: Path, users: int, items: int, events: int) -> None:
    """Write users with histories of several lengths, and a catalogue of items, some of them without an event."""
    draw = np.random.default_rng(1)
    folder.mkdir(parents=True)
    pd.DataFrame({"item_id:token": [f"i{n}" for n in range(items)]}).to_csv(
        folder / f"{NAME}.item", sep="\t", index=False
    )
    share, names = np.cumsum(1 / np.arange(1, items + 1)), draw.permutation(items)
    for start in tqdm(range(0, users, _BLOCK), desc="Writing the data set", leave=False):
        lengths = draw.integers(1, 2 * events, size=min(_BLOCK, users - start))
        user = np.repeat(np.arange(start, start + len(lengths)), lengths)
        item = names[np.searchsorted(share, draw.random(len(user)) * share[-1])]
        rows = {"user_id:token": user, "item_id:token": item, "timestamp:float": np.arange(len(user))}
        frame = pd.DataFrame(rows).assign(**{"user_id:token": "u" + pd.Series(user).astype(str)})
        frame["item_id:token"] = "i" + frame["item_id:token"].astype(str)
        frame.to_csv(folder / f"{NAME}.inter", sep="\t", index=False, mode="a", header=start == 0)


def write_model(folder: Path, width: int) -> str:
    """Write a checkpoint of a model that is not trained; returns its path."""
    settings: dict[str, Any] = {
        **{"data_path": str(folder / "data"), "checkpoint_dir": str(folder / "saved"), "modalities": []},
        **{"embedding_size": width, "hidden_size": width, "show_progress": False, "metrics": ["NDCG"], "topk": [10]},
        **{"valid_metric": "NDCG@10", "time_split": [0.9, 0.95]},
        "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id"]},
    }
    config = Config("LLMInterest", NAME, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    model = get_model("LLMInterest")(config, train._dataset)
    torch.nn.init.normal_(model.item_encoder.id_embedding.weight, std=0.1)
    trainer = get_trainer(config["MODEL_TYPE"], "LLMInterest")(config, model)
    trainer._save_checkpoint(0, verbose=False)
    return str(trainer.saved_model_file)


def command(checkpoint: str, folder: Path, output: Path, options: argparse.Namespace) -> list[str]:
    """The command that recommends to all users."""
    words = [f"--checkpoint={checkpoint}", f"--data_path={folder / 'data'}", "--all", f"--output={output}", "--json"]
    more = ["--exclude_seen"] if options.exclude_seen else []
    return [sys.executable, "-m", "recbole_llm_interest.cli.recommend", *words, f"--k={options.k}", *more]


def measured(words: list[str]) -> dict[str, Any]:
    """What the command says, its seconds, and the most memory that its process had."""
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if process.stdout is None:
        raise RuntimeError("the command has no output")
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"the command has ended with {status}")
    result = json.loads(said.splitlines()[-1])
    return {
        **{key: result[key] for key in ("users", "users_done_before", "seconds")},
        "users_a_second": round((result["users"] - result["users_done_before"]) / result["seconds"], 1),
        "seconds_of_the_process": round(time.perf_counter() - start, 1),
        "cpu_seconds_of_the_process": round(used.ru_utime + used.ru_stime, 1),
        "peak_gb": round(used.ru_maxrss / 2**20, 2),
    }


def killed(words: list[str], output: Path, parts: int) -> int:
    """End a run by SIGKILL once it has so many parts; returns how many there are."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and _finished(output) < parts:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return _finished(output)


def _finished(output: Path) -> int:
    """How many parts are finished."""
    return sum(not path.name.startswith(".") for path in find_parts(parts_folder(output)))


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Print one JSON object of all that was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--events", type=int, default=8, help="of a user, on average [8]")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--exclude_seen", action="store_true")
    parser.add_argument("--format", default="parquet", choices=["parquet", "csv", "jsonl"])
    parser.add_argument("--kill", action="store_true", help="also kill a run in its middle, and let it go on")
    parser.add_argument("--folder", help="keeps data set and model for other runs of the same sizes [a temporary one]")
    options = parser.parse_args()
    sys.argv = sys.argv[:1]  # RecBole reads the command line, too
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        if not (folder / "data").exists():
            write_data(folder / "data" / NAME, options.users, options.items, options.events)
        made = sorted(map(str, (folder / "saved").glob("*.safetensors")))
        checkpoint = made[0] if made else write_model(folder, options.width)
        print(json.dumps(_figure(folder, checkpoint, options)))


def _figure(folder: Path, checkpoint: str, options: argparse.Namespace) -> dict[str, Any]:
    output = folder / f"best.{options.format}"
    result = {"figure": "batch recommendations", "weights": "random", **vars(options), "folder": None}
    result["whole"] = measured(command(checkpoint, folder, output, options))
    result["megabytes"] = round(output.stat().st_size / 1e6, 1)
    if options.kill:
        other = folder / f"killed.{options.format}"
        other.unlink(missing_ok=True)
        words = command(checkpoint, folder, other, options)
        result["parts_at_the_kill"] = killed(words, other, max(options.users // 2**14, 1))
        result["file_at_the_kill"] = other.exists()
        result["after_the_kill"] = measured(words)
        result["same_bytes"] = _hash(output) == _hash(other)
    return {**result, **environment_info(torch.device("cpu")), "threads": torch.get_num_threads()}


if __name__ == "__main__":
    main()
