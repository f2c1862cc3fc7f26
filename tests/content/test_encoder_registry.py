"""Encoders by name: registered ones, pretrained models, encoders from outside the package, and stable fingerprints."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np
import pytest
from conftest import QUICK, cycle_events, write_dataset

from recbole_llm_interest.cli.encode import main
from recbole_llm_interest.content.catalogue import read_catalogue
from recbole_llm_interest.content.encoders import (
    AUDIO_ENCODERS,
    ENCODERS,
    IMAGE_ENCODERS,
    PRETRAINED,
    TEXT_ENCODERS,
    create_encoder,
    encoder_class,
    weights_free_encoders,
)
from recbole_llm_interest.content.encoders.weights_free import WeightsFreeEncoder
from recbole_llm_interest.content.pipeline import collect_content
from recbole_llm_interest.errors import EncoderError, SettingsError
from recbole_llm_interest.settings import MODALITIES, ContentSettings


class ToyEncoder(WeightsFreeEncoder):
    """Length and first letter of a text."""

    modality = "text"
    packages: ClassVar[dict[str, str]] = {"numpy": "numpy"}

    @classmethod
    def from_settings(cls, settings):
        return cls(settings.text_batch_size)

    @property
    def description(self) -> dict[str, Any]:
        return {"name": "toy", "columns": 2, "version": 1}

    def load(self, content):
        return content

    def encode(self, batch):
        return np.array([[len(text), ord(text[0])] for text in batch], dtype=np.float32)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(TEXT_ENCODERS, "_members", dict(TEXT_ENCODERS._members))
    TEXT_ENCODERS.register("toy")(ToyEncoder)


def test_encoder_from_outside_the_package_runs_in_the_pipeline(toy, tmp_path):
    (tmp_path / "content").mkdir()
    lines = [json.dumps({"item_id": token, "title": title}) for token, title in {"1": "Heat", "2": "Ran"}.items()]
    (tmp_path / "content" / "items.jsonl").write_text("\n".join(lines))
    catalogue = read_catalogue(tmp_path, "d", "item", "item_id", ["title"])
    settings = ContentSettings(text_encoder="toy", feature_conditioning="none")
    content, (summary,) = collect_content(catalogue, ["", "2", "1"], tmp_path / "cache", settings)
    assert content["text"].values.tolist() == [[0, 0], [len("title: Ran"), ord("t")], [len("title: Heat"), ord("t")]]
    assert (summary.source, summary.encoded) == ("toy", 2)
    (manifest,) = tmp_path.rglob("manifest.json")
    encoder = json.loads(manifest.read_text())["encoder"]
    assert encoder["name"] == "toy"
    assert encoder["libraries"]["numpy"] == np.__version__


def test_encoder_from_outside_the_package_is_selected_by_its_setting(toy, here, capsys):
    write_dataset(here / "data", "cycle", cycle_events())
    (here / "data" / "cycle" / "content").mkdir()
    lines = [json.dumps({"item_id": f"i{number}", "title": f"title {number}"}) for number in range(8)]
    (here / "data" / "cycle" / "content" / "items.jsonl").write_text("\n".join(lines))
    settings = {**QUICK, "data_path": here / "data", "feature_cache": here / "cache", "text_encoder": "toy"}
    words = [f"--{key}={settings[key]}" for key in ("data_path", "feature_cache", "text_encoder")]
    assert main(["--dataset=cycle", *words, "--json"]) == 0
    item, _ = json.loads(capsys.readouterr().out.splitlines()[-1])["summaries"]
    assert (item["source"], item["encoded"]) == ("toy", 8)


def test_encoder_without_weights_is_suggested_where_weights_are_missing(toy):
    assert weights_free_encoders("text")[-1] == "toy"
    with pytest.raises(EncoderError, match=r"set text_encoder=hashing.* or text_encoder=toy, which needs no weights"):
        create_encoder("text", ContentSettings(text_encoder="nobody/has-this-model"))


def test_missing_package_of_an_encoder_from_outside_is_an_error(toy, monkeypatch):
    monkeypatch.setattr(ToyEncoder, "packages", {"no-such-package": "no_such_module"})
    with pytest.raises(EncoderError, match="the text encoder 'toy' needs the package no_such_module"):
        create_encoder("text", ContentSettings(text_encoder="toy")).prepare()


def test_every_modality_has_a_registry():
    assert tuple(ENCODERS) == MODALITIES
    assert list(ENCODERS.values()) == [TEXT_ENCODERS, IMAGE_ENCODERS, AUDIO_ENCODERS]


def test_unknown_modality_is_an_error_and_never_the_audio_encoder():
    with pytest.raises(SettingsError, match="modality 'video' has no encoders; known are text, image, audio"):
        create_encoder("video", ContentSettings())


@pytest.mark.parametrize("modality", MODALITIES)
def test_name_that_is_not_registered_is_that_of_a_pretrained_model(modality):
    assert encoder_class(modality, "someone/some-model") is encoder_class(modality, PRETRAINED)
    assert encoder_class(modality, PRETRAINED).needs_weights
    assert weights_free_encoders(modality)
    assert not any(encoder_class(modality, name).needs_weights for name in weights_free_encoders(modality))


@pytest.mark.parametrize("modality", MODALITIES)
def test_setting_names_an_encoder_without_weights(modality):
    field = ContentSettings.__dataclass_fields__[f"{modality}_encoder"]
    assert any(f"`{name}`" in field.default.description for name in weights_free_encoders(modality))


@pytest.mark.parametrize(
    ("modality", "settings", "fingerprint"),
    [
        ("text", {}, "c68c5d8475b63eeb837d363cd1f70555e74265d7c178099ff0927af4c749ab17"),
        (
            "text",
            {"text_pooling": "cls", "text_prompt": "q: ", "text_truncate_dim": 8, "text_max_length": 9},
            "e85e9be74d79bb7bb204738bc0785354628aa8beabff49ce5fbcdf3aa6eaf092",
        ),
        (
            "text",
            {"text_encoder": "hashing"},
            "407280fe8e8e31d38f1663d98bc1a2cd492ff561c0b3c0ad1af7916efbad45de",
        ),
        (
            "image",
            {"image_encoder": "color_hist"},
            "874a4841e6b76f8b40cc507dc1958978150a6bbdb7e02c9e053de273ad04e319",
        ),
        (
            "image",
            {"image_encoder": "RN50", "image_weights": "random"},
            "08e32e8342fc62ad539d450a052bb38afd39b18cdfcac4500d128bad9c7c60ba",
        ),
        ("audio", {}, "447e8ed16b1a639953828712f2b29d854d3a76be405fb225f284f8b6bb816dd1"),
        ("audio", {"audio_seconds": 7.5}, "1edd453205d5f91a09d7b75c72585cfd6cd1e71a9bdf129c50d7150bfa03d42d"),
    ],
)
def test_fingerprints_are_those_of_earlier_releases(modality, settings, fingerprint):
    """Another fingerprint would make every cached feature of the encoder useless."""
    assert create_encoder(modality, ContentSettings(**settings)).fingerprint == fingerprint
