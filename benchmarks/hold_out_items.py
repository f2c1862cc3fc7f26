"""Write a data set in which some items are new: they occur as users' last events only, which training never sees.

    python benchmarks/hold_out_items.py --dataset=amazon-scientific --data_path=… --output=data

Its events are the data set's less all others of a random share of its items; content is copied. Users who are left
with fewer than four events are dropped, and counted in what is printed: of fewer, RecBole tests general models and
sequential ones on different events. Compare on it with `--metrics=['Recall','NDCG','RecallUnseen']`. "Unseen" are all
items without a training event: those held out, and on sparse data also those that have none by themselves, or whose
users were dropped.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

#: a sequential model needs one event to begin from, and one each to train, validate and test
FEWEST_EVENTS = 4


def main() -> None:
    """Write the data set, and say in words and then as one line of JSON what was held out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder in which NAME-new-items is made")
    parser.add_argument("--share", type=float, default=0.2, help="of the items")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    source, name = options.data_path / options.dataset, f"{options.dataset}-new-items"
    events = pd.read_csv(source / f"{options.dataset}.inter", sep="\t", dtype=str, keep_default_na=False)
    user, item, time = (
        next(c for c in events if c.startswith(kind)) for kind in ("user_id:", "item_id:", "timestamp:")
    )
    order = events.assign(time=events[time].astype(float)).sort_values("time", kind="stable")
    is_last = ~order[user].duplicated(keep="last").reindex(events.index)
    items = np.sort(events[item].unique())
    held_out = set(np.random.default_rng(options.seed).choice(items, int(options.share * len(items)), replace=False))
    is_new = events[item].isin(held_out)
    rest = events[~is_new | is_last]
    kept = rest[rest.groupby(user)[item].transform("size") >= FEWEST_EVENTS]
    dropped = events[user].nunique() - kept[user].nunique()
    target = options.output / name
    target.mkdir(parents=True)
    kept.to_csv(target / f"{name}.inter", sep="\t", index=False)
    if (source / "content").is_dir():
        shutil.copytree(source / "content", target / "content", copy_function=shutil.copyfile)
    tested = int(is_new[kept.index].sum())
    print(
        f"{target}: {len(kept)} of {len(events)} events; {len(held_out)} items held out, {tested} events ask for one; "
        f"{dropped} users with fewer than {FEWEST_EVENTS} events left were dropped"
    )
    counts = {"events": len(kept), "items_held_out": len(held_out), "tested_events": tested, "users_dropped": dropped}
    print(json.dumps({"dataset": name, **counts}))


if __name__ == "__main__":
    main()
