"""Write ML-1M with a clock that is true for each user's last event, for a split by time without a leak.

    python benchmarks/last_clock.py --data_path=… --output=data

ml-1m-mm knows the order of a user's events and not their times; ml-1m-last-clock knows the second of each user's last
event. The written data set, ml-1m-clock, has that second for the last event, and for the n-th event before it n seconds
less. The invented times are too late, never too early: every event before the last truly happened by then. So a split
at T that tests last events trains on nothing that truly happened after T:

    python run_recbole.py --model=… --dataset=ml-1m-clock --data_path=data
        "--time_split=['2000-12-12','2000-12-30T01:22:14']"

Users without a known second are left out, and counted in what is printed. Content is copied, whole.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import pandas as pd
from hold_out import read_events, write_text

from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.errors import DataError

SOURCE, CLOCK, NAME = "ml-1m-mm", "ml-1m-last-clock", "ml-1m-clock"


def with_clock(events: pd.DataFrame, user: str, time: str, last_seconds: pd.Series) -> pd.DataFrame:
    """Replace positions by times.

    Args:
        events: of all users, each user's in order.
        user: column of the users.
        time: column of the times.
        last_seconds: second of the last event by user.

    Returns:
        The events of users whose last second is known, by time.
    """
    known = events[events[user].isin(last_seconds.index)]
    events_after = known.groupby(user).cumcount(ascending=False)
    seconds = known[user].map(last_seconds) - events_after
    in_order = seconds.sort_values(kind="stable")
    return known.assign(**{time: seconds.astype(str)}).loc[in_order.index]


def main() -> None:
    """Write the data set, and say in words and then as one line of JSON what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_path", type=Path, required=True, help=f"folder of {SOURCE} and {CLOCK}")
    parser.add_argument("--output", type=Path, required=True, help=f"folder in which {NAME} is made")
    options = parser.parse_args()
    source, target = options.data_path / SOURCE, options.output / NAME
    clock = options.data_path / CLOCK / "last_event.tsv"
    for file in (source / f"{SOURCE}.inter", clock):
        if not file.is_file():
            raise DataError(f"{file} does not exist: --data_path is the folder of {SOURCE} and {CLOCK}")
    if target.exists():
        raise DataError(f"{target} is there already: remove it, or name another --output")
    events = read_events(source / f"{SOURCE}.inter")
    last_seconds = pd.read_csv(clock, sep="\t", dtype={"user_id": str}).set_index("user_id")["timestamp"]
    timed = with_clock(events.in_order(), events.user, events.time, last_seconds)

    target.mkdir(parents=True)
    write_text(timed, target / f"{NAME}.inter")
    if (source / "content").is_dir():
        shutil.copytree(source / "content", target / "content", copy_function=shutil.copyfile)
    left_out = events.table[events.user].nunique() - timed[events.user].nunique()
    print(f"{target}: {len(timed)} of {len(events.table)} events; {left_out} users without a known second left out")
    print(json.dumps({"dataset": NAME, "events": len(timed), "users_left_out": left_out}))


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing was written"))
