"""Small data sets with known answers, and a place of its own for what each test writes."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import recbole_llm_interest  # noqa: F401  (RecBole has to be patched before a test imports it)

if "PYTEST_XDIST_WORKER" in os.environ:  # more threads than cores only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
# a shell's background jobs ignore SIGINT, and so would the processes that tests start and interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parent.parent
SUBJECTS = ["space", "whales", "bread", "chess", "volcanoes", "tango", "vaccines", "castles"]

#: quick runs: one process, little output, a few epochs on a handful of events
QUICK: dict[str, Any] = {
    "show_progress": False,
    "epochs": 2,
    "train_batch_size": 64,
    "MAX_ITEM_LIST_LENGTH": 6,
    "embedding_size": 16,
    "hidden_size": 16,
    "topk": [3],
    "metrics": ["Recall", "NDCG"],
    "valid_metric": "NDCG@3",
}

#: fixtures that train a model, draw every figure, make the set ``daily`` or read hundreds of files
SLOW_FIXTURES = {"trained", "home", "full", "daily", "outcomes"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a slow fixture as slow."""
    for item in items:
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


def write_dataset(
    data_path: Path,
    name: str,
    events: Iterable[tuple[str, str, float]],
    items: Mapping[str, str] | None = None,
    users: Mapping[str, str] | None = None,
) -> None:
    """Write RecBole's atomic files: (user, item, time) events, a title per item, an occupation per user."""
    folder = data_path / name
    folder.mkdir(parents=True)
    lines = ["user_id:token\titem_id:token\ttimestamp:float", *(f"{u}\t{i}\t{t!r}" for u, i, t in events)]
    (folder / f"{name}.inter").write_text("\n".join(lines) + "\n")
    if items is not None:
        lines = ["item_id:token\ttitle:token_seq", *(f"{token}\t{title}" for token, title in items.items())]
        (folder / f"{name}.item").write_text("\n".join(lines) + "\n")
    if users is not None:
        lines = ["user_id:token\toccupation:token", *(f"{token}\t{text}" for token, text in users.items())]
        (folder / f"{name}.user").write_text("\n".join(lines) + "\n")


def cycle_events(users: int = 24, length: int = 9) -> list[tuple[str, str, float]]:
    """Every user walks the subjects round and round: the next item follows from the last one, always."""
    count = len(SUBJECTS)
    return [(f"u{u}", f"i{(u + step) % count}", float(1000 * u + step)) for u in range(users) for step in range(length)]


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file may grow past ``limit`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and a command line without pytest's words, which RecBole would read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["test"])
    return tmp_path


@pytest.fixture(scope="session")
def feature_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One feature cache for all tests: the sentence encoder reads each text of theirs once."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def settings(here: Path, feature_cache: Path) -> dict[str, Any]:
    """Settings of a quick run on the data set ``cycle``, which they come with."""
    titles = {f"i{n}": f"A film about {subject}" for n, subject in enumerate(SUBJECTS)}
    users = {f"u{n}": "librarian" if n % 2 else "farmer" for n in range(24)}
    write_dataset(here / "data", "cycle", cycle_events(), titles, users)
    return {**QUICK, "data_path": str(here / "data"), "feature_cache": str(feature_cache)}


@pytest.fixture
def built(settings: dict[str, Any]) -> Callable[..., Any]:
    """Builds (config, model, dataset, train, valid, test) for a model on ``cycle``, or another data set."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, init_seed

    def build(model: str = "LLMInterest", dataset: str = "cycle", **overrides: Any) -> Any:
        config = Config(model, dataset, config_dict={**settings, **overrides})
        init_seed(config["seed"], config["reproducibility"])
        data = create_dataset(config)
        train, valid, test = data_preparation(config, data)
        return config, get_model(model)(config, train._dataset), data, train, valid, test

    return build


@pytest.fixture(scope="session")
def docstring_globals(tmp_path_factory: pytest.TempPathFactory, feature_cache: Path) -> dict[str, Any]:
    """What examples in docstrings use without making it: a model on ``cycle``, its data, and a training batch."""
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, init_seed

    folder = tmp_path_factory.mktemp("docstrings")
    titles = {f"i{n}": f"A film about {subject}" for n, subject in enumerate(SUBJECTS)}
    write_dataset(folder / "data", "cycle", cycle_events(), titles, {"u0": "farmer", "u1": "librarian"})
    settings = {**QUICK, "text_encoder": "hashing", "dropout_prob": 0.0, "modality_dropout": 0.0, "use_gpu": False}
    places = {"data_path": str(folder / "data"), "feature_cache": str(feature_cache)}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["test"])
        config = Config("LLMInterest", "cycle", config_dict=settings | places)
        init_seed(config["seed"], config["reproducibility"])
        train, _, test = data_preparation(config, create_dataset(config))
        model = get_model("LLMInterest")(config, train._dataset)
    batches: list[Any] = []
    model.objectives["walks"].register_forward_pre_hook(lambda _, arguments: batches.append(arguments[0]))
    model.calculate_loss(next(iter(train)))
    return {
        "torch": torch,
        "config": config,
        "dataset": train._dataset,
        "interaction": next(iter(test))[0][:3],
        "batch": batches[0],
    }


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, feature_cache: Path) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """Gives a checkpoint that was trained on ``cycle``, and the settings of its places; once for equal settings.

    ``lines`` are those of another interaction file.
    """
    from recbole_llm_interest.training.comparison import compare

    made: dict[tuple[Any, ...], tuple[Path, dict[str, Any]]] = {}

    def train(**chosen: Any) -> tuple[Path, dict[str, Any]]:
        key, lines = tuple(sorted(chosen.items())), chosen.pop("lines", ())
        if key not in made:
            folder = tmp_path_factory.mktemp("shop")
            titles = {f"i{n}": f"A film about {subject}" for n, subject in enumerate(SUBJECTS)}
            write_dataset(folder / "data", "cycle", cycle_events(), titles)
            if lines:
                (folder / "data" / "cycle" / "cycle.inter").write_text("\n".join(lines) + "\n")
            places = {"data_path": str(folder / "data"), "feature_cache": str(feature_cache)}
            quick = {"text_encoder": "hashing", "time_split": [0.8, 0.9], "epochs": 6, "dropout_prob": 0.0}
            saved = {"checkpoint_dir": str(folder / "saved")}
            result = compare("cycle", "LLMInterest", **{**QUICK, **quick, **chosen, **places, **saved})
            made[key] = Path(result.checkpoint("LLMInterest")), places
        return made[key]

    return train


@pytest.fixture
def follow(shop, here) -> Callable[..., Any]:
    """Follows a file of events, or another source, to its end, and gives what ``use`` makes of the follower then."""

    from recbole_llm_interest.stream.follower import Follower, FollowOptions
    from recbole_llm_interest.stream.sources import GrowingFile

    def run(
        events: Any, use: Callable[[Any], Any] = lambda _: None, folder: str = "stream", **options: Any
    ) -> tuple[dict[str, Any], Any]:
        checkpoint, places = shop(**options.pop("shop", {}))
        settings = {**places, **options.pop("settings", {})}
        with Follower.opened(checkpoint, here / folder, FollowOptions(**options), settings) as follower:
            source = GrowingFile(events, ends=True) if isinstance(events, Path) else events
            return follower.run(source), use(follower)

    return run


@pytest.fixture
def network(monkeypatch):
    """What is asked for over the network, which gives nothing."""
    asked = []

    def refuse(*arguments, **_):
        asked.append(arguments)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return asked


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the package handles it."""


@contextmanager
def killed_while_replacing(moment: int) -> Iterator[list[Any]]:
    """Kill what the block does after so many steps of replacing a folder's files; yields the steps that it took."""
    from recbole_llm_interest.io import folders

    calls: list[Any] = []

    def die(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls.append(arguments)
            if len(calls) > moment:
                raise Killed
            return original(*arguments)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "sync_folder", die(folders.sync_folder))
        patch.setattr(os, "rename", die(os.rename))
        patch.setattr(os, "replace", die(os.replace))
        with pytest.raises(Killed):
            yield calls
