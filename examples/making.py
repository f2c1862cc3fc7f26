"""Shared by the three examples: the command line, writing of the generated data, and training."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from recbole_llm_interest.cli.arguments import bare_parser, parse_arguments
from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.evaluation.results import RunResult
from recbole_llm_interest.io.variants import Variant
from recbole_llm_interest.training.comparison import run

#: for a few hundred short texts: full whitening would amplify noise, and IDs would overfit
SETTINGS: dict[str, Any] = {
    "use_item_id": False,
    "feature_conditioning": "standardize",
    "epochs": 60,
    "stopping_step": 8,
    "MAX_ITEM_LIST_LENGTH": 20,
    "metrics": ["Recall", "NDCG"],
}


def command(
    script: str,
    job: Callable[[argparse.Namespace, dict[str, Any]], None],
    arguments: Sequence[str] | None = None,
    **sizes: int,
) -> int:
    """The command line of an example: its sizes, ``--seed``, ``--data_path``, and any setting as ``--key=value``."""
    parser = bare_parser(
        f"examples/{script}.py", "Generates data, trains on it and prints results. Any setting: --key=value."
    )
    parser.add_argument("--seed", type=int, default=1, help="of the data and of training [1]")
    parser.add_argument("--data_path", type=Path, default=Path("data"), help="where the data set is written [data]")
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=size, help=f"number of them [{size}]")
    return exit_code(
        lambda: job(*parse_arguments(parser, arguments)), kept="the data set and encoded features are kept"
    )


def write_dataset(
    folder: Path,
    histories: Mapping[str, Sequence[str]],
    items: Iterable[Mapping[str, str]],
    users: Iterable[Mapping[str, str]] = (),
) -> None:
    """Write ``<folder>/<name>.inter`` and ``content/*.jsonl``, the name being the folder's: see docs/your_data.md.

    Args:
        folder: of the data set.
        histories: items in chronological order, by user. Each user's events are later than those of the user before.
        items: ``item_id`` and columns that become its text.
        users: ``user_id`` and the same.
    """
    (folder / "content").mkdir(parents=True, exist_ok=True)
    clock = count()
    lines = [f"{user}\t{item}\t{next(clock)}" for user, line in histories.items() for item in line]
    events = "\n".join(["user_id:token\titem_id:token\ttimestamp:float", *lines])
    (folder / f"{folder.name}.inter").write_text(f"{events}\n", encoding="utf-8")
    for kind, rows in (("items", items), ("users", users)):
        write_jsonl(folder / "content" / f"{kind}.jsonl", rows)
    print(f"{folder.name}: {len(histories):,} histories, {len(lines):,} events: {folder}")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write one JSON object a line. Without objects, there is no file, and a former one is deleted."""
    if text := "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows):
        path.write_text(text, encoding="utf-8")
    else:
        path.unlink(missing_ok=True)


def train(
    rows: Sequence[str | Variant], folder: Path, options: argparse.Namespace, overrides: Mapping[str, Any]
) -> list[RunResult]:
    """Train each row on the data set in ``folder``, as ``run_recbole.py`` does."""
    settings = {**SETTINGS, "data_path": str(folder.parent), "seed": options.seed, **overrides}
    return run(rows, folder.name, config_dict=settings)
