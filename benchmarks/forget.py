"""Runs ``forget`` on random data sets and files made from them, and compares the result with the expected one.

    python benchmarks/forget.py --histories=1000

A history is a few data sets, some with similar names or with one name in two folders. Their ids are prefixes of others,
numbers, or contain characters that formats escape. There are duplicate and malformed rows, shared images, and files of
every kind that the package writes, in one or two checkpoint folders. The files have the real formats, but no model is
trained. The files that contain an id are known from how the history was generated, so the check does not depend on the
code under test. The last line is the result as JSON.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
import json
import os
import pickle
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save

from recbole_llm_interest.content.blobs import Text
from recbole_llm_interest.content.feature_store import FeatureStore
from recbole_llm_interest.erasure import Erasure, erase
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.io.files import write_text
from recbole_llm_interest.io.folders import replace_files
from recbole_llm_interest.io.manifest import record_run
from recbole_llm_interest.recommender.pretrained_writing import write_parts
from recbole_llm_interest.recommender.state_file import pack_state
from recbole_llm_interest.training.config import configure

USERS = [
    *("u1", "u10", "u", "1", "10", "01", "-1", "a'b", 'q"t', "ü", "日本", "<b>", "a&b", "NA", "null", "sp ace"),
    *("x\\y", "[1]", "*", "\u202eabc", "{}", "\U0001d54f", "a/b", "é", "0"),
]
ITEMS = ["i1", "i10", "i", "1", "10", "0", "n'n", 'd"d', "ß", "<i>", "c&d", "NaN", "?", "a b", "u1", "🎬", "\\n"]
#: not ml-100k: RecBole reads its own copy for any data_path, and that copy must not change
NAMES = ["ml", "ml-1m", "Pop", "Pop-2", "my[1]", "my1", "m*", "daily"]


@dataclass
class MadeFile:
    """One file, and the ids that it contains.

    Attributes:
        data: folder of the data set; None for a file that no manifest lists.
        users: ids of users that a search can find in it.
        items: the same for items.
        must_go: whether it must be deleted or reported as left, whatever id is removed.
        without: returns the expected bytes after an id is erased, given the bytes before, the kind and the id; None for
            a file that is not rewritten.
    """

    data: Path | None
    users: set[str] = field(default_factory=set)
    items: set[str] = field(default_factory=set)
    must_go: bool = False
    without: Callable[[bytes, str, str], bytes | None] | None = None


class History:
    """Creates random data sets and files made from them below the current folder.

    Args:
        seed: of all random numbers.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.made: dict[Path, MadeFile] = {}
        names = self.random.sample(NAMES, self.random.randint(1, 3))
        self.sets = [(name, Path("data").absolute()) for name in names]
        if self.random.random() < 0.5:
            self.sets.append((names[0], Path("elsewhere").absolute()))
        for name, data_path in self.sets:
            self._make_data(name, data_path / name)
            for _ in range(self.random.randint(0, 9)):
                maker = self.random.choice([make for make in dir(self) if make.startswith("make_")])
                getattr(self, maker)(name, data_path / name, self.random.choice(["saved", "saved2"]))
        if self.random.random() < 0.3:
            path = Path("saved/note.txt").absolute()
            write_text(path, "mine")
            self.made[path] = MadeFile(None)

    def config(self, name: str, folder: Path, checkpoint_dir: str = "saved") -> dict[str, Any]:
        """Return the part of RecBole's configuration that recording a file needs."""
        return {"dataset": name, "data_path": str(folder), "checkpoint_dir": checkpoint_dir, "model": "LLMInterest"}

    def _make_data(self, name: str, folder: Path) -> None:
        rng = self.random
        users = rng.sample(USERS, rng.randint(3, 9))
        items = rng.sample(ITEMS, rng.randint(3, 9))
        self.users, self.items = getattr(self, "users", {}), getattr(self, "items", {})
        self.users[folder], self.items[folder] = users, items
        for part in rng.choice([[""], [".train", ".valid", ".test"]]):
            rows = [(rng.choice(users), rng.choice(items), str(float(n))) for n in range(rng.randint(5, 30))]
            lines = ["user_id:token\titem_id:token\ttimestamp:float", *map("\t".join, rows)]
            if rng.random() < 0.3:
                lines.insert(rng.randint(1, len(lines)), "broken")
            end = rng.choice(["\n", "\r\n"])
            self._write(folder / f"{name}{part}.inter", end.join(lines) + end, folder, without=_table)
        if not (folder / f"{name}.inter").exists():
            self._write(
                folder / f"{name}.inter", "user_id:token\titem_id:token\ttimestamp:float\n", folder, without=_table
            )
        for kind, ids in (("user", users), ("item", items)):
            lines = [f"{kind}_id:token\ttitle:token_seq", *(f"{one}\tabout {kind} {n}" for n, one in enumerate(ids))]
            self._write(folder / f"{name}.{kind}", "\n".join(lines) + "\n", folder, without=_table)
            if rng.random() < 0.7:
                self._make_lines(folder, kind, ids)

    def _make_lines(self, folder: Path, kind: str, ids: list[str]) -> None:
        rng = self.random
        lines = []
        for one in [*ids, *rng.sample(ids, 2)]:
            value = int(one) if one in ("1", "10", "0", "-1") and rng.random() < 0.5 else one
            picture = rng.choice(["a.png", "b.png", "c.png", f"{rng.randint(0, 99)}.png"])
            row = {f"{kind}_id": value, "bio": f"text of {rng.randint(0, 99)}", "image_file_name": picture}
            line = json.dumps(row, ensure_ascii=rng.random() < 0.5)
            lines.append(line[:-1] if rng.random() < 0.15 else line)
            path = folder / "content" / picture
            self._write(path, f"picture {picture} of {folder}", folder)
        self._write(folder / "content" / f"{kind}s.jsonl", "\n".join(lines) + "\n", folder, without=_lines)

    def _write(self, path: Path, text: str | bytes, data: Path | None, **what: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        self.made[path.absolute()] = MadeFile(data, **what)

    def _path(self, folder: str, prefix: str, suffix: str) -> Path:
        return Path(folder).absolute() / f"{prefix}-{self.random.randrange(10**9)}{suffix}"

    def make_checkpoint(self, name: str, data: Path, folder: str) -> None:
        """A model and its resume state."""
        kind = self.random.choice(["checkpoint", "resume state"])
        path = self._path(folder, "LLMInterest", self.random.choice([".pth", ".safetensors"]))
        record_run(self.config(name, data, folder), kind, [path])  # type: ignore[arg-type]
        self._write(path, save({"weights": torch.ones(3)}), data, must_go=True)

    def make_unrecorded(self, name: str, data: Path, folder: str) -> None:
        """A model without a record, as of an earlier version."""
        self._write(self._path("saved", name, ".pth"), b"weights", None, must_go=True)

    def make_log(self, name: str, data: Path, folder: str) -> None:
        """A log with some ids."""
        path = Path("log/LLMInterest").absolute() / f"{name}-{self.random.randrange(10**9)}.log"
        record_run(self.config(name, data, folder), "log", [path])
        ids = [*self.random.sample(self.users[data], 2), *self.random.sample(self.items[data], 2)]
        lines = ["epoch 1", *(f"1 of 9 have no text ({one_line(repr(one))})" for one in ids)]
        self._write(path, "\n".join(lines) + "\n", data, without=_log)

    def make_saved_data_set(self, name: str, data: Path, folder: str) -> None:
        """A data set that RecBole has pickled."""
        path = Path(folder).absolute() / f"{name}-Dataset.pth"
        if path not in self.made:
            record_run(self.config(name, data, folder), "saved data set", [path])
            self._write(path, pickle.dumps(self.users[data]), data, must_go=True)

    def make_table(self, name: str, data: Path, folder: str) -> None:
        """A table, or the result of tuning."""
        path = self._path("results" if self.random.random() < 0.3 else folder, "table", ".json")
        kind = self.random.choice(["table", "tuning"])
        record_run(self.config(name, data, folder), kind, [path])  # type: ignore[arg-type]
        self._write(path, json.dumps([{"dataset": name, "ranks": [1, 2, 3]}]), data, must_go=True)

    def make_report(self, name: str, data: Path, folder: str) -> None:
        """A report with or without a user, and with items in its SVG image."""
        place = self._path(folder, "report", "")
        user = self.random.choice([None, *self.users[data]])
        items = self.random.sample(self.items[data], 2)
        drawing = "".join(f"<!-- {one_line(item)} -->" for item in items)
        encoded = base64.b64encode(drawing.encode()).decode()
        title = f"The interest of user {html.escape(one_line(user))} over time" if user else "no user"
        record_run(self.config(name, data, folder), "report", [place / "report.html", place / "map.png"])
        page = f'<h2>{title}</h2><img src="data:image/svg+xml;base64,{encoded}">'
        named: dict[str, Any] = {"users": {user} if user else set(), "items": set(items), "must_go": True}
        self._write(place / "report.html", page, data, **named)
        self._write(place / "map.png", b"\x89PNG", data, **named)

    def make_state(self, name: str, data: Path, folder: str) -> None:
        """A state of some users."""
        users = self.random.sample(self.users[data], self.random.randint(1, 3))
        if self.random.random() < 0.2:
            users = [str(number) for number in range(len(users))]
        length = torch.tensor([self.random.randint(1, 3) for _ in users])
        at = torch.arange(int(length.max())) < length[:, None]
        items = self.random.sample(self.items[data], 2)
        tensors = {
            **{"carried": torch.randn(1, len(users), 4), "past": torch.randn(len(users), 2, 4)},
            **{"interest": torch.randn(len(users), 4), "length": length, "latest": length.double()},
            **{"items": at * torch.randint(1, 3, at.shape).int(), "times": at * torch.rand(at.shape).double()},
        }
        tensors["items"] = tensors["items"].int()
        described = {"format": 1, "model": "m", "users": users, "items": [None, *items], "is_single": False}
        path = self._path(folder, "state", "")
        record_run(self.config(name, data, folder), "user state", [path])
        is_named = users != [str(number) for number in range(len(users))]
        what: dict[str, Any] = {"without": _state} if is_named else {"users": {*USERS, "nobody"}}
        self._write(path, pack_state(described, tensors), data, items=set(items), **what)

    def make_export(self, name: str, data: Path, folder: str) -> None:
        """An exported folder."""
        place = self._path("exports", "model", "")
        tokens = self.items[data]
        parts = {
            "model.safetensors": save({"weights": torch.ones(3)}),
            "vocabulary.json": json.dumps(["[PAD]", *tokens], ensure_ascii=False).encode(),
            "texts.json": json.dumps({"texts": dict.fromkeys(tokens, "a text"), "labels": {}}).encode(),
        }
        hashes = {part: hashlib.sha256(content).hexdigest() for part, content in parts.items()}
        parts["config.json"] = json.dumps({"dataset": name, "sha256": hashes}).encode()
        record_run(self.config(name, data, folder), "export", [place / part for part in parts])
        with replace_files(place) as new:
            write_parts(parts, new)
        for part in parts:
            self.made[place / part] = MadeFile(data, must_go=True, without=_export(part))

    def make_features(self, name: str, data: Path, folder: str) -> None:
        """Features of texts, some of which are no longer in the data."""
        cache = Path(folder).absolute() / "features" / name
        if cache.exists():
            return
        record_run(self.config(name, data, folder), "features", [cache])
        texts = [Text(f"title: about user {number}") for number in range(3)]
        store = FeatureStore(cache, "text", "0" * 16)
        store.write([text.key() for text in texts], np.random.default_rng(0).random((3, 4)).astype(np.float32))
        for path in cache.rglob("*.safetensors"):
            self.made[path] = MadeFile(data, without=lambda before, kind, token: None)


def _table(before: bytes, kind: str, token: str) -> bytes:
    lines = before.decode("utf-8", "surrogatepass").splitlines(keepends=True)
    header = [column.partition(":")[0] for column in lines[0].rstrip("\r\n").split("\t")]
    if f"{kind}_id" not in header:
        return before
    at = header.index(f"{kind}_id")
    kept = [line for line in lines[1:] if (line.rstrip("\r\n").split("\t") + [""] * 9)[at] != token or "\t" not in line]
    return "".join([lines[0], *kept]).encode("utf-8", "surrogatepass")


def _lines(before: bytes, kind: str, token: str) -> bytes:
    kept = []
    for line in before.splitlines(keepends=True):
        try:
            row = json.loads(line)
        except ValueError:
            row = json.loads(line.strip() + b"}")  # malformed lines of a history lack their last character
        if str(row.get(f"{kind}_id")) != token:
            kept.append(line)
    return b"".join(kept)


def _log(before: bytes, kind: str, token: str) -> bytes:
    named = f"({one_line(repr(token))})".encode()
    return b"".join(line for line in before.splitlines(keepends=True) if named not in line)


def _state(before: bytes, kind: str, token: str) -> bytes | None:
    users = _description(before)["users"]
    return before if kind == "item" or token not in users else None


def _description(state: bytes) -> dict[str, Any]:
    size = int.from_bytes(state[:8], "little")
    return json.loads(json.loads(state[8 : 8 + size])["__metadata__"]["state"])  # type: ignore[no-any-return]


def _export(part: str) -> Callable[[bytes, str, str], bytes | None]:
    def without(before: bytes, kind: str, token: str) -> bytes | None:
        return None if kind == "item" and part in ("texts.json", "config.json") else before

    return without


@dataclass
class Findings:
    """The errors of one run of ``forget``.

    Attributes:
        unreported: files that contain or may contain the id, and were neither changed nor reported as left.
        foreign: files, or parts of files, of others that were changed.
    """

    unreported: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


def check(history: History, before: dict[Path, bytes], erasure: Erasure, request: tuple[Path, str, str]) -> Findings:
    """Compare the files of a history with those before.

    Args:
        history: that created the files.
        before: bytes of the files before ``forget``.
        erasure: what ``forget`` reported.
        request: the data set's folder, the kind and the id.
    """
    findings = Findings()
    folder, kind, token = request
    left = {Path(os.path.abspath(path)) for path in erasure.left}
    for path, old in before.items():
        made = history.made.get(path)
        now = path.read_bytes() if path.exists() else None
        is_reported = bool(left & {path, *path.parents})
        if made is None:  # manifests
            continue
        if made.data != folder:
            if now != old:
                findings.foreign.append(f"{path}: of {made.data}")
            if made.data is None and made.must_go and not is_reported and path.parent == Path("saved").absolute():
                findings.unreported.append(f"{path}: unrecorded")
            continue
        if path.parent.name == "content" and path.suffix == ".png":
            _check_picture(findings, path, now, before, request, is_reported)
            continue
        expected = made.without(old, kind, token) if made.without else old
        if expected is not None and now not in (expected, *([None] if made.must_go else [])):
            findings.foreign.append(f"{path}: rows of others")
        names = made.users if kind == "user" else made.items
        if now is not None and not is_reported and (made.must_go or token in names):
            findings.unreported.append(f"{path}: exists")
        if made.without is _state and expected is None:
            _check_state(findings, path, old, now, token)
    return findings


def _check_picture(
    findings: Findings,
    path: Path,
    now: bytes | None,
    before: dict[Path, bytes],
    request: tuple[Path, str, str],
    is_reported: bool,
) -> None:
    """Check that a picture is kept if and only if a row of another id uses it."""
    folder, kind, token = request
    owners = set()
    for name in ("user", "item"):
        for line in before.get(folder / "content" / f"{name}s.jsonl", b"").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                row = json.loads(line + b"}")
            if row["image_file_name"] == path.name:
                owners.add((name, str(row[f"{name}_id"])))
    if owners == {(kind, token)} and now is not None and not is_reported:
        findings.unreported.append(f"{path}: their picture")
    if owners - {(kind, token)} and now is None:
        findings.foreign.append(f"{path}: picture of {owners}")


def _check_state(findings: Findings, path: Path, old: bytes, now: bytes | None, token: str) -> None:
    """Check that the other users of a state and their items did not change."""
    users = _description(old)["users"]
    kept = [row for row, user in enumerate(users) if user != token]
    if now is None:
        if kept:
            findings.foreign.append(f"{path}: users {kept}")
        return
    described, tensors, former = _description(now), load(now), load(old)
    if token in described["users"]:
        findings.unreported.append(f"{path}: a state of theirs")
    if [users[row] for row in kept] != described["users"]:
        findings.foreign.append(f"{path}: users {described['users']}")
    for name in ("past", "interest", "length", "latest"):
        if not torch.equal(tensors[name], former[name][kept]):
            findings.foreign.append(f"{path}: {name}")
    names = _description(old)["items"], described["items"]
    width = tensors["items"].shape[1]
    was = [[names[0][item] for item in row] for row in former["items"][kept][:, :width].tolist()]
    if was != [[names[1][item] for item in row] for row in tensors["items"].tolist()]:
        findings.foreign.append(f"{path}: items")


def run(seed: int) -> Findings:
    """Create a history in the current, empty folder, forget one random user or item, and check the result.

    Args:
        seed: of the history and of the id to forget.
    """
    os.environ["XDG_STATE_HOME"] = str(Path("state").absolute())
    history = History(seed)
    rng = history.random
    name, data_path = rng.choice(history.sets)
    folder = data_path / name
    kind = rng.choice(["user", "item"])
    token = rng.choice([*(history.users if kind == "user" else history.items)[folder], "nobody"])
    before = {path: path.read_bytes() for path in Path.cwd().rglob("*") if path.is_file()}
    config = configure(
        "LLMInterest", name,
        overrides={"data_path": str(data_path), "checkpoint_dir": "saved", "text_encoder": "hashing",
                   "modalities": ["text"], "use_gpu": False},
    )  # fmt: skip
    if Path(config["data_path"]) != folder:
        raise RuntimeError(f"{name} is not the data set of the history: {config['data_path']}")
    flags = {"checkpoints": rng.random() < 0.5, "results": rng.random() < 0.5}
    erasure = erase(config, **{f"{kind}s": [token]}, **flags)  # type: ignore[arg-type]
    findings = check(history, before, erasure, (folder, kind, token))
    again = erase(config, **{f"{kind}s": [token]}, **flags)  # type: ignore[arg-type]
    findings.unreported += [f"{path}: changed only by the second run" for path in (*again.rewritten, *again.deleted)]
    return findings


def histories(count: int) -> Iterator[tuple[int, Findings]]:
    """Run histories, each in a folder of its own.

    Args:
        count: of histories; their seeds are 0, 1 and so on.
    """
    here = Path.cwd()
    for seed in range(count):
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                yield seed, run(seed)
            finally:
                os.chdir(here)


def main() -> int:
    """Run the histories. Returns 0 if no file was left unreported and none of others was changed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=1000)
    options = parser.parse_args()
    sys.argv = sys.argv[:1]
    start, unreported, foreign = time.monotonic(), 0, 0
    for seed, findings in histories(options.histories):
        unreported += bool(findings.unreported)
        foreign += bool(findings.foreign)
        for fault in (*findings.unreported, *findings.foreign):
            print(f"history {seed}: {fault}", file=sys.stderr)
    seconds = round(time.monotonic() - start)
    print(
        json.dumps({"histories": options.histories, "unreported": unreported, "foreign": foreign, "seconds": seconds})
    )
    return int(bool(unreported or foreign))


if __name__ == "__main__":
    sys.exit(main())
