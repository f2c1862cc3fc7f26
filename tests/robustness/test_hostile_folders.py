"""Hostile exported folders: the hashes are valid, the content is not."""

from __future__ import annotations

import hashlib
import json
import random
import resource
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY
from safetensors.torch import load_file, save_file
from test_hostile_files import INVALID_NAMES, NOT_REGULAR

from recbole_llm_interest.errors import LLMInterestError
from recbole_llm_interest.recommender.pretrained import read_pretrained

WEIGHTS, FEATURES = "model.safetensors", "features.safetensors"
PARTS = ("config.json", WEIGHTS, FEATURES, "vocabulary.json", "texts.json")


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(shutil.copytree(REPOSITORY / "tests" / "fixtures" / "former_version" / "folder", tmp_path / "model"))


def refusal(folder: Path) -> str:
    start = time.process_time()
    with pytest.raises(LLMInterestError) as caught:
        read_pretrained(str(folder), device="cpu")
    assert time.process_time() - start < 2
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 800
    return str(caught.value)


def change(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in config["sha256"]}
    (folder / "config.json").write_text(json.dumps({**config, "sha256": hashes, **changes}))


def change_settings(folder: Path, **changes: Any) -> None:
    change(folder, settings={**json.loads((folder / "config.json").read_text())["settings"], **changes})


def change_tensors(folder: Path, name: str, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / name)
    edit(tensors)
    save_file({key: values.contiguous() for key, values in tensors.items()}, folder / name)
    change(folder)


def write_part(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    change(folder)


def test_folder_is_read_by_any_spelling_of_its_path(folder, monkeypatch):
    assert read_pretrained(str(folder), device="cpu").max_length == 6
    monkeypatch.chdir(folder.parent)
    for name in ("model", "./model/", "model/../model"):
        assert read_pretrained(name, device="cpu").max_length == 6
    monkeypatch.chdir(folder)
    assert read_pretrained(".", device="cpu").max_length == 6


@pytest.mark.parametrize("hostile", NOT_REGULAR)
@pytest.mark.parametrize("name", PARTS)
def test_part_that_is_not_a_regular_file_is_refused(folder, name, hostile):
    (folder / name).unlink()
    NOT_REGULAR[hostile](folder / name)
    if (hostile, name) == ("holes", "texts.json"):
        with (folder / name).open("r+b") as file:
            file.truncate(2**33)
    if hostile == "holes" and name in (WEIGHTS, FEATURES):
        with (folder / name).open("r+b") as file:
            file.truncate(2**42)  # weights may take as much as the memory
    assert "exported model" in refusal(folder)


@pytest.mark.parametrize("name", PARTS)
def test_links_out_of_the_folder_are_refused(folder, name, tmp_path):
    shutil.move(folder / name, tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    assert "leads out of the folder model" in refusal(folder)
    shutil.move(tmp_path / name, folder / f"other-{name}")
    (folder / name).unlink()
    (folder / name).symlink_to(f"other-{name}")
    assert read_pretrained(str(folder), device="cpu")


def test_links_of_the_hubs_cache_are_followed(folder, tmp_path):
    cache = tmp_path / "models--some--model"
    (cache / "blobs").mkdir(parents=True)
    (cache / "snapshots").mkdir()
    snapshot = Path(shutil.move(folder, cache / "snapshots" / "0123"))
    for name in PARTS:
        shutil.move(snapshot / name, cache / "blobs" / name)
        (snapshot / name).symlink_to(cache / "blobs" / name)
    assert read_pretrained(str(snapshot), device="cpu").max_length == 6


@pytest.mark.parametrize("name", INVALID_NAMES)
def test_invalid_names_are_refused(name):
    refusal(Path(INVALID_NAMES[name]))


CONFIGS: dict[str, dict[str, Any]] = {
    "integers of 400 digits": {"counts": {"users": 10**399}},
    "integers of 65 bits": {"max_length": 2**64},
    "a long format": {"format": 10**300},
    "format is true": {"format": True},
    "format is a fraction": {"format": 1.5},
    "counts below zero": {"counts": {"users": -1}},
    "counts are true": {"counts": {"users": True}},
    "no length": {"max_length": 0},
    "length is text": {"max_length": "6"},
    "hash is a number": {"sha256": {WEIGHTS: 5}},
    "hashes are a list": {"sha256": []},
    "fields are null": {"id_fields": None},
    "field is a number": {"id_fields": {"item": 1, "user": "u"}},
    "encoders are text": {"encoders": {"item": "x", "user": {}}},
    "fingerprint is a list": {"encoders": {"item": {"text": []}, "user": {}}},
    "unit of years": {"time_unit": "y"},
    "settings are a list": {"settings": []},
    "no data set": {"dataset": None},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "heads of billions": {"tracker": "transformer", "num_heads": 10**12},
    "uneven heads": {"tracker": "hstu", "num_heads": 3},
    "size of 2**63 - 1": {"embedding_size": 2**63 - 1},
    "no size": {"hidden_size": 0},
    "size below zero": {"hidden_size": -5},
    "size is NaN": {"hidden_size": float("nan")},
    "endless temperature": {"temperature": float("nan")},
    "another tracker": {"tracker": "transformer"},
    "unknown tracker": {"tracker": "os.system"},
    "unknown fusion": {"fusion": "\x1b[31m"},
    "no modality": {"modalities": [[]]},
    "opens the network": {"download_weights": True},
    "allows pickles": {"allow_pickle": True},
    "another cache": {"feature_cache": "/"},
    "a device": {"encoder_device": "cuda:99"},
    "an address": {"ip": "10.0.0.1"},
    "a rank": {"local_rank": 0},
    "name of a setting": {"x" * 5000: 1},
    "name with a line feed": {"a\nb": 1},
    "encoder elsewhere": {"text_encoder": "/etc"},
    "encoder above": {"text_encoder": "../x"},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_invalid_configs_are_refused(folder, name):
    change(folder, **CONFIGS[name])
    refusal(folder)


@pytest.mark.parametrize("name", SETTINGS)
def test_invalid_settings_are_refused(folder, name):
    change_settings(folder, **SETTINGS[name])
    refusal(folder)


def _cast(kind: torch.dtype) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors.update({name: values.to(kind) for name, values in tensors.items()})


TENSORS: dict[str, tuple[str, Callable[[dict[str, torch.Tensor]], object], str]] = {
    "weights of 8 bits": (WEIGHTS, _cast(torch.float8_e4m3fn), "of type 'F8_E4M3'"),
    "features of 8 bits": (FEATURES, _cast(torch.float8_e5m2), "of type 'F8_E5M2'"),
    "complex weights": (WEIGHTS, _cast(torch.complex64), "of type 'C64'"),
    "weights of 16 bits": (WEIGHTS, _cast(torch.bfloat16), "torch.bfloat16"),
    "conditioning of 16 bits": (
        WEIGHTS, lambda t: t.update({name: v.bfloat16() for name, v in t.items() if ".features." in name}), "of text is"
    ),
    "weights of integers": (WEIGHTS, _cast(torch.int64), "torch.int64"),
    "features of 64 bits": (FEATURES, lambda t: t.update(item_text=t["item_text"].double()), "torch.float64"),
    "NaN in weights": (WEIGHTS, lambda t: t["tracker.output.bias"].fill_(torch.nan), "has NaN or Inf"),
    "Inf in features": (FEATURES, lambda t: t["item_text"].fill_(torch.inf), "has NaN or Inf"),
    "no weights": (WEIGHTS, lambda t: t.clear(), "do not fit"),
    "no features": (FEATURES, lambda t: t.clear(), "do not fit"),
    "a number": (WEIGHTS, lambda t: t.update({"tracker.output.weight": torch.tensor(1.0)}), "do not fit"),
    "turned": (WEIGHTS, lambda t: t.update({"tracker.output.bias": torch.zeros(1, 16)}), "do not fit"),
    "more weights": (WEIGHTS, lambda t: t.update({"more": torch.zeros(2)}), "do not fit"),
    "neighbours of 64 bits": (
        FEATURES, lambda t: t.update(item_neighbours=t["item_neighbours"].long()), "not of these items"
    ),
    "neighbours are flat": (FEATURES, lambda t: t.update(item_neighbours=t["item_neighbours"][:, 0]), "not of these"),
    "neighbours below": (FEATURES, lambda t: t["item_neighbours"].fill_(-1), "not of these items"),
    "fewer rows": (FEATURES, lambda t: t.update(item_text=t["item_text"][:4]), "item_text is torch.float32 [4, 1024]"),
    "more rows": (FEATURES, lambda t: t.update(item_text=t["item_text"].repeat(2, 1)), "is torch.float32 [18"),
    "flat features": (FEATURES, lambda t: t.update(item_text=torch.zeros(9)), "item_text is torch.float32 [9]"),
    "present in numbers": (FEATURES, lambda t: t.update(item_present=torch.zeros(9, 2)), "is torch.float32 [9, 2]"),
    "present of few": (FEATURES, lambda t: t.update(item_present=torch.ones(9, 0).bool()), "do not fit"),
    "another kind": (FEATURES, lambda t: t.update(thing_text=torch.zeros(9, 2)), "thing_text is no part"),
    "another modality": (FEATURES, lambda t: t.update({"item_../x": torch.zeros(9, 2)}), "item_../x is no part"),
}  # fmt: skip


@pytest.mark.parametrize("name", TENSORS)
def test_invalid_tensors_of_a_folder_are_refused(folder, name):
    part, edit, words = TENSORS[name]
    change_tensors(folder, part, edit)
    assert words in refusal(folder)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("vocabulary.json", "{}", "is not a list of items"),
        ("vocabulary.json", "[1" + "0" * 400 + "]", "an integer of 401 digits"),
        ("vocabulary.json", "[" * 10**5, "nested more than 64 times"),
        ("vocabulary.json", json.dumps(["[PAD]"] + ["i1"] * 8), "names an item twice"),
        ("vocabulary.json", "[]", "not of these items"),
        ("vocabulary.json", json.dumps(["[PAD]", "\ud800"]), "has half of a surrogate pair"),
        ("texts.json", json.dumps({"texts": {"i1": "\udfff"}}), "has half of a surrogate pair"),
        ("vocabulary.json", json.dumps(["x" * 256]), "more than 255 characters"),
        ("texts.json", '{"texts": {"i1": 5}}', "texts.i1"),
        ("texts.json", "[]", "is damaged"),
        ("texts.json", '{"texts": ' + '{"a":' * 100 + "1" + "}" * 101, "nested more than 64 times"),
    ],
)
def test_invalid_json_of_a_folder_is_refused(folder, name, text, words):
    write_part(folder, name, text)
    assert words in refusal(folder)


def test_small_files_do_not_allocate_much_memory(folder):
    """A width of 100,000 and 50,000 items would be a table of 20 GB; each file has a few megabytes."""
    wide, items = 10**5, 50_000

    def widen(tensors):
        tensors["item_fusion.missing"] = torch.zeros(2, wide)
        tensors["tracker.output.weight"] = torch.zeros(wide, 16)

    def lengthen(tensors):
        tensors["item_neighbours"] = torch.zeros(items, 1, 0, dtype=torch.int32)
        tensors["item_text"] = torch.zeros(items, 1)
        tensors["item_present"] = torch.ones(items, 2, dtype=torch.bool)

    write_part(folder, "vocabulary.json", json.dumps([str(n) for n in range(items)]))
    change_tensors(folder, WEIGHTS, widen)
    change_tensors(folder, FEATURES, lengthen)
    change_settings(folder, embedding_size=wide)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "larger than its files" in refusal(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB


def test_wide_conditioning_does_not_allocate_much_memory(folder):
    def widen(tensors):
        tensors["item_fusion.features.text.mean"] = torch.zeros(1)
        tensors["item_fusion.features.text.weight"] = torch.zeros(1, 2 * 10**6)

    def lengthen(tensors):
        tensors["item_neighbours"] = torch.zeros(20_000, 1, 3, dtype=torch.int32)
        tensors["item_text"] = torch.zeros(20_000, 1)
        tensors["item_present"] = torch.ones(20_000, 2, dtype=torch.bool)

    write_part(folder, "vocabulary.json", json.dumps([str(n) for n in range(20_000)]))
    change_tensors(folder, WEIGHTS, widen)
    change_tensors(folder, FEATURES, lengthen)
    assert "larger than its files" in refusal(folder)


def test_mutated_folders_are_read_or_refused(folder):
    """Change bytes of each part, and update the hashes."""
    chance = random.Random(0)
    whole = {name: (folder / name).read_bytes() for name in PARTS}
    for round_ in range(100):
        name = PARTS[round_ % len(PARTS)]
        data = bytearray(whole[name])
        for _ in range(chance.choice([1, 2, 8])):
            place = chance.randrange(min(len(data), 6000))
            data[place : place + chance.choice([0, 1, 8])] = chance.randbytes(chance.choice([0, 1, 8]))
        (folder / name).write_bytes(data)
        if name != "config.json":
            change(folder)
        with suppress(LLMInterestError):
            read_pretrained(str(folder), device="cpu")
        for part, content in whole.items():
            (folder / part).write_bytes(content)
