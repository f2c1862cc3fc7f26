"""Write the data of a larger shop without the users of a smaller one, whose model starts from the larger shop's.

    python benchmarks/transfer.py --source=amazon-instruments --target=amazon-scientific --data_path=… --output=data
    python run_recbole.py --model=LLMInterest --dataset=amazon-instruments-alone --data_path=data --use_item_id=False \
        --repeat_bias=False --dropout_prob=0.5
    python benchmarks/few_users.py --dataset=amazon-scientific --data_path=… --output=data --share=0.05 --seed=1
    python run_recbole.py --rows=benchmarks/rows/transfer.yaml --dataset=amazon-scientific-few-users-1 \
        --data_path=data "--benchmark_filename=['train','valid','test']" --init_from=saved/LLMInterest-….safetensors

Users are the same if their ids are. One line of JSON says how many users and items both have.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from hold_out import copy_atomic_files, copy_content, new_folder, read_events, read_source, write_text

from recbole_llm_interest.cli.common import exit_code


def main() -> None:
    """Write the data set, and print one line of JSON: what it holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, help="data set of the larger shop")
    parser.add_argument("--target", required=True, help="data set of the smaller one")
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder in which SOURCE-alone is made")
    options = parser.parse_args()
    name = f"{options.source}-alone"
    events = read_source(options.data_path / options.source, options.output / name)
    others = read_events(options.data_path / options.target / f"{options.target}.inter")
    is_shared = events.table[events.user].isin(set(others.table[others.user]))
    shared_items = set(events.table[events.item]) & set(others.table[others.item])
    kept = events.table[~is_shared]
    with new_folder(options.output / name) as folder:
        write_text(kept, folder / f"{name}.inter")
        copy_atomic_files(options.data_path / options.source, folder, ("item", "user"))
        copy_content(options.data_path / options.source, folder)
    counts = {"users": kept[events.user].nunique(), "events": len(kept)}
    counts |= {"users_left_out": events.table[is_shared][events.user].nunique(), "shared_items": len(shared_items)}
    print(json.dumps({"dataset": name, **counts}))


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing was written"))
