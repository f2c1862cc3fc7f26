"""What is stored of a person, and that it goes when it is asked for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import cycle_events, write_dataset
from PIL import Image
from safetensors.numpy import load_file

from recbole_llm_interest.cli.compare import main as train
from recbole_llm_interest.cli.encode import main as encode
from recbole_llm_interest.cli.forget import main as forget
from recbole_llm_interest.content.blobs import MediaFile, Text
from recbole_llm_interest.io.manifest import MANIFEST, read

#: words that stand nowhere but in the data
SECRETS = ["zanzibar", "quetzal", "xylophone"]


@pytest.fixture
def words(here):
    """A data set of people, u0 among them, who has a text and a picture; the settings as words of the command line."""
    events = [(user.replace("u", "person-"), item, time) for user, item, time in cycle_events(8)]
    write_dataset(here / "data", "people", events, {f"i{n}": f"{SECRETS[n % 3]} {n}" for n in range(8)})
    content = here / "data" / "people" / "content"
    (content / "faces").mkdir(parents=True)
    rows = [
        {"user_id": f"person-{n}", "bio": f"{SECRETS[n % 3]} of {n}", "image_file_name": f"faces/{n % 7}.png"}
        for n in range(8)
    ]
    (content / "users.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for n in range(7):
        Image.new("RGB", (9, 9), (30 * n, 0, 0)).save(content / "faces" / f"{n}.png")
    settings = {
        "data_path": str(here / "data"), "modalities": "['text','image']", "text_encoder": "hashing",
        "image_encoder": "color_hist", "epochs": 1, "train_batch_size": 64, "embedding_size": 8, "hidden_size": 8,
        "topk": "[3]", "metrics": "['NDCG']", "valid_metric": "NDCG@3", "show_progress": False,
        "feature_cache": str(here / "cache"),
    }  # fmt: skip
    return ["--dataset=people", *(f"--{key}={value}" for key, value in settings.items())]


def files(*folders):
    return {path: path.read_bytes() for folder in folders for path in Path(folder).rglob("*") if path.is_file()}


def of_kind(kind):
    return [it.path for it in read(Path("saved") / MANIFEST) if it.kind == kind and it.path.exists()]


def keys_in(cache):
    return {key.tobytes() for path in Path(cache).rglob("*.safetensors") for key in load_file(path)["keys"]}


@pytest.mark.slow
def test_files_of_a_run_hold_no_user_ids_and_no_texts(words, here):
    (here / "data" / "people" / "content" / "faces" / "3.png").write_bytes(b"no picture")
    with (here / "data" / "people" / "people.inter").open("a") as file:
        file.write("person-lonely\ti1\t1\nperson-lonely\ti2\t2\nperson-lonely\ti3\t3\nperson-broken\ti1\tnever\n")
    assert train(["--model=LLMInterest,FPMC,Pop", *words]) == 0
    written = files("saved", "log", "cache")
    assert len(written) > 10
    assert any(b"1 of 9 users have no text" in data for data in written.values())  # so that something was said of them
    for word in [*SECRETS, "person-"]:
        assert [str(path) for path, data in written.items() if word.encode() in data.lower()] == []


def test_users_are_named_by_salted_hashes_or_on_request_by_ids(words, here, capsys):
    lines = (here / "data" / "people" / "content" / "users.jsonl").read_text().splitlines(keepends=True)
    (here / "data" / "people" / "content" / "users.jsonl").write_text("".join(lines[1:]))
    assert encode([*words, "--json"]) == 0
    out = capsys.readouterr().out
    assert "person-" not in out
    summaries = json.loads(out.splitlines()[-1])["summaries"]
    (missing,) = next(s["missing"] for s in summaries if (s["kind"], s["modality"]) == ("user", "text"))
    assert re.fullmatch(r"user-[0-9a-f]{12}", missing)
    assert encode([*words, "--json", "--name_users=True"]) == 0
    assert '"missing": ["person-0"]' in capsys.readouterr().out


@pytest.mark.slow
def test_erased_user_is_in_no_file(words, here, capsys):
    assert train([*words, "--model=LLMInterest"]) == 0
    assert train([*words, "--model=Pop", "--save_dataset=True"]) == 0
    (log,) = (here / "log" / "Pop").glob("*.log")
    with log.open("a") as file:
        file.write("1 user has no text ('person-0')\n1 user has no text ('person-01')\n")
    saved = here / "saved" / "people-Dataset.pth"
    assert "person-0".encode("utf-32-le") in saved.read_bytes()
    content = here / "data" / "people" / "content"
    before = keys_in("cache")
    theirs = Text("bio: zanzibar of 0").key()
    assert theirs in before
    capsys.readouterr()
    assert forget([*words, "--user=person-0"]) == 3
    out = capsys.readouterr().out
    assert {
        path
        for path, data in files("data", "saved", "cache", "log").items()
        if b"person-0\t" in data or b"'person-0'" in data
    } == set()
    assert "person-0" not in (content / "users.jsonl").read_text()
    after = keys_in("cache")
    assert before - after == {theirs}
    assert f"left: {content / 'faces' / '0.png'}: is also used by another row" in out  # person-7 shows it, too
    assert not saved.exists()
    assert "person-01" in log.read_text()
    assert len(of_kind("checkpoint")) == 2
    for checkpoint in of_kind("checkpoint"):
        assert f"left: {checkpoint}: may have been trained on them" in out
    for name in ("people.inter", "users.jsonl", log.name, saved.name, "safetensors", "manifest.json"):
        assert re.search(rf"^(rewritten|deleted): .*{re.escape(name)}$", out, re.MULTILINE), name
    assert (here / "data" / "people" / "people.inter").read_text().count("\n") == 1 + 7 * 9
    assert train([*words, "--model=LLMInterest"]) == 0  # what is left is whole


def test_image_of_one_user_is_erased_with_its_features(words, here, capsys):
    assert encode(words) == 0
    face = here / "data" / "people" / "content" / "faces" / "3.png"
    key = MediaFile(face.parent.parent, "faces/3.png").key()
    assert key in keys_in("cache")
    assert forget([*words, "--user=person-3", "--user=person-4"]) == 0
    assert not face.exists()
    assert key not in keys_in("cache")
    assert len((here / "data" / "people" / "content" / "users.jsonl").read_text().splitlines()) == 6
    again = files("data", "cache")
    capsys.readouterr()
    assert forget([*words, "--user=person-3"]) == 0  # said again, it finds nothing more
    out = capsys.readouterr().out
    assert out == "unknown: user 'person-3' is in no file of the data set 'people'\nnothing is stored about them\n"
    assert files("data", "cache") == again


def test_unreadable_image_is_erased(words, here):
    face = here / "data" / "people" / "content" / "faces" / "2.png"
    face.write_bytes(b"no picture")
    key = MediaFile(face.parent.parent, "faces/2.png").key().hex()
    assert encode(words) == 0
    assert any(key.encode() in data for data in files("cache").values())
    assert forget([*words, "--user=person-2"]) == 0
    assert not any(key.encode() in data for data in files("cache").values())


@pytest.mark.slow
def test_erased_item_is_in_no_file_and_checkpoints_are_deleted_on_request(words, here, capsys):
    assert train([*words, "--model=LLMInterest"]) == 0
    np.save(here / "data" / "people" / "f.npy", np.ones((8, 3), np.float32))
    (here / "data" / "people" / "f.ids.txt").write_text("\n".join(f"i{n}" for n in range(8)))
    capsys.readouterr()
    assert len(of_kind("checkpoint")) == 1
    assert forget([*words, "--item=i3", "--checkpoints", "--results", "--item_text_features=f.npy"]) == 3
    out = capsys.readouterr().out
    assert [*of_kind("checkpoint"), *of_kind("resume state"), *of_kind("table")] == []
    for suffix in ("inter", "item"):
        assert "i3" not in (here / "data" / "people" / f"people.{suffix}").read_text()
    assert f"left: {here / 'data' / 'people' / 'f.npy'}: has precomputed features of them" in out


def test_forget_without_ids_is_an_error(words, capsys):
    assert forget(words) == 2
    assert "nothing to forget: give --user or --item" in capsys.readouterr().err
