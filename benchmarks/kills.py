"""Kills jobs at random moments, lets them finish, and compares what they end in with jobs that nobody disturbed.

    python benchmarks/kills.py --what=all --kills=50
    python benchmarks/kills.py --what=export --kills=50

Six kinds: ``encoding``; ``training`` of a model into a table; ``checkpointing``, the same with every kill in a moment
in which a file is being written; ``reporting``, tables and a report written over those of another run; ``export``, a
model written over another one; and ``forget``, a user removed from a data set and from what was made of it. Of the
other kinds, every second kill comes in such a moment. Each is killed (SIGKILL) and started again until it ends by
itself, then from the beginning, until there were enough kills. Data is the set that data/make_daily.py makes, with
encoders that need no weights.

A job is forked from this process, which has imported everything and computed nothing, so that no thread and no state of
a library goes along: that takes no time, where a process of its own imports for six seconds. Every twentieth is such a
process all the same.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import kills_of_folders as folders
import numpy as np
import torch
from safetensors.numpy import load

import recbole_llm_interest.cli.compare
import recbole_llm_interest.cli.encode
import recbole_llm_interest.cli.report
from recbole_llm_interest.content import encoding_job
from recbole_llm_interest.evaluation.results import RunResult, read_results
from recbole_llm_interest.evaluation.table import draw_comparison, write_comparison
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint
from recbole_llm_interest.io.manifest import MANIFEST
from recbole_llm_interest.training.environment_info import environment_info

REPOSITORY = Path(__file__).parent.parent
#: one in so many jobs is a process of its own
APART = 20
#: so that a job has many shards to be killed in
SHARD_ROWS = 8
#: what jobs import when they first need it
_LATE = (
    "librosa.feature",
    "PIL.Image",
    "sklearn.decomposition",
    "soundfile",
    "torch._dynamo",
    "torch.utils.tensorboard",
)
_DATA = ["--dataset=daily", "--data_path=../data", "--text_encoder=hashing", "--show_progress=False"]
_TRAINING = [
    *("--table=table", "--modalities=[text]", "--feature_cache=../features", "--feature_conditioning=none"),
    *("--learning_rate_schedule=cosine", "--stopping_step=100", "--embedding_size=16"),
]
_FORGOTTEN = ["--dataset=daily", "--data_path=data", "--feature_cache=features", "--text_encoder=hashing",
              "--modalities=[text]"]  # fmt: skip
#: trained in turn
MODELS = ["LLMInterest", "GRU4Rec"]
#: a kind's command line
WORDS = {
    "encoding": [*_DATA, "--feature_cache=features", "--modalities=[text,image]"],
    "training": [*_DATA, *_TRAINING, "--epochs=6", "--hidden_size=16"],
    # small steps, and states of some megabytes
    "checkpointing": [*_DATA, *_TRAINING, "--epochs=4", "--hidden_size=300", "--MAX_ITEM_LIST_LENGTH=3"],
    "reporting": [],
    "export": [],
    "forget": [
        "--dataset=daily",
        "--data_path=data",
        "--text_encoder=hashing",
        "--modalities=[text]",
        "--feature_cache=features",
        f"--user={folders.USER}",
    ],
}


def encode(words: list[str]) -> int:
    """The job of encoding."""
    encoding_job.SHARD_ROWS = SHARD_ROWS
    return recbole_llm_interest.cli.encode.main(words)


def train(words: list[str]) -> int:
    """The jobs of training and checkpointing."""
    return recbole_llm_interest.cli.compare.main(words)


def report(words: list[str]) -> int:
    """The job of reporting: a table of the runs in the file that is named, then a report on it."""
    (version,) = words
    results = read_results(Path(version))
    draw_comparison(results, write_comparison(results, Path("table"))[0])
    return recbole_llm_interest.cli.report.main(["--table=table.json", "--output=report"])


JOBS: dict[str, Callable[[list[str]], int]] = {
    "encoding": encode,
    "training": train,
    "checkpointing": train,
    "reporting": report,
    "export": folders.export,
    "forget": folders.forget,
}


@dataclass
class Outcome:
    """What came of the kills of one kind.

    Attributes:
        kills: jobs that were killed.
        killed_in_writing: those that left an unfinished file.
        resumed_to_the_end: times that a job then ended by itself.
        rows_lost: stored features or trained epochs that a kill took away again, or that the end lacks.
        corrupt_files: files that could not be read after a kill, or were neither the old nor the new one.
        left_over: unfinished files that were still there when a job had ended.
        largest_difference: of features, losses, scores and weights from the undisturbed job's.
        seconds: how long it took.
    """

    kills: int = 0
    killed_in_writing: int = 0
    resumed_to_the_end: int = 0
    rows_lost: int = 0
    corrupt_files: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    largest_difference: float = 0.0
    seconds: float = 0.0


def main() -> None:
    """Print the figure, in words and then as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--what", choices=[*JOBS, "all"], default="all")
    parser.add_argument("--kills", type=int, default=50, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)  # a process of its own
    options, words = parser.parse_known_args()
    torch.set_num_threads(1)  # nobody here may start others before a fork
    if options.job:
        print("ready", flush=True)
        sys.exit(JOBS[options.job](words))
    for module in _LATE:
        importlib.import_module(module)
    outcomes = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["XDG_STATE_HOME"] = str(place / "state")
        subprocess.run([sys.executable, str(REPOSITORY / "data" / "make_daily.py"), str(place / "data")], check=True)
        for what in JOBS if options.what == "all" else [options.what]:
            outcomes[what] = Killing(what, place, random.Random(f"{options.seed} {what}")).go(options.kills)
            print(f"{what}: {outcomes[what]}", flush=True)
    figure = {
        "figure": "killed at random moments",
        "kills": sum(outcome.kills for outcome in outcomes.values()),
        "rows_lost": sum(outcome.rows_lost for outcome in outcomes.values()),
        "corrupt_files": sum(len(outcome.corrupt_files) for outcome in outcomes.values()),
        "left_over": sum(len(outcome.left_over) for outcome in outcomes.values()),
        "largest_difference": max(outcome.largest_difference for outcome in outcomes.values()),
        "what": {what: vars(outcome) for what, outcome in outcomes.items()},
        **environment_info(torch.device("cpu")),
    }
    print(json.dumps(figure))


class Killing:
    """One kind of job, killed again and again below ``place``.

    Args:
        what: the kind.
        place: holds ``data/``.
        chance: says when.
    """

    def __init__(self, what: str, place: Path, chance: random.Random) -> None:
        self.what, self.place, self.chance = what, place, chance
        self.outcome = Outcome()
        self.started = 0
        self.words = WORDS[what]
        self.versions: list[list[str]] = [self.words]
        if what == "reporting":
            self.versions = [[str(path)] for path in self._tables()]
        elif what == "export":
            self.versions = list(self._checkpoints())
        elif what == "forget":
            self._prepare()
        elif what in ("training", "checkpointing"):
            self.versions = [[*self.words, f"--model={model}"] for model in MODELS]
        self.expected, self.seconds = [], 0.0
        for number, words in enumerate(self.versions):
            folder = self._new_folder(what if what == "forget" else f"{what}-undisturbed-{number}")
            before = time.monotonic()
            if self.start(folder, words, apart=False).join() != 0:
                sys.exit(f"error: the undisturbed job of {what} did not end well: {_log(folder)}")
            self.seconds = time.monotonic() - before
            self.expected.append(self._result(folder))

    def go(self, kills: int) -> Outcome:
        """Kill so many jobs."""
        before = time.monotonic()
        folder = self._new_folder(self.what)
        kept: set[Any] = set()
        while True:
            job = self.start(folder, self.versions[self.outcome.resumed_to_the_end % len(self.versions)])
            if self.outcome.kills < kills:
                self._wait(job, folder)
                job.kill()
            code = job.join()
            if code == -signal.SIGKILL:
                self.outcome.kills += 1
                self.outcome.killed_in_writing += bool(_unfinished(folder))
                kept_before, kept = kept, self._check(folder)
                self.outcome.rows_lost += len(kept_before - kept)
                continue
            if code != 0:
                sys.exit(f"error: a job of {self.what} that resumed did not end well: {_log(folder)}")
            self._compare(folder)
            if self.outcome.kills == kills:
                break
            kept = set()
            if self.what not in ("reporting", "export"):  # these are written over those that are there
                folder = self._new_folder(self.what)
        self.outcome.seconds = time.monotonic() - before
        return replace(self.outcome, seconds=round(self.outcome.seconds))

    def start(self, folder: Path, words: list[str], apart: bool | None = None) -> Job:
        """Start a job in a folder."""
        self.started += 1
        is_apart = self.started % APART == 0 if apart is None else apart
        return (Apart if is_apart else Fork)(self.what, folder, words)

    def _wait(self, job: Job, folder: Path) -> None:
        """Wait for the moment of the kill, or the end of the job."""
        before = set(_unfinished(folder))
        deadline = time.monotonic() + self.chance.uniform(0, self.seconds)
        while job.is_alive() and time.monotonic() < deadline:
            time.sleep(0.002)
        if self.what == "checkpointing" or self.outcome.kills % 2:
            while job.is_alive() and before.issuperset(_unfinished(folder)):
                time.sleep(0.0002)
            time.sleep(self.chance.uniform(0, 0.03))

    def _new_folder(self, name: str) -> Path:
        folder = self.place / name
        shutil.rmtree(folder, ignore_errors=True)
        if (self.place / "before").exists():  # at the same path as it was made, because manifests name it
            shutil.copytree(self.place / "before", folder)
        else:
            folder.mkdir()
        return folder

    def _prepare(self) -> None:
        """Make what a user is forgotten from, and keep a copy."""
        folder = self._new_folder("forget")
        if Fork("preparing", folder, [str(self.place / "data" / "daily"), *_FORGOTTEN]).join() != 0:
            sys.exit(f"error: what is forgotten from cannot be made: {_log(folder)}")
        shutil.copytree(folder, self.place / "before")

    def _checkpoints(self) -> Iterator[list[str]]:
        """Two models of different seeds."""
        for seed in (1, 2):
            folder = self._new_folder(f"exported-{seed}")
            words = [*WORDS["checkpointing"], "--model=LLMInterest", f"--seed={seed}"]
            if Fork("training", folder, words).join() != 0:
                sys.exit(f"error: the run that is exported did not end well: {_log(folder)}")
            (run,) = read_results(folder / "table.json")
            yield [str(folder / run.checkpoint), str(self.place / "data"), str(self.place / "features")]

    def _tables(self) -> Iterator[Path]:
        """Two tables of the same runs, which differ."""
        folder = self._new_folder("reported")
        if Fork("training", folder, [*WORDS["training"], f"--model={','.join(MODELS)}"]).join() != 0:
            sys.exit(f"error: the run that is reported did not end well: {_log(folder)}")
        runs = read_results(folder / "table.json")
        runs = [replace(run, checkpoint=str(folder / run.checkpoint), note="as it was") for run in runs]
        later = [replace(run, note="run once more", losses={}, variant=f"{run.variant} again") for run in runs]
        for number, results in enumerate((runs, later)):
            yield write_comparison(results, folder / f"version-{number}")[2]

    def _check(self, folder: Path) -> set[Any]:
        """Look at every file after a kill, and return what is kept so far: rows by their keys, or epochs."""
        if self.what in ("export", "forget"):
            return self._check_folder(folder)
        kept: set[Any] = set()
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path in _unfinished(folder):
                continue
            try:
                kept |= self._read(path)
            except Exception as error:  # whatever it is, the file cannot be read
                self.outcome.corrupt_files.append(f"{path.name}: {error}")
        return kept

    def _check_folder(self, folder: Path) -> set[Any]:
        """Look at an exported model, or at the rows of those who are not forgotten."""
        if self.what == "forget":
            kept = folders.rows(folder)
            self.outcome.rows_lost += len(folders.rows(self.place / "before") - kept)
            return kept
        try:
            found = folders.exported(folder)
        except (OSError, ValueError) as error:
            self.outcome.corrupt_files.append(str(error))
            return set()
        if found not in ({}, *self.expected):
            self.outcome.corrupt_files.append("the model is neither the old one nor the new one")
        return {"model"} if found else set()

    def _read(self, path: Path) -> set[Any]:
        if path.name in (MANIFEST, "job.log"):  # lines are added to them
            return set()
        if self.what == "reporting":
            versions = [files.get(str(path.relative_to(self.place / self.what))) for files in self.expected]
            if _digest(path) not in versions:
                raise ValueError("is neither the old one nor the new one")
        elif path.name.endswith(".resume.safetensors"):
            state = load_checkpoint(path)
            return {(state["config"]["model"], epoch) for epoch in range(state["epoch"] + 1)}
        elif path.suffix == ".safetensors" and path.parent.name == "saved":
            load_checkpoint(path)
        elif path.suffix == ".safetensors":
            if _digest(path) != path.stem:
                raise ValueError("does not match its name")
            return {(path.parent.name, key.tobytes()) for key in load(path.read_bytes())["keys"]}
        elif path.name == "manifest.json":
            json.loads(path.read_text())["refused"]
        elif path.suffix == ".json":
            return {(run.model, epoch) for run in read_results(path) for epoch in range(run.epochs)}
        return set()

    def _compare(self, folder: Path) -> None:
        """Compare what a job ended in with the undisturbed one's."""
        found = self._result(folder)
        expected = self.expected[self.outcome.resumed_to_the_end % len(self.versions)]
        self.outcome.resumed_to_the_end += 1
        self.outcome.left_over += [path.name for path in _unfinished(folder, locks=True)]
        self.outcome.left_over += [path.name for path in folder.rglob("*.resume.safetensors")]
        self.outcome.rows_lost += len(expected.keys() - found.keys())
        for name in expected.keys() & found.keys():
            difference = _difference(expected[name], found[name])
            self.outcome.largest_difference = max(self.outcome.largest_difference, difference)

    def _result(self, folder: Path) -> dict[Any, Any]:
        """What a job ended in, by name."""
        if self.what == "encoding":
            shards = [(path, load(path.read_bytes())) for path in folder.rglob("*.safetensors")]
            keys = [(path.parent.name, key.tobytes()) for path, shard in shards for key in shard["keys"]]
            if len(set(keys)) < len(keys):
                raise ValueError(f"{len(keys) - len(set(keys))} rows are stored twice")
            return dict(zip(keys, (row for _, shard in shards for row in shard["features"]), strict=True))
        if self.what == "export":
            return folders.exported(folder)
        if self.what in ("reporting", "forget"):
            without = {"job.log", MANIFEST} if self.what == "reporting" else {"job.log"}
            files = [path for path in folder.rglob("*") if path.is_file() and path.name not in without]
            return {str(path.relative_to(folder)): _digest(path) for path in files if not path.name.startswith(".")}
        found: dict[Any, Any] = {}
        for run in read_results(folder / "table.json"):
            weights = load_checkpoint(folder / run.checkpoint)["state_dict"]
            found |= {(run.variant, name): values.numpy() for name, values in weights.items()}
            found |= {(run.variant, name): value for name, value in _plain(run).items()}
        return found


def _plain(run: RunResult) -> dict[str, Any]:
    """What two runs have to share, as arrays."""
    scores = {f"test {name}": value for name, value in run.test.items()}
    curves = {f"loss {name}": values for name, values in run.losses.items()}
    rest = {"epochs": run.epochs, "ranks": run.ranks, "best": run.best_valid, "validated": run.valid_scores}
    return {name: np.asarray(value, dtype=np.float64) for name, value in {**scores, **curves, **rest}.items()}


def _difference(one: Any, other: Any) -> float:
    if isinstance(one, str):
        return 0.0 if one == other else float("inf")
    if one.shape != other.shape:
        return float("inf")
    return float(np.abs(np.asarray(one, dtype=np.float64) - other).max(initial=0.0))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _unfinished(folder: Path, locks: bool = False) -> list[Path]:
    """Files that are being written, or were when their process was killed; with ``locks``, lock files as well."""
    hidden = (path for path in folder.rglob("*") if any(part[0] == "." for part in path.relative_to(folder).parts))
    return [path for path in hidden if path.is_file() and (locks or path.suffix != ".lock")]


def _log(folder: Path) -> str:
    return (folder / "job.log").read_text(errors="replace")[-2000:]


class Fork:
    """A job in a process that is forked from this one."""

    def __init__(self, what: str, folder: Path, words: list[str]) -> None:
        self._process = multiprocessing.get_context("fork").Process(target=_work, args=(what, folder, words))
        self._process.start()

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()

    def join(self) -> int:
        """Wait for its end, and return its exit code."""
        self._process.join()
        return self._process.exitcode or 0


class Apart:
    """A job in a process of its own."""

    def __init__(self, what: str, folder: Path, words: list[str]) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), f"--job={what}", *words]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        with (folder / "job.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        self._process.stdout.readline()  # until it has imported everything

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()

    def join(self) -> int:
        """Wait for its end, and return its exit code."""
        self._process.communicate()
        return self._process.returncode


Job = Fork | Apart


def _work(what: str, folder: Path, words: list[str]) -> None:
    os.chdir(folder)
    sys.argv = ["job"]
    with _into(folder / "job.log"):
        if what == "preparing":
            folders.prepare(folder, Path(words[0]), words[1:])
        code = 0 if what == "preparing" else JOBS[what](words)
    sys.exit(code)


@contextmanager
def _into(log: Path) -> Iterator[None]:
    with log.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        yield


if __name__ == "__main__":
    main()
