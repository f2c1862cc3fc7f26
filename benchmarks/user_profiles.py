"""Write a data set whose users have a text about their history: what a written profile adds to the history itself.

    python benchmarks/user_profiles.py --dataset=ml-100k --data_path=… --output=data
    python run_recbole.py --rows=benchmarks/rows/user-profiles.yaml --dataset=ml-100k-profiles --data_path=data

A profile has the categories that at least half of the history's items have, and the last three titles. The history is
that of training in a leave-one-out split: all events of a user but the last two. With --language_model=smollm2, that
model writes sentences of these facts, in 8 to 14 seconds each; without it, the text is the facts.

Everything else is copied. The profile is the column `history` beside the columns that users have already.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from hold_out import copy_atomic_files, copy_content, new_folder, read_source
from tqdm import tqdm

from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.content.catalogue import Catalogue, read_catalogue
from recbole_llm_interest.content.content_files import ContentFiles, as_token
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.atomic_files import AtomicFormat
from recbole_llm_interest.recommender.language_model import LanguageModel
from recbole_llm_interest.recommender.writer import Continues, Writer, WrittenText

#: events at the end of a history that validate and test
_HELD_OUT = 2


class NoModel:
    """Proposes nothing, so that a text is its facts."""

    def continuations(self, prompt: str, tokens: int) -> list[str]:
        """No text."""
        return []


def profiles(ordered: pd.DataFrame, user: str, item: str, items: Catalogue, model: Continues) -> dict[str, WrittenText]:
    """The profile of each user whose training events have an item with a title."""
    writer, categories = Writer(model), items.category_columns.categories()
    written = {}
    for name, events in tqdm(ordered.groupby(user), desc="Profiles", unit="user"):
        history = [token for token in events[item].iloc[:-_HELD_OUT] if token in items.labels]
        if history:
            titles = [items.labels[token] for token in history]
            written[str(name)] = writer.profile(titles, [categories.get(token, ()) for token in history])
    return written


def user_rows(source: Path, written: dict[str, WrittenText]) -> Iterator[dict[str, Any]]:
    """The users' columns with their profiles; users without columns have the profile alone."""
    files = ContentFiles(source, source.name, "user", "user_id", AtomicFormat(), strict=True)
    known = {as_token(row["user_id"]): row for row in (files.rows() if files.path else ())}
    for name in dict.fromkeys([*known, *written]):
        profile = {"history": written[name].text} if name in written else {}
        yield {"user_id": name, **known.get(name, {}), **profile}


def main() -> None:
    """Write the data set, and print one line of JSON: what it holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder in which NAME-profiles is made")
    parser.add_argument("--language_model", help="'smollm2', or a folder or GGUF file, that writes the profiles")
    options = parser.parse_args()
    source, name = options.data_path / options.dataset, f"{options.dataset}-profiles"
    events = read_source(source, options.output / name)
    items = read_catalogue(source, options.dataset, "item", "item_id")
    if not items.labels:
        raise DataError(f"{source} has no text of items: docs/your_data.md explains how to add it")
    model = LanguageModel(options.language_model) if options.language_model else NoModel()
    written = profiles(events.in_order(), events.user, events.item, items, model)
    with new_folder(options.output / name) as folder:
        copy_atomic_files(source, folder, ("inter", "item"))
        copy_content(source, folder)
        (folder / "content").mkdir(exist_ok=True)
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in user_rows(source, written))
        (folder / "content" / "users.jsonl").write_text("".join(lines), encoding="utf-8")
    by_model = sum(profile.is_written for profile in written.values())
    print(json.dumps({"dataset": name, "profiles": len(written), "written_by_model": by_model}))


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing was written"))
