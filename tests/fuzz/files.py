"""The kinds of files that are mutated: how to create valid files, mutate them and read them."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from conftest import QUICK, SUBJECTS, cycle_events, write_dataset
from mutations import (
    Container,
    dump_json,
    mutate_archive,
    mutate_bytes,
    mutate_container,
    mutate_header_bytes,
    mutate_pickled,
    mutate_value,
    replace_file,
)

from recbole_llm_interest.cli.migrate import migrated
from recbole_llm_interest.errors import CheckpointError, LLMInterestError
from recbole_llm_interest.io.checkpoints import pickles
from recbole_llm_interest.io.checkpoints.layout import HEADER_START, LENGTH_BYTES, checksum_of, write_file
from recbole_llm_interest.io.checkpoints.reading import load_checkpoint
from recbole_llm_interest.recommender import Recommender, loading
from recbole_llm_interest.training.comparison import run
from recbole_llm_interest.training.resume import ResumableTraining, load_resume_state

#: kinds of files; each is a method of ``ValidFiles``
KINDS = ["checkpoint", "resume_state", "former_checkpoint", "state", "hub_folder"]
FORMER = Path(__file__).parent.parent / "fixtures" / "former_version"


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        seeds: valid files, or folders.
        mutate: mutates a copy of a seed in place, by random numbers.
        read: reads the file and uses the result.
    """

    seeds: list[Path]
    mutate: Callable[[Random, Path], None]
    read: Callable[[Path], None]


def attempt(kind: Kind, name: str, seed: int, case: int, work: Path) -> str:
    """Write the file of a case and read it.

    Raises:
        AssertionError: the error is not one line of less than 2,000 characters.
    """
    random = Random(f"{name} {seed} {case}")
    path = write_case(kind, random, work)
    try:
        kind.read(path)
    except LLMInterestError as error:
        message = str(error)
        assert "\n" not in message, message
        assert len(message) < 2000, message
        return "refused"
    return "loaded"


def write_case(kind: Kind, random: Random, work: Path) -> Path:
    """Empty the folder ``work``, copy a seed into it, and mutate the copy."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    seed = random.choice(kind.seeds)
    path = work / seed.name
    (shutil.copytree if seed.is_dir() else shutil.copy)(seed, path)
    kind.mutate(random, path)
    return path


# --- the kinds


class ValidFiles:
    """Creates valid files of each kind in a folder, and loads the model that they belong to.

    Args:
        folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        titles = {f"i{n}": f"A film about {subject}" for n, subject in enumerate(SUBJECTS)}
        users = {f"u{n}": "librarian" if n % 2 else "farmer" for n in range(24)}
        write_dataset(folder / "data", "cycle", cycle_events(), titles, users)
        self.folder = folder
        self.settings = {"data_path": str(folder / "data"), "feature_cache": str(folder / "features"), "use_gpu": False}
        shutil.copy(FORMER / "checkpoint.pth", folder)  # files made from a checkpoint are recorded beside it
        self.recommender = Recommender.load(folder / "checkpoint.pth", **self.settings)

    def files_by_name(self) -> dict[str, Path]:
        """Return the valid files that command lines use, by name."""
        self.recommender.save_pretrained(self.folder / "exported")
        paths = [self.folder / "checkpoint.pth", FORMER / "state.safetensors", self.folder / "exported"]
        return {path.stem: path for path in paths}

    def checkpoint(self) -> Kind:
        seed = migrated(shutil.copy(self.folder / "checkpoint.pth", self.folder / "migrated.pth"))
        loading.create_dataset = _cached(loading.create_dataset)
        loading.data_preparation = _cached(loading.data_preparation)

        def read(path: Path) -> None:
            recommender = Recommender.load(path, **self.settings)
            recommender.recommend(recommender.start("u1", history=["i4", "i5"]), 3)

        read(seed)
        return Kind([seed], lambda random, path: mutate_tensor_file(random, path, _update_checkpoint_checksum), read)

    def resume_state(self) -> Kind:
        seed = self.folder / "run.resume.safetensors"
        write = ResumableTraining._write_state

        def write_and_keep(training: ResumableTraining, *arguments: Any) -> None:
            write(training, *arguments)
            shutil.copy(training.path, seed)

        settings = {**QUICK, **self.settings, "text_encoder": "hashing", "checkpoint_dir": str(self.folder / "saved")}
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setattr(ResumableTraining, "_write_state", write_and_keep)
            run(["LLMInterest"], "cycle", config_dict=settings)
        return Kind(
            [seed],
            lambda random, path: mutate_tensor_file(random, path, _update_checkpoint_checksum),
            load_resume_state,
        )

    def former_checkpoint(self) -> Kind:
        seed = self.folder / "checkpoint.pth"
        content = torch.load(seed, weights_only=False)  # a fixture of this repository

        def mutate(random: Random, path: Path) -> None:
            if random.random() < 0.1:
                path.write_bytes(mutate_bytes(random, path.read_bytes()))
            elif random.random() < 0.5:
                path.write_bytes(mutate_archive(random, path.read_bytes()))
            else:
                path.write_bytes(mutate_pickled(random, content))

        return Kind([seed], mutate, _convert)

    def state(self) -> Kind:
        recommender = self.recommender
        single = recommender.start("u1", history=["i0", "i1", "i2"], at=[1.0, 2.0, 3.5])
        batch = recommender.start(history=[["i4", "i5"], ["i3"]])
        for state, name in ((single, "single"), (batch, "batch")):
            recommender.save(state, self.folder / f"{name}.safetensors")
        seeds = [FORMER / "state.safetensors", *(self.folder / f"{name}.safetensors" for name in ("single", "batch"))]

        def read(path: Path) -> None:
            state = recommender.restore(path)
            recommender.recommend(state, 3)
            if state.is_single:
                recommender.recommend(recommender.update(state, "i3"), 3)

        return Kind(seeds, lambda random, path: mutate_tensor_file(random, path, _update_state_checksum), read)

    def hub_folder(self) -> Kind:
        self.recommender.save_pretrained(self.folder / "exported")

        def read(path: Path) -> None:
            recommender = Recommender.from_pretrained(path, device="cpu")
            recommender.recommend(recommender.start(history=["i4", "i5"]), 3)

        return Kind([self.folder / "exported", FORMER / "folder"], _mutate_folder, read)


def _cached(read: Callable[..., Any]) -> Callable[..., Any]:
    """Cache a function of a configuration by the text of its settings."""
    known: dict[str, Any] = {}

    def read_once(config: Any, *arguments: Any) -> Any:
        settings = repr(sorted(config.final_config_dict.items()))
        if settings not in known:
            known[settings] = read(config, *arguments)
            if not arguments:  # the data set, which is split after this
                known[settings] = copy.deepcopy(known[settings])
        return known[settings]

    return read_once


def _convert(path: Path) -> None:
    """Convert a former checkpoint in this process, as the conversion process does."""
    new = io.BytesIO()
    with path.open("rb") as file:
        try:
            archive = pickles._Archive(file)
            converter = pickles._Converter(archive)
            content = converter.convert(pickles._Unpickler(io.BytesIO(archive.read("data.pkl"))).load())
            write_file(new, content, converter.stored)
        except Exception as error:
            raise CheckpointError("its conversion ended in an error") from error
    path.write_bytes(new.getvalue())
    load_checkpoint(path)


def mutate_tensor_file(random: Random, path: Path, update_checksum: Callable[[Container], None]) -> None:
    """Mutate a safetensors file; its checksum stays valid in about half of the cases."""
    data, kind = path.read_bytes(), random.random()
    if kind < 0.03:
        replace_file(random, path)
    elif kind < 0.13:
        path.write_bytes(mutate_bytes(random, data))
    elif kind < 0.2:
        path.write_bytes(mutate_header_bytes(random, data))
    else:
        container = mutate_container(random, Container.parse(data))
        if random.random() < 0.6:
            update_checksum(container)
        path.write_bytes(container.dump())


def _update_state_checksum(container: Container) -> None:
    hashed = hashlib.sha256(str(container.metadata.get("state")).encode(errors="replace"))
    for _, part in sorted(container.parts.items()):
        hashed.update(part.data)
    container.metadata["sha256"] = hashed.hexdigest()


def _update_checkpoint_checksum(container: Container) -> None:
    container.metadata = {"checksum": "0" * 8, **container.metadata}  # the checksum must come first
    container.metadata["checksum"] = "0" * 8
    data = container.dump()
    if data[LENGTH_BYTES : LENGTH_BYTES + len(HEADER_START)] == HEADER_START:
        start = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little")
        container.metadata["checksum"] = checksum_of(data[:start], bytearray(data[start:])).decode()


def _mutate_folder(random: Random, path: Path) -> None:
    """Mutate one or two files of an exported folder; the hashes stay valid in about half of the cases."""
    files = [path / "config.json", *sorted(path.glob("[!c]*"))]
    for file in random.sample(files, random.choice([1, 1, 2])):
        kind = random.random()
        if kind < 0.03:
            replace_file(random, file)
        elif kind < 0.06:
            file.unlink()
        elif kind < 0.15:
            file.write_bytes(mutate_bytes(random, file.read_bytes()))
        elif file.suffix == ".json":
            file.write_text(dump_json(mutate_value(random, json.loads(file.read_bytes()))))
        elif file.suffix == ".safetensors":
            file.write_bytes(mutate_container(random, Container.parse(file.read_bytes())).dump())
    if random.random() < 0.7:
        _update_folder_hashes(path)


def _update_folder_hashes(path: Path) -> None:
    """Write the files' true hashes into ``config.json``, if that can still be parsed."""
    config = path / "config.json"
    try:
        described = json.loads(config.read_bytes()) if config.is_file() and config.stat().st_size < 10**8 else None
    except (ValueError, RecursionError):
        return
    if not isinstance(described, dict) or not isinstance(described.get("sha256"), dict):
        return
    for name in described["sha256"]:
        file = path / str(name)
        if "/" not in name and "\0" not in name and len(name) < 200 and file.is_file() and file.stat().st_size < 10**8:
            described["sha256"][name] = hashlib.sha256(file.read_bytes()).hexdigest()
    config.write_text(json.dumps(described))
