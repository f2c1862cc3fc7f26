"""Kills jobs at random moments, lets them finish, and compares their results with those of uninterrupted jobs.

    python benchmarks/kills.py --what=all --kills=50
    python benchmarks/kills.py --what=export --kills=50

There are six kinds of job: ``encoding``; ``training`` of a model into a table; ``checkpointing``, the same with every
kill while a file is being written; ``reporting``, which overwrites a table and a report with those of another run;
``export``, which overwrites an exported model; and ``forget``, which removes a user from a data set and from files
made from it. For the other kinds, every second kill happens while a file is being written. A job is killed (SIGKILL)
and restarted until it finishes; then a new job starts, until there were enough kills. The data set is that of
data/make_daily.py, with encoders that need no weights.

Jobs are forked from this process, which has imported all modules but started no thread: a fork takes no time, while a
new process spends six seconds on imports. Every twentieth job runs in a new process nevertheless.
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
from recbole_llm_interest.evaluation.plot import draw_comparison
from recbole_llm_interest.evaluation.results import RunResult, read_results
from recbole_llm_interest.evaluation.table import write_comparison
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint
from recbole_llm_interest.io.manifest import MANIFEST
from recbole_llm_interest.training.environment_info import environment_info

REPOSITORY = Path(__file__).parent.parent
#: one of this many jobs runs in a new process
SUBPROCESS_INTERVAL = 20
#: small, so that a job writes many shards
SHARD_ROWS = 8
#: modules that jobs import late
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
#: arguments of each kind of job
ARGUMENTS = {
    "encoding": [*_DATA, "--feature_cache=features", "--modalities=[text,image]"],
    "training": [*_DATA, *_TRAINING, "--epochs=6", "--hidden_size=16"],
    # short epochs, and states of some megabytes
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


def encode(arguments: list[str]) -> int:
    """The job of encoding."""
    encoding_job.SHARD_ROWS = SHARD_ROWS
    return recbole_llm_interest.cli.encode.main(arguments)


def train(arguments: list[str]) -> int:
    """The jobs of training and checkpointing."""
    return recbole_llm_interest.cli.compare.main(arguments)


def report(arguments: list[str]) -> int:
    """The job of reporting: a table of the runs in a file, then a report on it."""
    (version,) = arguments
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
    """The result of the kills of one kind of job.

    Attributes:
        kills: jobs that were killed.
        killed_in_writing: those that left an unfinished file.
        resumed_to_the_end: jobs that finished after they had been killed.
        rows_lost: stored features or trained epochs that a kill removed, or that are missing in the result.
        corrupt_files: files that could not be read after a kill, or were neither the old nor the new one.
        left_over: unfinished files that remained after a job had finished.
        largest_difference: of features, losses, scores and weights from those of the uninterrupted job.
        seconds: total time.
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
    """Print the results of each kind, then all of them as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--what", choices=[*JOBS, "all"], default="all")
    parser.add_argument("--kills", type=int, default=50, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)  # of a new process
    options, arguments = parser.parse_known_args()
    torch.set_num_threads(1)  # no thread may start before a fork
    if options.job:
        print("ready", flush=True)
        sys.exit(JOBS[options.job](arguments))
    for module in _LATE:
        importlib.import_module(module)
    outcomes = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["XDG_STATE_HOME"] = str(root / "state")
        subprocess.run([sys.executable, str(REPOSITORY / "data" / "make_daily.py"), str(root / "data")], check=True)
        for what in JOBS if options.what == "all" else [options.what]:
            outcomes[what] = KillTest(what, root, random.Random(f"{options.seed} {what}")).run(options.kills)
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


class KillTest:
    """Kills and restarts one kind of job, in folders below ``root``.

    Args:
        what: the kind of job.
        root: has the folder ``data/``.
        rng: chooses the times of the kills.
    """

    def __init__(self, what: str, root: Path, rng: random.Random) -> None:
        self.what, self.root, self.rng = what, root, rng
        self.outcome = Outcome()
        self.started = 0
        self.arguments = ARGUMENTS[what]
        self.versions: list[list[str]] = [self.arguments]
        if what == "reporting":
            self.versions = [[str(path)] for path in self._tables()]
        elif what == "export":
            self.versions = list(self._checkpoints())
        elif what == "forget":
            self._prepare()
        elif what in ("training", "checkpointing"):
            self.versions = [[*self.arguments, f"--model={model}"] for model in MODELS]
        self.expected, self.seconds = [], 0.0
        for number, arguments in enumerate(self.versions):
            folder = self._new_folder(what if what == "forget" else f"{what}-uninterrupted-{number}")
            before = time.monotonic()
            if self.start(folder, arguments, in_subprocess=False).join() != 0:
                sys.exit(f"error: the uninterrupted job of {what} failed: {_log(folder)}")
            self.seconds = time.monotonic() - before
            self.expected.append(self._result(folder))

    def run(self, kills: int) -> Outcome:
        """Kill this many jobs, and return the result."""
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
                sys.exit(f"error: a job of {self.what} failed after it was resumed: {_log(folder)}")
            self._compare(folder)
            if self.outcome.kills == kills:
                break
            kept = set()
            if self.what not in ("reporting", "export"):  # these overwrite the previous files
                folder = self._new_folder(self.what)
        self.outcome.seconds = time.monotonic() - before
        return replace(self.outcome, seconds=round(self.outcome.seconds))

    def start(self, folder: Path, arguments: list[str], in_subprocess: bool | None = None) -> Job:
        """Start a job in a folder."""
        self.started += 1
        is_subprocess = self.started % SUBPROCESS_INTERVAL == 0 if in_subprocess is None else in_subprocess
        return (SubprocessJob if is_subprocess else ForkedJob)(self.what, folder, arguments)

    def _wait(self, job: Job, folder: Path) -> None:
        """Wait until it is time to kill the job, or until it ends."""
        before = set(_unfinished(folder))
        deadline = time.monotonic() + self.rng.uniform(0, self.seconds)
        while job.is_alive() and time.monotonic() < deadline:
            time.sleep(0.002)
        if self.what == "checkpointing" or self.outcome.kills % 2:
            while job.is_alive() and before.issuperset(_unfinished(folder)):
                time.sleep(0.0002)
            time.sleep(self.rng.uniform(0, 0.03))

    def _new_folder(self, name: str) -> Path:
        folder = self.root / name
        shutil.rmtree(folder, ignore_errors=True)
        if (self.root / "before").exists():  # at its original path, because manifests contain it
            shutil.copytree(self.root / "before", folder)
        else:
            folder.mkdir()
        return folder

    def _prepare(self) -> None:
        """Create the files that a user is removed from, and keep a copy."""
        folder = self._new_folder("forget")
        if ForkedJob("preparing", folder, [str(self.root / "data" / "daily"), *_FORGOTTEN]).join() != 0:
            sys.exit(f"error: the files for forget cannot be created: {_log(folder)}")
        shutil.copytree(folder, self.root / "before")

    def _checkpoints(self) -> Iterator[list[str]]:
        """Train two models with different seeds, and yield the arguments of their exports."""
        for seed in (1, 2):
            folder = self._new_folder(f"exported-{seed}")
            arguments = [*ARGUMENTS["checkpointing"], "--model=LLMInterest", f"--seed={seed}"]
            if ForkedJob("training", folder, arguments).join() != 0:
                sys.exit(f"error: the run to export failed: {_log(folder)}")
            (run,) = read_results(folder / "table.json")
            yield [str(folder / run.checkpoint), str(self.root / "data"), str(self.root / "features")]

    def _tables(self) -> Iterator[Path]:
        """Yield two different tables of the same runs."""
        folder = self._new_folder("reported")
        if ForkedJob("training", folder, [*ARGUMENTS["training"], f"--model={','.join(MODELS)}"]).join() != 0:
            sys.exit(f"error: the run to report failed: {_log(folder)}")
        runs = read_results(folder / "table.json")
        runs = [replace(run, checkpoint=str(folder / run.checkpoint), note="as it was") for run in runs]
        later = [replace(run, note="run once more", losses={}, variant=f"{run.variant} again") for run in runs]
        for number, results in enumerate((runs, later)):
            yield write_comparison(results, folder / f"version-{number}")[2]

    def _check(self, folder: Path) -> set[Any]:
        """Read every file after a kill, and return what is kept so far: keys of rows, or epochs."""
        if self.what in ("export", "forget"):
            return self._check_folder(folder)
        kept: set[Any] = set()
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path in _unfinished(folder):
                continue
            try:
                kept |= self._read(path)
            except Exception as error:  # any error means that the file cannot be read
                self.outcome.corrupt_files.append(f"{path.name}: {error}")
        return kept

    def _check_folder(self, folder: Path) -> set[Any]:
        """Read the exported model, or the rows of users who are not removed."""
        if self.what == "forget":
            kept = folders.rows(folder)
            self.outcome.rows_lost += len(folders.rows(self.root / "before") - kept)
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
        if path.name in (MANIFEST, "job.log"):  # files that are appended to
            return set()
        if self.what == "reporting":
            versions = [files.get(str(path.relative_to(self.root / self.what))) for files in self.expected]
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
        """Compare the result of a job with that of the uninterrupted one."""
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
        """Return the result of a job as values by name."""
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
    """Return the values that must be equal in two runs, as arrays."""
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
    """Return temporary files, of running or killed processes; with ``locks``, lock files as well."""
    hidden = (path for path in folder.rglob("*") if any(part[0] == "." for part in path.relative_to(folder).parts))
    return [path for path in hidden if path.is_file() and (locks or path.suffix != ".lock")]


def _log(folder: Path) -> str:
    return (folder / "job.log").read_text(errors="replace")[-2000:]


class ForkedJob:
    """A job in a process forked from this one."""

    def __init__(self, what: str, folder: Path, arguments: list[str]) -> None:
        self._process = multiprocessing.get_context("fork").Process(target=_run_forked, args=(what, folder, arguments))
        self._process.start()

    def is_alive(self) -> bool:
        """Return whether it is running."""
        return self._process.is_alive()

    def kill(self) -> None:
        """Kill it by SIGKILL."""
        self._process.kill()

    def join(self) -> int:
        """Wait until it ends, and return its exit code."""
        self._process.join()
        return self._process.exitcode or 0


class SubprocessJob:
    """A job in a new process."""

    def __init__(self, what: str, folder: Path, arguments: list[str]) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), f"--job={what}", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        with (folder / "job.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        self._process.stdout.readline()  # until it has imported everything

    def is_alive(self) -> bool:
        """Return whether it is running."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill it by SIGKILL."""
        self._process.kill()

    def join(self) -> int:
        """Wait until it ends, and return its exit code."""
        self._process.communicate()
        return self._process.returncode


Job = ForkedJob | SubprocessJob


def _run_forked(what: str, folder: Path, arguments: list[str]) -> None:
    os.chdir(folder)
    sys.argv = ["job"]
    with _redirect_output(folder / "job.log"):
        if what == "preparing":
            folders.prepare(folder, Path(arguments[0]), arguments[1:])
        code = 0 if what == "preparing" else JOBS[what](arguments)
    sys.exit(code)


@contextmanager
def _redirect_output(log: Path) -> Iterator[None]:
    with log.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        yield


if __name__ == "__main__":
    main()
