"""Write customer-service chats as a data set: the agent's replies are items, the customer's messages their contexts.

    python benchmarks/dialogues.py --chats=dialogues.jsonl.gz --output=data
    python run_recbole.py --rows=benchmarks/rows/dialogues.yaml --dataset=dialogues --data_path=data

Each line of the file is one chat, with `dialogue_id` and `turns` of `role` (customer or agent), `text` and `timestamp`.
A chat is a user, and each reply of the agent an event; equal replies are one item. What the customer wrote since the
reply before is the event's `message`, and all that was said before the reply, the newest first, its `chat`. Chats are
split by the time of their first turn: the last ones are tested.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from hold_out import new_folder, write_text

from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.errors import DataError

PARTS, ROLES = ("train", "valid", "test"), ("customer", "agent")
_COLUMNS = ["user_id:token", "item_id:token", "timestamp:float"]


class Reply(NamedTuple):
    """A reply of an agent, and what was said before it.

    Attributes:
        time: of the reply.
        text: of the reply.
        message: what the customer wrote since the reply before.
        chat: what both said before, the newest first.
    """

    time: float
    text: str
    message: str
    chat: str


def read_chats(path: Path) -> list[dict[str, Any]]:
    """The chats in the order of their first turns.

    Raises:
        DataError: a line is no chat.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    chats = []
    with opened(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                chats.append(parse_chat(line))
            except (ValueError, TypeError, KeyError) as error:
                raise DataError(
                    f"{path}, line {number}: no chat with dialogue_id and turns of role ({' or '.join(ROLES)}), text "
                    f"and timestamp ({type(error).__name__}: {error})"
                ) from error
    return sorted(chats, key=lambda chat: float(chat["turns"][0]["timestamp"]))


def parse_chat(line: str) -> dict[str, Any]:
    """The chat of a line.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    chat: dict[str, Any] = json.loads(line)
    if not isinstance(chat["dialogue_id"], str | int) or not chat["turns"]:
        raise ValueError("an id that is no text, or no turns")
    for turn in chat["turns"]:
        if turn["role"] not in ROLES or not isinstance(turn["text"], str):
            raise ValueError(f"a turn of {turn['role']!r} with the text {turn['text']!r:.40}")
        if not math.isfinite(turn["timestamp"]):
            raise ValueError(f"the timestamp {turn['timestamp']}")
    return chat


def replies(chat: dict[str, Any]) -> Iterator[Reply]:
    """The replies of a chat."""
    said: list[str] = []
    message: list[str] = []
    for turn in chat["turns"]:
        text = " ".join(turn["text"].split())
        if turn["role"] == "agent" and text:
            yield Reply(float(turn["timestamp"]), text, " ".join(message), " ".join(reversed(said)))
            message = []
        elif text:
            message.append(text)
        if text:
            said.append(text)


def main() -> None:
    """Write the data set, and print one line of JSON: what it holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chats", type=Path, required=True, help="JSON lines, or such a file packed by gzip")
    parser.add_argument("--output", type=Path, required=True, help="folder in which the data set is made")
    parser.add_argument("--name", default="dialogues", help="of the data set")
    parser.add_argument("--shares", type=float, nargs=2, default=(0.7, 0.1), help="of the chats, to train and validate")
    options = parser.parse_args()
    target = options.output / options.name
    if target.exists():
        raise DataError(f"{target} is there already: remove it, or give another --name")
    if not options.chats.is_file():
        raise DataError(f"{options.chats} does not exist: name the file of chats by --chats")
    chats = read_chats(options.chats)
    items: dict[str, str] = {}
    parts: dict[str, list[tuple[str, str, float]]] = {part: [] for part in PARTS}
    lines = []
    ends = [round(len(chats) * share) for share in (options.shares[0], sum(options.shares))]
    for place, chat in enumerate(chats):
        part = PARTS[sum(place >= end for end in ends)]
        for reply in replies(chat):
            item = items.setdefault(reply.text, f"r{len(items) + 1}")
            parts[part].append((str(chat["dialogue_id"]), item, reply.time))
            event = {"user_id": str(chat["dialogue_id"]), "item_id": item, "timestamp": reply.time}
            lines.append({**event, "message": reply.message, "chat": reply.chat})
    with new_folder(target) as folder:
        for part, events in parts.items():
            write_text(pd.DataFrame(events, columns=_COLUMNS), folder / f"{options.name}.{part}.inter")
        write_text(pd.DataFrame({"item_id:token": list(items.values())}), folder / f"{options.name}.item")
        (folder / "content").mkdir()
        catalogue = [{"item_id": item, "reply": text} for text, item in items.items()]
        for name, rows in (("items", catalogue), ("events", lines)):
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / "content" / f"{name}.jsonl").write_text(text, encoding="utf-8")
    counts = {part: len(events) for part, events in parts.items()}
    print(json.dumps({"dataset": options.name, "chats": len(chats), "replies": len(items), **counts}))


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing was written"))
