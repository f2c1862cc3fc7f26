"""Full disks, folders that cannot be written, a second run, NaN, too little memory, signals: one line, nothing lost."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY, full_disk

from recbole_llm_interest.cli import encode
from recbole_llm_interest.cli.compare import main
from recbole_llm_interest.cli.tune import main as tune
from recbole_llm_interest.content.feature_store import FeatureStore
from recbole_llm_interest.errors import CheckpointError, LLMInterestError, StorageError
from recbole_llm_interest.evaluation.results import read_results
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint
from recbole_llm_interest.io.files import try_lock, write_atomically
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.report import __main__ as report
from recbole_llm_interest.report import page
from recbole_llm_interest.training.checkpoint import reserve_checkpoint_path
from recbole_llm_interest.training.comparison import run
from recbole_llm_interest.training.monitor import TrainingMonitor
from recbole_llm_interest.training.resume import load_resume_state
from recbole_llm_interest.training.trials import TrialLog

#: models, and bytes that a checkpoint of theirs does not fit in
MODELS = [("LLMInterest", 60_000), ("GRU4Rec", 20_000)]


@pytest.fixture
def given(settings):
    return settings | {"epochs": 4, "text_encoder": "hashing", "feature_conditioning": "none"}


@pytest.fixture
def stock(given):
    """Of a model that takes no time, where another would do no better."""
    return {key: value for key, value in given.items() if key not in ("text_encoder", "feature_conditioning")}


def command(given, *more):
    return ["--dataset=cycle", *(f"--{key}={value}" for key, value in given.items()), *more]


def closing_line(capsys):
    """What was printed last; the progress bars before it do not end their line."""
    return re.split(r"[\r\n]", capsys.readouterr().err.strip())[-1]


def files_below(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "log" not in path.parts}


@pytest.fixture
def at_epoch(monkeypatch):
    """Has something done as an epoch, counted from 0, begins, once."""
    timed = TrainingMonitor._timed

    def arrange(number, action):
        pending = [action]

        def at_its_begin(self, original):
            def train(data, epoch, *args, **kwargs):
                if epoch == number and pending:
                    pending.pop()()
                return original(data, epoch, *args, **kwargs)

            return timed(self, train)

        monkeypatch.setattr(TrainingMonitor, "_timed", at_its_begin)

    return arrange


# --- disks


@pytest.mark.slow
@pytest.mark.parametrize(("model", "limit"), MODELS)
@pytest.mark.parametrize(("more", "name"), [((), r"\.safetensors"), (("--eval_step=3",), r"\.resume\.safetensors")])
def test_full_disk_in_training_names_the_file_and_the_same_command_goes_on(
    given, here, capsys, model, limit, more, name
):
    """The checkpoint, or, where the first epochs are not validated, the state."""
    words = command(given, f"--model={model}", "--table=mine", *more)
    with full_disk(limit):
        assert main(words) == 2
    line = closing_line(capsys)
    assert re.match(rf"error: saved/{model}-[\w-]+{name} cannot be written \(File too large\): free some space", line)
    assert "checkpoint_dir" in line
    assert [path.name for path in (here / "saved").iterdir()] == ["artifacts.jsonl"]
    assert main(words) == 0
    (undisturbed,) = run([model], "cycle", config_dict=given | dict([w[2:].split("=") for w in more]))
    assert read_results(here / "mine.json")[0].losses == undisturbed.losses


def test_full_disk_late_in_training_costs_no_epoch(stock, here, capsys, at_epoch):
    words = command(stock, "--model=GRU4Rec", "--table=mine")
    at_epoch(2, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard)))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with full_disk(hard):
        assert main(words) == 2
    assert "cannot be written" in closing_line(capsys)
    assert list((here / "saved").glob(".*")) == []
    trained = []
    at_epoch(1, lambda: trained.append(1))
    assert main(words) == 0
    assert trained == []
    assert len(read_results(here / "mine.json")[0].losses["loss"]) == 4


@pytest.mark.slow
def test_full_disk_leaves_tables_and_reports_as_they_were(stock, here, capsys):
    words = command(stock, "--model=Pop", "--seeds=2", "--table=mine")
    reported = ["--table=mine.json", "--output=report"]
    assert main(words) == 0
    assert report.main(reported) == 0
    before = files_below(here)
    with full_disk(100):
        assert main(words) == 2
        assert "mine.json cannot be written (File too large): free some space, or give" in closing_line(capsys)
        assert report.main(reported) == 2
        assert "cannot be written (File too large): free some space, or give another folder" in closing_line(capsys)
    with full_disk(len(before[here / "mine.json"]) + 1000):
        assert main(words) == 2  # the figure alone
    assert "mine.png cannot be written" in closing_line(capsys)
    assert {path: before[path] for path in before} == files_below(here)
    assert main(words) == 0


def test_a_log_that_cannot_be_written_ends_the_run(stock, here, capsys):
    with full_disk(2000):  # of the manifest there is less
        assert main(command(stock, "--model=Pop")) == 2
    line = closing_line(capsys)
    assert re.match(r"error: log/Pop/\S+\.log cannot be written \(File too large\): free some space", line)


@pytest.mark.parametrize("setting", ["feature_cache", "checkpoint_dir"])
def test_a_folder_that_cannot_be_made_is_one_line(given, here, capsys, setting):
    """A file lies there: root, who runs the tests maybe, may write in whatever folder."""
    (here / "taken").write_text("mine")
    assert main(command(given | {setting: "taken/below"}, "--model=LLMInterest")) == 2
    line = closing_line(capsys)
    assert line.startswith("error: taken/below")
    assert "move the file or folder that has its name or its folder's" in line
    assert main(command(given | {setting: "taken"}, "--model=LLMInterest")) == 2
    assert closing_line(capsys).startswith("error: taken")
    assert (here / "taken").read_text() == "mine"


def test_what_is_raised_first_is_raised(here):
    """torch calls a full disk, or an interrupt, in mid-writing an error of its own."""

    def write(file):
        class Broken:
            def write(self, data):
                raise KeyboardInterrupt

        torch.save({"a": torch.zeros(100_000)}, Broken())

    (here / "a").write_text("before")
    with pytest.raises(KeyboardInterrupt):
        write_atomically(here / "a", write)
    with full_disk(1000), pytest.raises(StorageError, match="a cannot be written"):
        write_atomically(here / "a", lambda file: torch.save({"a": torch.zeros(100_000)}, file))
    assert {path.name: path.read_text() for path in here.iterdir()} == {"a": "before"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mine.json", "row.json"])
def test_damage_of_a_table_or_of_trials_is_one_line_or_harmless(stock, here, capsys, name):
    words = command(stock | {"epochs": 1}, "--model=GRU4Rec")
    (here / "small.hyper").write_text("learning_rate choice [0.01]\n")
    jobs = {
        "mine.json": lambda: report.main(["--table=mine.json", "--output=report"]),
        "row.json": lambda: tune([*words, "--space=small.hyper", "--trials=1", "--output=row.yaml"]),
    }
    assert main([*words, "--table=mine"]) == 0
    assert jobs["row.json"]() == 0
    whole, chance = (here / name).read_bytes(), random.Random(0)
    damaged = [whole[: len(whole) * part // 4] for part in range(4)]
    damaged += [b"[" * 100_000, b"[5]", b"{}", b'{"trials": [5], "shared": {}}', b'{"trials": [], "shared": 5}']
    capsys.readouterr()
    for data in damaged:
        (here / name).write_bytes(data)
        assert jobs[name]() == 2, data
        err = capsys.readouterr().err.strip()
        assert err.startswith("error: ")
        assert err.count("\n") == 0
    reading = {"mine.json": read_results, "row.json": lambda path: TrialLog(path, {})}[name]
    for _ in range(300):
        place = chance.randrange(len(whole))
        (here / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :])
        with suppress(LLMInterestError):
            reading(here / name)


@pytest.mark.slow
def test_a_flipped_bit_of_a_checkpoint_is_refused(stock, here):
    (trained,) = run(["GRU4Rec"], "cycle", config_dict=stock)
    path, chance = Path(trained.checkpoint), random.Random(0)
    whole = path.read_bytes()
    expected = re.sub("0x[0-9a-f]+", "", repr(load_checkpoint(path)))
    refused = 0
    for _ in range(200):
        place = chance.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :])
        try:
            found = repr(load_checkpoint(path))
        except CheckpointError:
            refused += 1
        else:
            assert re.sub("0x[0-9a-f]+", "", found) == expected  # padding
    assert refused > 100


# --- two at once


def test_a_table_a_run_and_a_search_are_one_process_at_a_time(stock, here, capsys, at_epoch):
    words = command(stock, "--model=GRU4Rec")
    with try_lock(here / "mine.json"):
        assert main([*words, "--table=mine"]) == 2
    assert closing_line(capsys) == (
        "error: mine.json is in use by another run: wait until that run ends, or give another --table"
    )
    at_epoch(2, lambda: signal.raise_signal(signal.SIGINT))
    assert main(words) == 130
    (state,) = (here / "saved").glob("*.resume.safetensors")
    before = files_below(here / "saved")
    with try_lock(state):
        assert main([*words, f"--resume={state}"]) == 2
        assert f"{state.name} is in use by another run: wait until that run ends" in closing_line(capsys)
        assert before.items() <= files_below(here / "saved").items()
    assert main([*words, f"--resume={state}"]) == 0
    (here / "small.hyper").write_text("learning_rate choice [0.01,0.02]\n")
    with try_lock(here / "row.yaml"):
        assert tune([*words, "--space=small.hyper", "--output=row.yaml"]) == 2
    assert "row.yaml is in use by another run" in closing_line(capsys)
    assert list(here.rglob(".*")) == []


def test_runs_of_the_same_second_have_checkpoints_of_their_own(here):
    with reserve_checkpoint_path("saved/a.pth") as first, reserve_checkpoint_path("saved/a.pth") as second:
        assert (first, second) == ("saved/a.pth", "saved/a-2.pth")
    with reserve_checkpoint_path("saved/a.pth") as again:
        assert again == "saved/a.pth"


@pytest.mark.slow
def test_a_name_is_free_again_when_its_process_was_killed(here):
    program = (
        "import sys, time; from pathlib import Path; from recbole_llm_interest.io.files import try_lock\n"
        "with try_lock(Path('mine')) as is_ours: print(is_ours, flush=True); time.sleep(60)"
    )
    job = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    assert job.stdout.readline() == b"True\n"
    with try_lock(here / "mine") as is_ours:
        assert not is_ours
    job.kill()
    job.communicate()
    with try_lock(here / "mine") as is_ours:
        assert is_ours
    assert list(here.iterdir()) == []


# --- training that cannot go on


@pytest.fixture
def spoilt_from(monkeypatch, at_epoch):
    """Changes the parts of the model's loss from an epoch on, counted from 0."""

    def arrange(number, change):
        loss, begun = LLMInterest.calculate_loss, []

        def changed(self, batch):
            parts = dict(zip(self.loss_names, loss(self, batch), strict=True))
            return tuple((change(parts) if begun else parts).values())

        monkeypatch.setattr(LLMInterest, "calculate_loss", changed)
        at_epoch(number, lambda: begun.append(number))

    return arrange


def kept_in(line):
    """The checkpoint and the state that a closing line names, which have to be whole."""
    found = re.search(r"the best checkpoint so far is (\S+) and (\S+) holds the epochs before$", line)
    checkpoint, state = map(Path, found.groups())
    assert load_checkpoint(checkpoint)["epoch"] < 2
    assert load_resume_state(state)["epoch"] == 1
    return checkpoint, state


@pytest.mark.slow
def test_a_loss_of_nan_says_where_and_leaves_what_was_there(given, here, capsys, spoilt_from, monkeypatch):
    words = command(given, "--model=LLMInterest", "--ssl_views_weight=0.1")
    with monkeypatch.context():
        spoilt_from(2, lambda parts: parts | {"views": parts["views"] * torch.nan})
        assert main(words) == 2
    line = closing_line(capsys)
    assert line.startswith(
        "error: LLMInterest: the training loss became NaN in epoch 3 (views): lower learning_rate (0.003), set "
        "clip_grad_norm={'max_norm': 1.0}, or compute in float32 (enable_amp, loss_precision); "
    )
    checkpoint, state = kept_in(line)
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert main([*words, f"--checkpoint={checkpoint}"]) == 0
    assert main([*words, f"--resume={state}"]) == 0


def test_a_stock_model_that_diverges_says_so_too(stock, capsys):
    assert main(command(stock | {"learning_rate": 1e30, "epochs": 50}, "--model=GRU4Rec")) == 2
    assert re.match(r"error: GRU4Rec: the training loss became NaN in epoch \d+: lower lear", closing_line(capsys))


@pytest.mark.parametrize("error", [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory: you tried to allocate"),
])  # fmt: skip
def test_memory_that_runs_out_names_the_settings_that_help(stock, here, capsys, at_epoch, error):
    """Raised where a step would ask for memory; below, it really runs out."""

    def run_out():
        raise error

    words = command(stock, "--model=GRU4Rec")
    at_epoch(2, run_out)
    assert main(words) == 2
    line = closing_line(capsys)
    assert line.startswith(
        "error: GRU4Rec: memory ran out in epoch 3: lower one of train_batch_size (64), eval_batch_size (4096), "
        "eval_scores_mb, MAX_ITEM_LIST_LENGTH (6); the best checkpoint so far is "
    )
    _, state = kept_in(line)
    assert main([*words, f"--resume={state}"]) == 0


@pytest.mark.slow
def test_memory_that_really_runs_out_is_one_line(given, here):
    """The process may have no more than it holds as the third epoch begins."""
    program = f"""
        import resource, sys
        sys.path[:0] = {[str(REPOSITORY)]!r}
        from recbole_llm_interest.training.monitor import TrainingMonitor
        from recbole_llm_interest.cli.compare import main
        timed = TrainingMonitor._timed
        def bounded(self, original):
            def train(data, epoch, *args, **kwargs):
                if epoch == 2:
                    pages = int(open("/proc/self/statm").read().split()[0])
                    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**20,) * 2)
                return original(data, epoch, *args, **kwargs)
            return timed(self, train)
        TrainingMonitor._timed = bounded
        sys.exit(main(sys.argv[1:]))
    """
    words = command(given | {"hidden_size": 1024}, "--model=LLMInterest")
    # so that what is given back is given back to the system, and not kept for the next request
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *words], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: LLMInterest: memory ran out in epoch 3: lower one of train_batch_size (64), ")
    assert ", or set loss_candidates; " in line
    assert "Traceback" not in done.stderr
    _, state = kept_in(line)
    assert main([*words, f"--resume={state}"]) == 0


# --- signals

SIGNALS = pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)


@SIGNALS
def test_a_signal_ends_training_with_where_it_was(stock, here, capsys, at_epoch, number, code, word):
    words = command(stock, "--model=GRU4Rec")
    before = signal.getsignal(number)
    at_epoch(0, lambda: signal.raise_signal(number))
    assert main(words) == code
    assert closing_line(capsys) == (
        f"{word}: GRU4Rec in epoch 1: the same command starts anew; encoded features and finished runs are kept"
    )
    at_epoch(2, lambda: signal.raise_signal(number))
    assert main(words) == code
    line = closing_line(capsys)
    (state,) = Path("saved").glob("*.resume.safetensors")
    assert line == (
        f"{word}: GRU4Rec in epoch 3: the same command with --resume={state} goes on from {state}; "
        "encoded features and finished runs are kept"
    )
    assert main([*words, f"--resume={state}"]) == 0
    assert signal.getsignal(number) == before


@SIGNALS
def test_a_signal_ends_encoding_with_one_line(given, here, capsys, monkeypatch, number, code, word):
    words = command(given | {"feature_cache": str(here / "features")})
    write = FeatureStore.write

    def interrupted(self, *args):
        write(self, *args)
        signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "write", interrupted)
        assert encode.main(words) == code
    assert closing_line(capsys) == f"{word}: encoded features are kept; run the same command to continue"
    assert encode.main([*words, "--json"]) == 0
    item, _ = json.loads(capsys.readouterr().out.splitlines()[-1])["summaries"]
    assert (item["encoded"], item["cached"]) == (0, 8)


@pytest.mark.slow
@SIGNALS
def test_a_signal_ends_a_search_with_one_line(stock, here, capsys, at_epoch, number, code, word):
    (here / "small.hyper").write_text("learning_rate choice [0.01,0.02]\n")
    words = command(stock, "--model=GRU4Rec", "--space=small.hyper", "--algorithm=exhaustive", "--output=row.yaml")
    trials = []
    at_epoch(3, lambda: at_epoch(1, lambda: signal.raise_signal(number)))
    assert tune(words) == code
    assert closing_line(capsys) == f"{word}: finished trials are kept: the same command goes on with the others"
    trials = json.loads((here / "row.json").read_text())["trials"]
    assert len(trials) == 1
    assert tune(words) == 0
    assert json.loads((here / "row.json").read_text())["trials"][0] == trials[0]


@pytest.mark.slow
@SIGNALS
def test_a_signal_ends_a_report_with_one_line(stock, here, capsys, monkeypatch, number, code, word):
    words = ["--table=mine.json", "--output=report"]
    assert main(command(stock, "--model=Pop", "--table=mine")) == 0
    assert report.main(words) == 0
    before = files_below(here / "report")
    monkeypatch.setattr(page, "write_atomically", lambda *_: signal.raise_signal(number))
    assert report.main(words) == code
    assert closing_line(capsys) == f"{word}: no report was written, or the previous one is unchanged"
    assert files_below(here / "report") == before


@pytest.mark.slow
def test_a_process_that_is_told_to_end_and_a_second_one_meanwhile(stock, here, capsys):
    words = command(stock | {"epochs": 5000, "stopping_step": 5000}, "--model=GRU4Rec", "--table=mine")
    job = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "run_recbole.py"), *words], stderr=subprocess.PIPE, text=True
    )
    while not list((here / "saved").glob("*.resume.safetensors")) and job.poll() is None:
        time.sleep(0.1)
    assert main(words) == 2
    assert "mine.json is in use by another run" in closing_line(capsys)
    job.terminate()
    _, err = job.communicate()
    assert job.returncode == 143
    assert re.match(r"terminated: GRU4Rec in epoch \d+: the same command goes on from saved/", err.splitlines()[-1])
    assert "Traceback" not in err
    (state,) = (here / "saved").glob("*.resume.safetensors")
    assert load_resume_state(state)["epoch"] >= 0
    assert list(here.rglob(".*")) == []
