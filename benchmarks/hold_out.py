"""Write a data set in which some items, or some users, are new.

    python benchmarks/hold_out.py --what=items --dataset=amazon-scientific --data_path=… --output=data
    python benchmarks/hold_out.py --what=users --dataset=ml-1m-mm --data_path=… --output=data

Items: a random share of them occurs as users' last events only, which training never sees; all other events of theirs
are left out. Users who are left with fewer than four events are dropped, and counted in what is printed: of fewer,
RecBole tests general models and sequential ones on different events. Compare on it with
`--metrics=['Recall','NDCG','RecallUnseen']`. "Unseen" are all items without a training event: those held out, and on
sparse data also those that have none by themselves, or whose users were dropped.

Users: the events of a random share of them are left out, and written to held_out.tsv beside the rest, for new_users.py.

Content is copied, whole, and so are the columns of the items and users that stay.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd

from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.errors import DataError

#: a sequential model needs one event to begin from, and one each to train, validate and test
FEWEST_EVENTS = 4


class Events(NamedTuple):
    """An interaction file, as text, and the names of its columns."""

    table: pd.DataFrame
    user: str
    item: str
    time: str

    def in_order(self) -> pd.DataFrame:
        """The events from the first to the last."""
        return self.table.sort_values(self.time, kind="stable", key=lambda time: time.astype(float))

    def drawn(self, column: str, share: float, seed: int) -> pd.Series:
        """Which events are of a random share of users, or items."""
        names = np.sort(self.table[column].unique())
        chosen = np.random.default_rng(seed).choice(names, int(share * len(names)), replace=False)
        return self.table[column].isin(set(chosen))


def read_text(path: Path) -> pd.DataFrame:
    """Read an atomic file as it stands."""
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE)


def write_text(table: pd.DataFrame, path: Path) -> None:
    """Write what ``read_text`` reads."""
    table.to_csv(path, sep="\t", index=False, quoting=csv.QUOTE_NONE)


def read_events(path: Path) -> Events:
    """Read an interaction file."""
    table = read_text(path)
    return Events(table, *(column(table, field) for field in ("user_id", "item_id", "timestamp")))


def read_source(source: Path, target: Path) -> Events:
    """Read the events of the data set in the folder ``source``, of which another one is made in ``target``."""
    path = source / f"{source.name}.inter"
    if not path.is_file():
        raise DataError(f"{path} does not exist: --data_path is the folder that holds it")
    if target.exists():
        raise DataError(f"{target} is there already: remove it, or name another --output")
    return read_events(path)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder that is there under its name when all of it is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent) as parent:
        folder = Path(parent) / path.name
        folder.mkdir()
        yield folder
        folder.rename(path)


def copy_content(source: Path, target: Path) -> None:
    """Copy the content of a data set, if it has any, from one folder to another."""
    if (source / "content").is_dir():
        shutil.copytree(source / "content", target / "content", copy_function=shutil.copyfile)


def copy_atomic_files(source: Path, target: Path, kinds: Iterable[str]) -> None:
    """Copy those atomic files of a data set that it has, to a folder that has the name of another data set."""
    for kind in kinds:
        if (path := source / f"{source.name}.{kind}").is_file():
            shutil.copyfile(path, target / f"{target.name}.{kind}")


def column(table: pd.DataFrame, field: str) -> str:
    """The column of a field, whose name ends in its type."""
    found = [name for name in table if name.startswith(f"{field}:")]
    if not found:
        raise DataError(f"no column {field}: among {', '.join(table)}")
    return str(found[0])


def without_items(events: Events, is_new: pd.Series) -> tuple[pd.DataFrame, str, dict[str, int]]:
    """The events that stay; what was held out, in words and in numbers."""
    table, user, item, _ = events
    is_last = ~events.in_order()[user].duplicated(keep="last").reindex(table.index)
    rest = table[~is_new | is_last]
    kept = rest[rest.groupby(user)[item].transform("size") >= FEWEST_EVENTS]
    counts = {
        "events": len(kept),
        "items_held_out": table[item][is_new].nunique(),
        "tested_events": int(is_new[kept.index].sum()),
        "users_dropped": table[user].nunique() - kept[user].nunique(),
    }
    summary = (
        f"{counts['items_held_out']} items held out, {counts['tested_events']} events ask for one; "
        f"{counts['users_dropped']} users with fewer than {FEWEST_EVENTS} events left were dropped"
    )
    return kept, summary, counts


def without_users(events: Events, is_new: pd.Series) -> tuple[pd.DataFrame, str, dict[str, int]]:
    """The events that stay; what was held out, in words and in numbers."""
    kept, users = events.table[~is_new], events.table[events.user][is_new].nunique()
    return kept, f"{users} users held out", {"events": len(kept), "users_held_out": users}


def main() -> None:
    """Write the data set, and say in words and then as one line of JSON what was held out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--what", choices=["items", "users"], required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder in which NAME-new-items is made, or -users")
    parser.add_argument("--share", type=float, default=0.2, help="of the items, or users")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    source, name = options.data_path / options.dataset, f"{options.dataset}-new-{options.what}"
    events = read_source(source, options.output / name)
    is_new = events.drawn(events.item if options.what == "items" else events.user, options.share, options.seed)
    kept, summary, counts = (without_items if options.what == "items" else without_users)(events, is_new)

    target = options.output / name
    with new_folder(target) as folder:
        write_text(kept, folder / f"{name}.inter")
        if options.what == "users":
            write_text(events.table[is_new], folder / "held_out.tsv")
        for kind, of_ids in (("item", events.item), ("user", events.user)):
            if (source / f"{options.dataset}.{kind}").is_file():
                rows = read_text(source / f"{options.dataset}.{kind}")
                write_text(rows[rows[of_ids].isin(set(kept[of_ids]))], folder / f"{name}.{kind}")
        copy_content(source, folder)
    print(f"{target}: {len(kept)} of {len(events.table)} events; {summary}")
    print(json.dumps({"dataset": name, **counts}))


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing was written"))
