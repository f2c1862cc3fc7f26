"""Click-through rates on logged impressions: our calibrated scores beside RecBole's models of labelled rows.

    python benchmarks/click_through.py data --source=…/mind-sample --output=data
    python run_recbole.py --rows=benchmarks/rows/click-through.yaml --dataset=mind-sample-clicks --data_path=data
    python benchmarks/click_through.py measure --checkpoint=saved/….safetensors --impressions=data/mind-sample-clicks

The source has one row for each item that was shown, with `label` (1 for clicked) and `impression_id`, and the clicks
before each impression in content/history.jsonl.gz. `data` writes two data sets that are split by days, the last but one
for validation and the last one for the test: NAME-clicks, whose events are clicks, with what was shown beside them, and
NAME-rows, the labelled rows. Clicks before the first impression have no clock: they are one second apart, before it.

`measure` fits a logistic curve from scores to clicks on validation's impressions, and measures on those of the test.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from hold_out import copy_content, new_folder, read_text, write_text
from sklearn.metrics import log_loss, roc_auc_score
from tabulate import tabulate
from tqdm import tqdm

from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.recommender import Calibration, Recommender

DAY = 86_400
PARTS = ("train", "valid", "test")
_IMPRESSIONS = "impressions.jsonl"


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
                (one.user, item, one.time, float(is_clicked))
                for one in impressions
                if one.part == part
                for item, is_clicked in zip(one.shown, one.clicked, strict=True)
            ]
            write_text(pd.DataFrame(rows, columns=[*columns, "label:float"]), folder / f"{name}.{part}.inter")
    counts = clicks["part"].value_counts().to_dict()
    print(json.dumps({"items": len(items), "impressions": len(impressions), "clicks": counts}))


def measure(options: argparse.Namespace) -> None:
    """Print AUC, group AUC, log loss and calibration error on the test's impressions."""
    recommender = Recommender.load(options.checkpoint, data_path=str(options.impressions.parent))
    scores: dict[str, list[float]] = defaultdict(list)
    clicks: dict[str, list[bool]] = defaultdict(list)
    groups: list[float] = []
    lines = (options.impressions / _IMPRESSIONS).read_text(encoding="utf-8").splitlines()
    for one in (Impression(*json.loads(line)) for line in tqdm(lines, desc="Impressions")):
        shown = dict(zip(one.shown, one.clicked, strict=True))
        state = recommender.start(one.user, history=one.history)
        best = recommender.recommend(state, len(shown), candidates=list(shown))
        found = [shown[item] for item, _ in best]
        scores[one.part] += [score for _, score in best]
        clicks[one.part] += found
        if one.part == "test" and len(set(found)) == 2:
            groups.append(roc_auc_score(found, [score for _, score in best]))
    calibration = Calibration.fit(scores["valid"], clicks["valid"])
    probability = calibration.probability(scores["test"])
    mean_rate = [np.mean(clicks["valid"])] * len(probability)
    rows = [
        ["AUC", roc_auc_score(clicks["test"], probability)],
        ["group AUC", float(np.mean(groups))],
        ["log loss", log_loss(clicks["test"], probability)],
        ["log loss of validation's mean rate", log_loss(clicks["test"], mean_rate)],
        ["ECE, 10 bins", calibration.error(scores["test"], clicks["test"])],
    ]
    print(f"{len(probability)} items in the test's impressions, {sum(clicks['test'])} clicked\n")
    print(tabulate(rows, ["LLMInterest", ""], tablefmt="github", floatfmt=".4f"))


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
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing was written"))
