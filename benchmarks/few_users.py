"""Write a data set in which training sees a few users only, and all users are tested: self-supervision with few labels.

    python benchmarks/few_users.py --dataset=amazon-scientific --data_path=… --output=data --share=0.05 --seed=1
    python run_recbole.py --rows=benchmarks/rows/self-supervision.yaml --dataset=amazon-scientific-few-users-1 \
        --data_path=data "--benchmark_filename=['train','valid','test']"

The split is leave-one-out. The training and the validation file have the events of a random share of the users, the
test file has the last event of everybody with the history before it: so the best epoch is chosen by few users as well,
and the figures are means over many. Content is copied, whole; items without any event there are items all the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from hold_out import FEWEST_EVENTS, Events, copy_atomic_files, copy_content, new_folder, read_source, write_text

from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.errors import DataError

PARTS = ("train", "valid", "test")


def rows_of(user: str, items: list[str], is_trained: bool) -> Iterator[tuple[str, str, str, str]]:
    """The part, user, history and next item of each row that one user gives."""
    last = len(items) - 1
    for place in range(1 if is_trained else last, last + 1):
        part = PARTS[max(0, 2 - (last - place))]
        yield part, user, " ".join(items[:place]), items[place]


def split(events: Events, share: float, seed: int) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """A table for each part, and what they hold in numbers."""
    if spaced := next((item for item in events.table[events.item] if " " in item), None):
        raise DataError(f"the item {spaced!r} has a space, which separates items in a list: rename it")
    ordered = events.in_order()
    trained = set(ordered[events.user][events.drawn(events.user, share, seed)])
    histories = {user: list(items) for user, items in ordered.groupby(events.user)[events.item]}
    used = {user: items for user, items in histories.items() if len(items) >= FEWEST_EVENTS}
    rows = [row for user, items in used.items() for row in rows_of(user, items, user in trained)]
    table = pd.DataFrame(rows, columns=["part", "user_id:token", "item_id_list:token_seq", "item_id:token"])
    parts = {part: table[table["part"] == part].drop(columns="part") for part in PARTS}
    counts = {f"{part}_rows": len(rows) for part, rows in parts.items()}
    return parts, {"users_trained": len(trained & set(used)), **counts, "users_dropped": len(histories) - len(used)}


def main() -> None:
    """Write the data set, and print one line of JSON: what it holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder in which NAME-few-users-SEED is made")
    parser.add_argument("--share", type=float, default=0.05, help="of the users that training sees")
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    options = parser.parse_args()
    source, name = options.data_path / options.dataset, f"{options.dataset}-few-users-{options.seed}"
    target = options.output / name
    events = read_source(source, target)
    parts, counts = split(events, options.share, options.seed)
    with new_folder(target) as folder:
        for part, rows in parts.items():
            write_text(rows, folder / f"{name}.{part}.inter")
        write_text(pd.DataFrame({events.item: sorted(events.table[events.item].unique())}), folder / f"{name}.item")
        copy_atomic_files(source, folder, ("item", "user"))
        copy_content(source, folder)
    print(json.dumps({"dataset": name, **counts}))


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing was written"))
