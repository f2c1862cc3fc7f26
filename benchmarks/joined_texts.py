"""Write a data set whose events have the texts of their user's last events, joined, so that a text encoder reads them.

    python benchmarks/joined_texts.py --dataset=ml-10m-tags --data_path=… --output=data --fields=tags --window=4
    python run_recbole.py --dataset=ml-10m-tags-window-4 --data_path=data "--event_text_fields=[last_texts]"

The newest text is first: an encoder that reads so many tokens leaves out the oldest. Each distinct window is encoded
once; the line that is printed says how many there are, beside the distinct texts of events alone, which is the cost.

This is data preparation, no setting: a live event would need the former texts, and states hold none.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pandas as pd
from hold_out import column, copy_atomic_files, copy_content, new_folder, read_source, write_text

from recbole_llm_interest.cli.common import exit_code


def joined(texts: pd.Series, window: int) -> list[str]:
    """The last ``window`` texts at each event of one user, the newest first; events without text count, too."""
    known = texts.tolist()
    ranges = (known[max(0, place - window) : place] for place in range(1, len(known) + 1))
    return ["; ".join(text for text in reversed(part) if text) for part in ranges]


def main() -> None:
    """Write the data set, and print one line of JSON: what it holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder in which NAME-window-N is made")
    parser.add_argument("--fields", required=True, help="columns of .inter with an event's text")
    parser.add_argument("--window", type=int, required=True, help="events whose texts are joined, its own included")
    options = parser.parse_args()
    source, name = options.data_path / options.dataset, f"{options.dataset}-window-{options.window}"
    events = read_source(source, options.output / name)
    ordered = events.in_order()
    fields = [column(ordered, field) for field in options.fields.split(",")]
    texts = ordered[fields].agg(lambda row: ". ".join(filter(None, row)), axis=1)
    windows = texts.groupby(ordered[events.user]).transform(lambda of_user: joined(of_user, options.window))
    with new_folder(options.output / name) as folder:
        copy_atomic_files(source, folder, ("item", "user"))
        copy_content(source, folder)
        kept = ordered[[events.user, events.item, events.time]]
        write_text(kept.assign(**{"last_texts:token_seq": windows}), folder / f"{name}.inter")
    counts = {"events": len(ordered), "texts": texts.nunique(), "windows": windows.nunique()}
    print(json.dumps({"dataset": name, **counts, "mean_words": round(windows.str.split().str.len().mean(), 1)}))


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing was written"))
