"""Content: read as it stands, encoded once, never lost, lined up by token."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

from recbole_llm_interest.content import encode
from recbole_llm_interest.content.catalogue import read_texts
from recbole_llm_interest.content.conditioning import condition
from recbole_llm_interest.content.encode import encode_texts
from recbole_llm_interest.content.encoders.text import BUNDLED_NAME, TextEncoder
from recbole_llm_interest.content.features import Features
from recbole_llm_interest.content.store import FeatureStore, content_key
from recbole_llm_interest.errors import DataError, EncoderError


class CountingEncoder:
    """Stands for an encoder where only the bookkeeping around it is tested: a text's length and first letter."""

    def __init__(self, fingerprint="a" * 64):
        self.fingerprint = fingerprint
        self.batch_size = 8
        self.encoded = []

    def encode(self, batch):
        self.encoded += batch
        return np.array([[len(text), ord(text[0]), 1.0] for text in batch], dtype=np.float32)


@pytest.fixture(scope="module")
def minilm():
    return TextEncoder(BUNDLED_NAME)


# --- catalogue


def write_items(folder, *lines):
    folder.mkdir(exist_ok=True)
    (folder / "d.item").write_text("\n".join(["item_id:token\ttitle:token_seq\tyear:token", *lines]) + "\n")


def test_text_joins_the_named_columns_in_order(tmp_path):
    write_items(tmp_path, "7\tToy  Story\t1995", "8\t\t1990", "9\t\t")
    texts = read_texts(tmp_path, "d", "item", "item_id", ["year", "title"])
    assert texts == {"7": "year: 1995, title: Toy Story", "8": "year: 1990"}  # 9 has nothing to say


def test_all_columns_but_the_id_are_the_default(tmp_path):
    write_items(tmp_path, "7\tHeat\t1995")
    assert read_texts(tmp_path, "d", "item", "item_id", None) == {"7": "title: Heat, year: 1995"}


@pytest.mark.parametrize(
    "title", ['"Quoted" from the start', '"Open quote', "NA", "null", "O'Brien", "日本語 été 🎬", "a\\tb"]
)
def test_titles_stay_as_they_are(tmp_path, title):
    write_items(tmp_path, f"NA\t{title}\t1995", "007\tNext\t1996")
    texts = read_texts(tmp_path, "d", "item", "item_id", ["title"])
    assert texts == {"NA": f"title: {title}", "007": "title: Next"}


def test_jsonl_goes_before_columns(tmp_path):
    write_items(tmp_path, "7\tHeat\t1995")
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "items.jsonl").write_text(
        '{"item_id": 7, "title": "Line\\none", "genres": ["Crime", "Drama"], "image_file_name": "7", "note": null}\n'
    )
    texts = read_texts(tmp_path, "d", "item", "item_id", None)
    assert texts == {"7": "title: Line one, genres: Crime, Drama"}


def test_misspelt_column_is_named_with_the_nearest(tmp_path):
    write_items(tmp_path, "7\tHeat\t1995")
    with pytest.raises(DataError, match=r"'titel'.*did you mean 'title'\?"):
        read_texts(tmp_path, "d", "item", "item_id", ["titel"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["7\tHeat\t1995", "7\tHeat\t1995"], "line 3: item_id '7' comes a second time"),
        (["7\tHe\tat\t1995"], "line 2: 4 columns where the header has 3"),
        (["\tHeat\t1995"], "line 2: no 'item_id'"),
    ],
)
def test_broken_rows_are_named(tmp_path, lines, message):
    write_items(tmp_path, *lines)
    with pytest.raises(DataError, match=message):
        read_texts(tmp_path, "d", "item", "item_id", None)


def test_blank_lines_and_very_long_cells_are_read(tmp_path):
    write_items(tmp_path, f"7\t{'long ' * 50_000}\t1995", "", "8\tHeat\t1995\r", "")
    texts = read_texts(tmp_path, "d", "item", "item_id", ["title", "year"])
    assert len(texts["7"]) > 200_000
    assert texts["8"] == "title: Heat, year: 1995"


def test_encoding_is_named_where_it_is_wrong_and_obeyed_where_it_is_given(tmp_path):
    (tmp_path / "d.item").write_bytes("item_id:token\ttitle:token_seq\n7\tCaché\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"d\.item is not utf-8"):
        read_texts(tmp_path, "d", "item", "item_id", None)
    assert read_texts(tmp_path, "d", "item", "item_id", None, encoding="latin-1") == {"7": "title: Caché"}


def test_broken_json_is_named(tmp_path):
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "items.jsonl").write_text('{"item_id": "1"}\n{"item_id": \n')
    with pytest.raises(DataError, match=r"items\.jsonl, line 2"):
        read_texts(tmp_path, "d", "item", "item_id", None)


# --- store and encoding


def test_features_follow_tokens_whatever_the_order_of_the_rows(tmp_path):
    texts = {f"t{n}": "x" * (n + 1) for n in range(20)}
    tokens = ["", "t3", "unknown", "t11", "t0"]
    forward = encode_texts(texts, tokens, CountingEncoder(), FeatureStore(tmp_path / "a", "text", "f"), "")
    backward = encode_texts(
        dict(reversed(texts.items())), tokens, CountingEncoder(), FeatureStore(tmp_path / "b", "text", "f"), ""
    )
    assert torch.equal(forward.values, backward.values)
    assert forward.values[:, 0].tolist() == [0, 4, 0, 12, 1]
    assert forward.present.tolist() == [False, True, False, True, True]


def test_second_run_makes_no_encoder_call(tmp_path):
    texts = {"a": "one", "b": "two", "c": "one"}
    store = FeatureStore(tmp_path, "text", "f")
    first = CountingEncoder()
    before = encode_texts(texts, ["a", "b", "c"], first, store, "")
    assert sorted(first.encoded) == ["one", "two"]  # the same text once
    second = CountingEncoder()
    after = encode_texts(texts, ["a", "b", "c"], second, store, "")
    assert second.encoded == []
    assert torch.equal(before.values, after.values)


def test_only_what_is_new_is_encoded(tmp_path):
    store = FeatureStore(tmp_path, "text", "f")
    encode_texts({"a": "one"}, ["a"], CountingEncoder(), store, "")
    encoder = CountingEncoder()
    encode_texts({"a": "one", "b": "two"}, ["a", "b"], encoder, store, "")
    assert encoder.encoded == ["two"]


def test_another_encoder_is_a_miss(tmp_path):
    encode_texts({"a": "one"}, ["a"], CountingEncoder(), FeatureStore(tmp_path, "text", "f"), "")
    encoder = CountingEncoder()
    encode_texts({"a": "one"}, ["a"], encoder, FeatureStore(tmp_path, "text", "g"), "")
    assert encoder.encoded == ["one"]


def test_interrupted_encoding_keeps_what_was_done(tmp_path, monkeypatch):
    class Interrupted(CountingEncoder):
        def encode(self, batch):
            if len(self.encoded) >= 24:
                raise KeyboardInterrupt
            return super().encode(batch)

    monkeypatch.setattr(encode, "SHARD_ROWS", 8)
    texts = {str(n): f"text number {n}" for n in range(40)}
    store = FeatureStore(tmp_path, "text", "f")
    with pytest.raises(KeyboardInterrupt):
        encode_texts(texts, list(texts), Interrupted(), store, "")
    rest = CountingEncoder()
    features = encode_texts(texts, list(texts), rest, store, "")
    assert len(rest.encoded) == 16
    assert features.present.all()


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "rename"])
def test_damaged_shard_is_encoded_again(tmp_path, damage, caplog):
    texts = {"a": "one", "b": "two"}
    store = FeatureStore(tmp_path, "text", "f")
    before = encode_texts(texts, ["a", "b"], CountingEncoder(), store, "")
    (shard,) = store.folder.glob("*.safetensors")
    data = shard.read_bytes()
    if damage == "truncate":
        shard.write_bytes(data[:-3])
    elif damage == "flip":
        shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "empty":
        shard.write_bytes(b"")
    else:
        shard.rename(shard.with_stem("0" * 64))
    encoder = CountingEncoder()
    after = encode_texts(texts, ["a", "b"], encoder, store, "")
    assert len(encoder.encoded) == 2
    assert torch.equal(before.values, after.values)
    assert "is damaged" in caplog.text


def test_store_refuses_what_is_not_finite(tmp_path):
    store = FeatureStore(tmp_path, "text", "f")
    with pytest.raises(ValueError, match="finite"):
        store.write([content_key("a")], np.array([[np.nan]], dtype=np.float32))
    assert store.read([content_key("a")]) == {}


def test_store_holds_no_text(tmp_path):
    store = FeatureStore(tmp_path, "text", "f")
    encode_texts({"a": "a very private sentence"}, ["a"], CountingEncoder(), store, "")
    assert all(b"private" not in path.read_bytes() for path in store.folder.iterdir())


@pytest.mark.slow
def test_kill_in_mid_encoding_then_resume_gives_the_same_features(tmp_path):
    """A process that is killed without warning, at several moments: a resume ends where an undisturbed run does."""
    program = textwrap.dedent(
        f"""
        import sys, time
        sys.path[:0] = {[os.path.dirname(__file__)]!r}
        from pathlib import Path
        from test_content import CountingEncoder
        from recbole_llm_interest.content import encode
        from recbole_llm_interest.content.store import FeatureStore
        class Slow(CountingEncoder):
            def encode(self, batch):
                time.sleep(0.01)
                return super().encode(batch)
        encode.SHARD_ROWS = 8
        texts = {{str(n): "x" * (n + 1) for n in range(400)}}
        print("ready", flush=True)
        encode.encode_texts(texts, list(texts), Slow(), FeatureStore(Path(sys.argv[1]), "text", "f"), "")
        """
    )
    for delay in (0.03, 0.1, 0.2):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout.readline() == b"ready\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
    texts = {str(n): "x" * (n + 1) for n in range(400)}
    encoder = CountingEncoder()
    features = encode_texts(texts, list(texts), encoder, FeatureStore(tmp_path, "text", "f"), "")
    assert features.values[:, 0].tolist() == list(range(1, 401))
    assert 0 < len(encoder.encoded) < 400


# --- text encoder


def test_sentence_encoder_pools_as_its_folder_says(minilm):
    """The bundled model: mean over the tokens of the mask, then unit length, computed here by transformers alone."""
    from transformers import AutoModel, AutoTokenizer

    texts = ["title: Toy Story, year: 1995", "whales"]
    tokenizer, model = AutoTokenizer.from_pretrained(minilm.folder), AutoModel.from_pretrained(minilm.folder).eval()
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    expected = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    assert np.allclose(minilm.encode(texts), expected.numpy(), atol=1e-5)


def test_sentence_encoder_knows_what_is_alike(minilm):
    space, rocket, bread = minilm.encode(["a film about space travel", "rockets to the moon", "how to bake bread"])
    assert space @ rocket > space @ bread + 0.1


def test_changed_weights_are_another_encoder(minilm, tmp_path):
    import shutil

    copy = tmp_path / "model"
    shutil.copytree(minilm.folder, copy)
    assert TextEncoder(str(copy)).fingerprint == minilm.fingerprint
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert TextEncoder(str(copy)).fingerprint != minilm.fingerprint


def test_bundled_weights_that_are_not_the_original_are_refused(monkeypatch):
    from recbole_llm_interest.content.encoders import text

    monkeypatch.setattr(text, "BUNDLED_SHA256", "0" * 64)
    with pytest.raises(EncoderError, match="not those of all-MiniLM-L6-v2"):
        TextEncoder(BUNDLED_NAME)


def test_missing_weights_name_the_places_and_the_remedies():
    with pytest.raises(EncoderError) as caught:
        TextEncoder("nobody/has-this-model")
    message = str(caught.value)
    for word in ("nobody/has-this-model", "local directory", "HF_HOME", "HF_HUB_OFFLINE=1", BUNDLED_NAME):
        assert word in message
    assert "\n" not in message


def test_damaged_model_folder_is_one_error(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match="does not load"):
        TextEncoder(str(tmp_path)).encode(["x"])


# --- conditioning


def correlated(rows=300, width=12):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(rows, width, generator=generator) @ torch.randn(width, width, generator=generator) + 3
    present = torch.rand(rows, generator=generator) > 0.1
    return Features(values, present)


def test_zca_gives_an_identity_covariance_to_the_rows_that_are_there():
    features = correlated()
    rows = condition(features, "zca").values[features.present]
    assert rows.mean(dim=0).abs().max() < 1e-4
    assert torch.allclose(rows.T @ rows / len(rows), torch.eye(12), atol=0.05)


def test_standardize_gives_unit_variance_by_column():
    features = correlated()
    rows = condition(features, "standardize").values[features.present]
    assert torch.allclose(rows.square().mean(dim=0), torch.ones(12), atol=1e-3)


@pytest.mark.parametrize("kind", ["none", "standardize", "zca"])
def test_conditioning_never_looks_at_missing_rows(kind):
    features = correlated()
    spoilt = features.values.clone()
    spoilt[~features.present] = 1e6
    wanted = condition(features, kind).values[features.present]
    assert torch.equal(condition(Features(spoilt, features.present), kind).values[features.present], wanted)


@pytest.mark.parametrize("kind", ["standardize", "zca"])
def test_conditioning_stays_finite_where_nothing_varies(kind):
    features = Features(torch.ones(5, 3), torch.ones(5, dtype=torch.bool))
    assert condition(features, kind).values.abs().max() == 0
