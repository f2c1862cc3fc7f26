"""Click-through rates on logged impressions: our calibrated scores beside RecBole's models of labelled rows.

    python benchmarks/click_through.py data --source=…/mind-sample --output=data
    python run_recbole.py --rows=benchmarks/rows/click-through.yaml --dataset=mind-sample-clicks --data_path=data
    python benchmarks/click_through.py measure --checkpoint=saved/….safetensors --impressions=data/mind-sample-clicks
    python benchmarks/click_through.py stock --model=DeepFM --data_path=data --dataset=mind-sample

The source has one row for each item that was shown, with `label` (1 for clicked) and `impression_id`, and the clicks
before each impression in content/history.jsonl.gz. `data` writes two data sets that are split by days, the last but one
for validation and the last one for the test: NAME-clicks, whose events are clicks, with what was shown beside them, and
NAME-rows, the labelled rows, with the last clicks before each. Clicks before the first impression have no clock: they
are one second apart, before it. Impressions without a click are in NAME-rows alone.

`measure` fits a logistic curve from scores to clicks on validation's impressions, and measures on those of the test.
`stock` does the same with a model of RecBole that it trains on the labelled rows: DeepFM, FM, WideDeep, or DIN, whose
best epoch is that of the highest AUC on validation. They read user, item and the last clicks; with `--embeddings`, also
the representations that `llm-interest embed` has written of items. Interests of users are no features: those after
training have read the clicks that the rows of training are to tell.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from hold_out import copy_content, new_folder, read_text, write_text
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed
from sklearn.metrics import log_loss, roc_auc_score
from tabulate import tabulate
from tqdm import tqdm

from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.recommender import Calibration, Recommender
from recbole_llm_interest.training.config import empty_command_line

DAY = 86_400
PARTS = ("train", "valid", "test")
_IMPRESSIONS = "impressions.jsonl"
#: clicks before an impression that its labelled rows have
_HISTORY = 50
_LABELLED = ["user_id:token", "item_id_list:token_seq", "item_id:token", "label:float"]


#: settings of RecBole's models; all others are its own
_STOCK = {
    "benchmark_filename": [*PARTS],
    "load_col": {"inter": [column.split(":")[0] for column in _LABELLED]},
    "alias_of_item_id": ["item_id_list"],
    "filter_inter_by_user_or_item": False,
    "train_neg_sample_args": None,
    "eval_args": {"split": {"RS": [8, 1, 1]}, "group_by": None, "order": "TO", "mode": "labeled"},
    "metrics": ["AUC", "LogLoss"],
    "valid_metric": "AUC",
    "MAX_ITEM_LIST_LENGTH": _HISTORY,
    "stopping_step": 5,
}


class Impression(NamedTuple):
    """Items that were shown together.

    Attributes:
        part: train, valid or test.
        user: id.
        time: in seconds.
        history: items clicked before, in order.
        shown: items.
        clicked: whether each was clicked.
    """

    part: str
    user: str
    time: float
    history: list[str]
    shown: list[str]
    clicked: list[bool]


def read_source(source: Path) -> list[Impression]:
    """The impressions of the source in the order of time; a user's history has the clicks of earlier ones."""
    rows = read_text(source / f"{source.name}.inter").rename(columns=lambda name: name.split(":")[0])
    rows["time"] = rows["timestamp"].astype(float)
    days = (rows["time"] // DAY).astype(int)
    last = sorted(days.unique())[-2:]
    if days.nunique() < len(PARTS):
        raise DataError(f"{source}: impressions of {days.nunique()} days, and a split by days needs {len(PARTS)}")
    histories = {}
    with gzip.open(source / "content" / "history.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            histories[row["impression_id"]] = row["history"]
    found, clicks = [], defaultdict(list)
    for (time, name), group in rows.groupby(["time", "impression_id"]):
        user, clicked = group["user_id"].iloc[0], (group["label"].astype(float) > 0).tolist()
        part = PARTS[0 if time // DAY < last[0] else 1 if time // DAY < last[1] else 2]
        shown = group["item_id"].tolist()
        found.append(Impression(part, user, time, [*histories.get(name, []), *clicks[user]], shown, clicked))
        clicks[user] += [item for item, is_clicked in zip(shown, clicked, strict=True) if is_clicked]
    return found


def clicks_of(impressions: list[Impression]) -> Iterator[tuple[str, str, str, float]]:
    """Part, user, item and time of each click: of a user's first history, and of the impressions."""
    known = set()
    for one in impressions:
        if one.user not in known:
            known.add(one.user)
            for place, item in enumerate(reversed(one.history), start=1):
                yield "train", one.user, item, one.time - place
        for item, is_clicked in zip(one.shown, one.clicked, strict=True):
            if is_clicked:
                yield one.part, one.user, item, one.time


def write_data(options: argparse.Namespace) -> None:
    """Write both data sets."""
    impressions = read_source(options.source)
    columns = ["user_id:token", "item_id:token", "timestamp:float"]
    clicks = pd.DataFrame(clicks_of(impressions), columns=["part", *columns])
    items = {item: None for one in impressions for item in (*one.history, *one.shown)}
    name = f"{options.source.name}-clicks"
    with new_folder(options.output / name) as folder:
        copy_content(options.source, folder)
        for part in PARTS:
            of_part = clicks[clicks["part"] == part][columns].sort_values("timestamp:float", kind="stable")
            write_text(of_part.drop_duplicates(), folder / f"{name}.{part}.inter")
        write_text(pd.DataFrame({"item_id:token": list(items)}), folder / f"{name}.item")
        with (folder / "content" / "events.jsonl").open("w", encoding="utf-8") as file:
            for one in impressions:
                others = [item for item, is_clicked in zip(one.shown, one.clicked, strict=True) if not is_clicked]
                for item in sorted({*one.shown} - {*others}):
                    row = {"user_id": one.user, "item_id": item, "timestamp": one.time, "shown": others}
                    file.write(json.dumps(row) + "\n")
        with (folder / _IMPRESSIONS).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(one) + "\n" for one in impressions if one.part != "train")
    name = f"{options.source.name}-rows"
    with new_folder(options.output / name) as folder:
        for part in PARTS:
            rows = [
                (one.user, " ".join(one.history[-_HISTORY:]), item, float(is_clicked))
                for one in impressions
                if one.part == part
                for item, is_clicked in zip(one.shown, one.clicked, strict=True)
            ]
            write_text(pd.DataFrame(rows, columns=_LABELLED), folder / f"{name}.{part}.inter")
    counts = clicks["part"].value_counts().to_dict()
    print(json.dumps({"items": len(items), "impressions": len(impressions), "clicks": counts}))


def impressions_of(folder: Path) -> list[Impression]:
    """Those of validation and test."""
    return [Impression(*json.loads(line)) for line in (folder / _IMPRESSIONS).read_text(encoding="utf-8").splitlines()]


def measure(options: argparse.Namespace) -> None:
    """Print how well a model of this package tells clicks from other items that were shown."""
    recommender = Recommender.load(options.checkpoint, data_path=str(options.impressions.parent))
    impressions = impressions_of(options.impressions)
    scores, known = [], {*recommender.users}
    for one in tqdm(impressions, desc="Impressions"):
        state = recommender.start(one.user if one.user in known else None, history=one.history)
        found = dict(recommender.recommend(state, len({*one.shown}), candidates=one.shown))
        scores.append([found[item] for item in one.shown])
    show("LLMInterest", impressions, scores)


def stock(options: argparse.Namespace) -> None:
    """Train a model of RecBole on the labelled rows, and print how well it tells clicks from other items."""
    impressions = impressions_of(options.data_path / f"{options.dataset}-clicks")
    with TemporaryDirectory() as folder:
        logits = iter(_logits_of_stock(options, Path(folder)))
    name = options.model if options.embeddings is None else f"{options.model} with embeddings"
    show(name, impressions, [[next(logits) for _ in one.shown] for one in impressions])


def _logits_of_stock(options: argparse.Namespace, folder: Path) -> list[float]:
    """Those of the rows of validation and test."""
    chosen = {**_STOCK, "data_path": str(folder), "checkpoint_dir": str(folder), "seed": options.seed}
    name = f"{options.dataset}-rows"
    shutil.copytree(options.data_path / name, folder / name)
    if options.embeddings is not None:
        (file,) = options.embeddings.glob("*.itememb")
        write_text(
            read_text(file).rename(columns={"item_emb_id:token": "item_id:token"}), folder / name / f"{name}.item"
        )
        chosen["numerical_features"] = ["item_emb"]
        chosen["load_col"] = {**_STOCK["load_col"], "item": ["item_id", "item_emb"]}
    with empty_command_line():
        config = Config(options.model, name, config_dict=chosen)
    init_seed(config["seed"], config["reproducibility"])
    train, *held_out = data_preparation(config, create_dataset(config))
    model = get_model(options.model)(config, train.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], options.model)(config, model)
    trainer.fit(train, held_out[0], verbose=False, show_progress=True)
    trainer.evaluate(held_out[1], load_best_model=True)
    model.eval()
    with torch.no_grad():
        rows = [model.predict(batch[0].to(config["device"])).cpu() for part in held_out for batch in part]
    logits: list[float] = torch.cat(rows).double().clamp(1e-7, 1 - 1e-7).logit().tolist()
    return logits


def show(name: str, impressions: list[Impression], scores: list[list[float]]) -> None:
    """Print AUC, group AUC, log loss and calibration error on the test's impressions, and AUC on validation's."""
    of_part: dict[str, tuple[list[float], list[bool]]] = {part: ([], []) for part in PARTS}
    groups = []
    for one, found in zip(impressions, scores, strict=True):
        of_part[one.part][0].extend(found)
        of_part[one.part][1].extend(one.clicked)
        if one.part == "test" and len({*one.clicked}) == 2:
            groups.append(roc_auc_score(one.clicked, found))
    calibration = Calibration.fit(*of_part["valid"])
    tested, clicked = of_part["test"]
    probability = calibration.probability(tested)
    mean_rate = [np.mean(of_part["valid"][1])] * len(tested)
    rows = [
        ["AUC on validation, to choose by", roc_auc_score(of_part["valid"][1], of_part["valid"][0])],
        ["AUC", roc_auc_score(clicked, tested)],
        ["group AUC", float(np.mean(groups))],
        ["log loss", log_loss(clicked, probability)],
        ["log loss of validation's mean rate", log_loss(clicked, mean_rate)],
        ["ECE, 10 bins", calibration.error(tested, clicked)],
    ]
    print(f"{len(tested)} items in the test's impressions, {sum(clicked)} clicked\n")
    print(tabulate(rows, [name, ""], tablefmt="github", floatfmt=".4f"))


def main() -> None:
    """Run the subcommand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    writing = commands.add_parser("data", help="write the data sets")
    writing.add_argument("--source", type=Path, required=True, help="folder of the logged impressions")
    writing.add_argument("--output", type=Path, required=True)
    writing.set_defaults(run=write_data)
    measuring = commands.add_parser("measure", help="measure a trained model")
    measuring.add_argument("--checkpoint", required=True)
    measuring.add_argument("--impressions", type=Path, required=True, help="folder of NAME-clicks")
    measuring.set_defaults(run=measure)
    of_stock = commands.add_parser("stock", help="train and measure a model of RecBole")
    of_stock.add_argument("--model", required=True)
    of_stock.add_argument("--dataset", required=True, help="NAME, without -rows")
    of_stock.add_argument("--data_path", type=Path, required=True)
    of_stock.add_argument("--embeddings", type=Path, help="folder of llm-interest embed, whose items are features")
    of_stock.add_argument("--seed", type=int, default=1)
    of_stock.set_defaults(run=stock)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing was written"))
