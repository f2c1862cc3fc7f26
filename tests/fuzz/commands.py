"""Hostile command lines, determined by a seed and a number, and the sandbox folder that they run in."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from conftest import QUICK, write_dataset
from mutations import WORDS

from recbole_llm_interest.cli import convert, join
from recbole_llm_interest.cli.parsers import PARSERS
from recbole_llm_interest.settings import settings_keys

EXIT_CODES = {0, 2, 3, 130}
#: CPU seconds after which a command that trains is interrupted, as by Ctrl-C; most end in an error at once
INTERRUPT_SECONDS = 4.0
#: CPU seconds after which a command is a finding
SECONDS = 12.0
LIMITS = {"seconds": SECONDS, "memory": 2**31, "cases_per_process": 1, "forbidden": frozenset({"socket.connect"})}
#: functions that may run long and are interrupted; any other function that runs long is a finding
LONG_WORK = {"fit", "_train_epoch", "evaluate", "fit_transform", "run_checks", "write_programs", "calculate_loss"}
#: audit events that change files, with the positions of paths in their arguments
CHANGES = {
    **dict.fromkeys(("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "shutil.rmtree"), (0,)),
    **dict.fromkeys(("os.rename", "os.link"), (0, 1)),
    "os.symlink": (1,),
}

VALUES = [
    *WORDS,
    *("-1", "0", "1", "2", "1e400", "-0", "1" * 400, "0x10", "1_000", "٣", "inf", "-inf", "NaN", "1.5", "True", "no"),
    *("[]", "{}", "[1,2", "[[[[[]]]]]", "[" * 3000, "{'a': 1}", "[a, b]", "!!python/object:os.system x", "&a [*a]"),
    *("~",),
    *("a=b", "--", "-", "=", ",", ",,,", " ", "\t", "a\tb", "a\r\nb", "\ud800", "\udcff\udcfe", "é", "e\u0301"),
    *("\u202e",),
    *("x/" * 2000, "n" * 256, "pipe", "link", "loop", "zero", "folder", "folder/", "../outside", "../outside/canary"),
    *("rot13", "utf-7", "idna", "hex", "ascii", "__import__('os').mkdir('executed')", "{{7*7}}", "$x_$", "|", "`id`"),
    *("data", "data/cycle", "saved", "holes", "bytes", "deep.yaml", "twice.yaml", "tag.yaml", "model.yaml"),
    *("rows.yaml",),
    *("table.json", "checkpoint", "state", "exported", "i1", "u1", "i1,i2", "BPR", "GRU4Rec", "LLMInterest,Pop"),
    *("KGAT",),
]
#: options of each subcommand, by the parsers that read them
OPTIONS = {
    name: [option.removeprefix("--") for option in make()._option_string_actions if option.startswith("--")]
    for name, make in {**PARSERS, "convert": convert._parser, "join": join._parser}.items()
}
#: options and settings that name output paths, where a command may write
OUTPUTS = {"table", "output", "store", "save_state", "checkpoint_dir", "feature_cache"}
#: relative frequency of subcommands; 2 for others
WEIGHTS = {
    "compare": 6,
    "recommend": 4,
    "doctor": 0.1,
    "settings": 0.3,
    "encode": 3,
    "export": 1,
    "embed": 1,
    "follow": 1,
    "adapt": 0.5,
}
#: RecBole's settings that a command line may have, beside those of the package
SETTINGS = [
    *("field_separator", "seq_separator", "encoding", "USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "load_col"),
    *("unload_col", "val_interval", "user_inter_num_interval", "rm_dup_inter", "eval_args", "metrics", "topk"),
    *("device",),
    *("valid_metric", "learner", "gpu_id", "use_gpu", "seed", "reproducibility", "state", "train_batch_size", "worker"),
    *("eval_batch_size", "MAX_ITEM_LIST_LENGTH", "learning_rate", "train_neg_sample_args", "loss_type", "save_dataset"),
    *("dataset_save_path", "benchmark_filename", "alias_of_item_id", "normalize_all", "transform", "weight_decay"),
    *("clip_grad_norm", "stopping_step", "checkpoint_dir", "data_path", "feature_cache", "repeatable"),
    *("numerical_features",),
]


@dataclass(frozen=True)
class Call:
    """A command line.

    Attributes:
        subcommand: its name.
        words: its arguments.
    """

    subcommand: str
    words: list[str]

    def __str__(self) -> str:
        return " ".join([self.subcommand, *map(ascii, self.words)])


def hostile_call(seed: int, case: int) -> Call:
    """Return the command line of a case: usually a valid one with some hostile values."""
    random = Random(f"commands {seed} {case}")
    available = [name for name in OPTIONS if _module(name)]
    (name,) = random.choices(available, [WEIGHTS.get(name, 2) for name in available])
    words = _valid_words(name, random)
    for _ in range(random.choice([1, 1, 2, 3])):
        words.insert(random.randrange(len(words) + 1), _hostile_word(name, random))
    if random.random() < 0.1 and words:
        del words[random.randrange(len(words))]
    return Call(name, words)


def _module(name: str) -> bool:
    from llm_interest import SUBCOMMANDS

    return name in SUBCOMMANDS


def _valid_words(name: str, random: Random) -> list[str]:
    """Return valid arguments of a command, each of which is sometimes omitted."""
    valid = {
        "compare": ["--dataset=cycle", "--model=Pop", "--epochs=1"],
        "tune": ["--dataset=cycle", "--model=Pop", "--trials=1", "--epochs=1"],
        "encode": ["--dataset=cycle"],
        "adapt": ["--dataset=cycle"],
        "recommend": ["--checkpoint=checkpoint", "--user=u1"],
        "report": ["--checkpoint=checkpoint", "--table=table.json", "--output=report"],
        "export": ["--checkpoint=checkpoint", "--output=exported-again"],
        "embed": ["--checkpoint=checkpoint", "--output=embedded", "--history=training"],
        "follow": ["--checkpoint=checkpoint", "--events=events.jsonl", "--output=stream", "--until_end"],
        "serve": ["--checkpoint=none.safetensors", "--store=served", "--workers=1", "--quiet"],  # it would not end
        "mcp": ["--url=none"],  # it would wait for a client
        "forget": ["--dataset=cycle", "--user=u1"],
        "migrate": ["checkpoint"],
        "convert": ["events.csv", "--items=items.csv", "--output=converted"],
        "join": ["cycle", "cycle", "--name=both", "--data_path=data", "--output=joined"],
    }.get(name, [])
    if name in ("compare", "tune", "encode", "adapt", "forget"):
        valid += [f"--{key}={value}" for key, value in QUICK.items() if key != "epochs"]
        valid += ["--data_path=data", "--feature_cache=features", "--text_encoder=hashing"]
    elif name not in ("migrate", "convert", "join") and valid:
        valid += ["--data_path=data", "--feature_cache=features"]
    return [word for word in valid if random.random() > 0.02]


def _hostile_word(name: str, random: Random) -> str:
    key = random.choice(OPTIONS[name])
    if name not in ("doctor", "settings", "convert", "join") and random.random() < 0.4:
        key = random.choice([*SETTINGS, *sorted(settings_keys())])
    value = random.choice(VALUES)
    if key in ("epochs", "trials", "seeds", "nproc", "worker") and value[:1].isdigit():
        value = random.choice(["0", "1", "-1", "1e400", "1.5", "9" * 400])  # large numbers are valid, but take long
    kind = random.random()
    if kind < 0.85:
        return f"--{key}={value}"
    return random.choice(
        [f"--{key}", f"-{key}={value}", f"{key}={value}", f"--{key}=={value}", value, f"--{value}={value}"]
    )


# --- the sandbox


def make_sandbox(folder: Path, files: dict[str, Path]) -> Path:
    """Create a folder with a data set and hostile files that ``VALUES`` name, beside folders that must not change.

    Args:
        folder: an empty folder.
        files: to be copied into it, by name.

    Returns:
        The folder that commands run in. Files outside it must not change.
    """
    inside = folder / "inside"
    titles = {f"i{n}": f"A film about {word}" for n, word in enumerate(["whales", "bread", "chess", "tango", "space"])}
    events = [(f"u{u}", f"i{(u + step) % 5}", float(100 * u + step)) for u in range(8) for step in range(6)]
    write_dataset(inside / "data", "cycle", events, titles, {f"u{n}": "farmer" for n in range(8)})
    for name in ("outside", "home", "tmp"):
        (folder / name).mkdir()
        (folder / name / "canary").write_text("canary\n")
    (inside / "folder").mkdir()
    os.mkfifo(inside / "pipe")
    for name, target in {"zero": "/dev/zero", "loop": "loop", "link": "../outside/canary"}.items():
        (inside / name).symlink_to(target)
    with (inside / "holes").open("wb") as file:
        file.truncate(6 * 2**30)
    (inside / "bytes").write_bytes(bytes(range(256)) * 8)
    texts = {
        "deep.yaml": "a: " + "[" * 3000, "twice.yaml": "seed: 1\nseed: 2\n", "tag.yaml": "a: !!python/name:os.system\n",
        "model.yaml": "model: Pop\ndataset: cycle\n", "rows.yaml": "a\nb: {}\n", "table.json": "[]",
        "items.csv": "item,title\n" + "".join(f"{item},{title}\n" for item, title in titles.items()),
        "events.csv": "user,item,time\n" + "".join(f"{user},{item},{time}\n" for user, item, time in events),
        "events.jsonl": "".join(
            f'{{"user_id": "{user}", "item_id": "{item}", "timestamp": {time + 1000}}}\n' for user, item, time in events
        ),
    }  # fmt: skip
    for name, text in texts.items():
        (inside / name).write_text(text)
    for name, path in files.items():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, inside / name)
    return inside


def snapshot(folder: Path, without: Path) -> dict[str, str]:
    """Return hashes of all files in a folder, except below ``without``."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_relative_to(without) or path.is_dir():
            continue
        found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "other"
    return found


def run_call(call: Call, inside: Path, changed: list[str]) -> str:
    """Run a command line in this process, whose state it may corrupt, and check its effects.

    Args:
        call: the command line.
        inside: the folder to run it in, which stays the working directory.
        changed: files outside the folder that audit events of this process changed.

    Raises:
        AssertionError: it changed a file outside the folder, returned an unknown exit code, or printed a traceback.
    """
    os.chdir(inside)
    before = snapshot(inside.parent, inside)
    errors, output = io.StringIO(), io.StringIO()
    sys.argv = [f"llm-interest {call.subcommand}", *call.words]
    logging.lastResort = logging.StreamHandler(errors)
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
        from llm_interest import SUBCOMMANDS

        try:
            code = importlib.import_module(SUBCOMMANDS[call.subcommand].module).main(call.words)
        except SystemExit as end:  # --help
            code = end.code
    text = errors.getvalue()
    assert code in EXIT_CODES or (call.subcommand == "doctor" and code == 1), f"exit code {code}\n{text[-2000:]}"
    assert "Traceback" not in text, text[-2000:]
    assert code != 2 or text.rstrip("\n").splitlines()[-1].startswith("error: "), text[-2000:]
    assert not (inside / "executed").exists(), "code was run"
    named = named_folders(call, inside)
    difference = before.items() ^ snapshot(inside.parent, inside).items()
    difference = {change for change in difference if not any(Path(change[0]).is_relative_to(it) for it in named)}
    assert not difference, f"files outside of the folder have changed: {difference}"
    assert not changed, f"outside of the folder: {changed}"
    return "loaded" if code == 0 else "refused"


def named_folders(call: Call, inside: Path) -> list[Path]:
    """Return folders outside the sandbox that a command line names as output."""
    words = [word.removeprefix("--").partition("=") for word in call.words]
    paths = [Path(os.path.normpath(inside / value)) for key, _, value in words if key in OUTPUTS and value]
    return [path.parent for path in paths if not inside.is_relative_to(path.parent)]


def watch_changes(inside: Path, named: list[Path]) -> list[str]:
    """Record from now on every change of a file outside ``inside`` and ``named``.

    Temporary files may be written; ``snapshot`` finds those that remain.
    """
    changed: list[str] = []
    allowed = (inside, inside.parent / "tmp", Path("/dev/null"), Path("/proc"), *named)

    def hook(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            paths = [arguments[0]]
        else:
            paths = [arguments[place] for place in CHANGES.get(event, ())]
        for path in paths:
            if isinstance(path, str | bytes | os.PathLike):
                absolute = Path(os.path.abspath(os.fsdecode(path)))
                if not any(absolute.is_relative_to(folder) for folder in allowed):
                    changed.append(f"{event} {absolute}"[:300])

    sys.addaudithook(hook)
    return changed


@contextlib.contextmanager
def interrupt_long_work(limit: float = INTERRUPT_SECONDS) -> Iterator[None]:
    """Interrupt a command as by Ctrl-C if it still trains or computes after ``limit`` CPU seconds."""

    def interrupt(_: int, frame: object) -> None:
        while frame is not None:
            if frame.f_code.co_name in LONG_WORK:  # type: ignore[attr-defined]
                raise KeyboardInterrupt
            frame = frame.f_back  # type: ignore[attr-defined]

    signal.signal(signal.SIGVTALRM, interrupt)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit, 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def modules_of_commands(folder: Path, files: dict[str, Path]) -> list[str]:
    """Return the modules that valid command lines import, determined in another process."""
    reader, writer = os.pipe()
    if (process := os.fork()) == 0:
        inside = make_sandbox(folder, files)
        for name in ("compare", "recommend", "report", "encode", "forget", "tune", "convert"):
            with contextlib.suppress(BaseException):
                run_call(Call(name, _valid_words(name, Random(1))), inside, [])
        os.write(writer, "\n".join(list(sys.modules)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as lines:
        names = lines.read().splitlines()
    os.waitpid(process, 0)
    return [name for name in names if name not in sys.modules and not name.startswith("_")]


def attempt_call(seed: int, case: int, folder: Path, files: dict[str, Path]) -> str:
    """Run the command line of a case in a new sandbox. It changes this process: run each in a process of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    inside = make_sandbox(folder, files)
    os.environ.update(HOME=str(folder / "home"), TMPDIR=str(folder / "tmp"), XDG_STATE_HOME=str(inside / "index"))
    tempfile.tempdir = None
    torch.set_num_threads(1)
    call = hostile_call(seed, case)
    changed = watch_changes(inside, named_folders(call, inside))
    with interrupt_long_work():
        return run_call(call, inside, changed)
