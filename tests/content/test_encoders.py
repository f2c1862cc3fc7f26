"""Encoders: the libraries' real loading code, on the bundled sentence encoder and on small models made here.

The small models have random weights: what is tested is how they are found, loaded, fed and pooled.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image
from test_media import as_file, sound_file, tone

from recbole_llm_interest.content.adapters import attach
from recbole_llm_interest.content.blobs import Text
from recbole_llm_interest.content.encoders import create_encoder
from recbole_llm_interest.content.encoders.adapter_file import AdapterOptions
from recbole_llm_interest.content.encoders.audio import AudioEncoder
from recbole_llm_interest.content.encoders.bundled import MINILM
from recbole_llm_interest.content.encoders.image import ImageEncoder
from recbole_llm_interest.content.encoders.text import TextEncoder
from recbole_llm_interest.content.encoders.weights import find_model
from recbole_llm_interest.content.encoders.weights_free import ColorHistogramEncoder, HashingEncoder, LibrosaEncoder
from recbole_llm_interest.errors import EncoderError
from recbole_llm_interest.settings import ContentSettings

TEXTS = ["a film about space travel", "whales", "how to bake bread at home", "whales sing"]


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# --- text


@pytest.fixture(scope="module")
def minilm():
    return TextEncoder(MINILM.name)


WORDS = sorted({word for text in TEXTS for word in text.split()})


@pytest.fixture(scope="module")
def masked_model(tmp_path_factory):
    return tiny_models.masked_model(tmp_path_factory.mktemp("bert"), WORDS)


@pytest.fixture(scope="module")
def causal_model(tmp_path_factory):
    return tiny_models.causal_model(tmp_path_factory.mktemp("llama"), WORDS)


def token_states(folder, text):
    """States of one text's tokens, ``[T, D]``, by transformers alone: no batch, so no padding."""
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        return model(**tokens).last_hidden_state[0].numpy()


@pytest.mark.slow
def test_sentence_encoder_pools_as_its_folder_says(minilm):
    """The bundled model: mean over the tokens, then unit length."""
    for text, features in zip(TEXTS, minilm.encode(TEXTS), strict=True):
        mean = token_states(minilm.folder, text).mean(axis=0)
        assert np.allclose(features, mean / np.linalg.norm(mean), atol=1e-5)


def test_sentence_encoder_knows_what_is_alike(minilm):
    space, rocket, bread = minilm.encode(["a film about space travel", "rockets to the moon", "how to bake bread"])
    assert space @ rocket > space @ bread + 0.1


@pytest.mark.parametrize(
    ("pooling", "pool"), [("mean", lambda s: s.mean(axis=0)), ("cls", lambda s: s[0]), ("last", lambda s: s[-1])]
)
@pytest.mark.parametrize("model", ["masked_model", "causal_model"])
def test_pooling_leaves_padding_out(model, pooling, pool, request):
    folder = request.getfixturevalue(model)
    features = TextEncoder(str(folder), pooling=pooling).encode(TEXTS)  # one batch of unlike lengths
    for text, row in zip(TEXTS, features, strict=True):
        assert np.allclose(row, pool(token_states(folder, text)), atol=1e-5)


@pytest.mark.parametrize(("model", "own"), [("masked_model", "mean"), ("causal_model", "last")])
def test_plain_model_is_pooled_by_what_it_is(model, own, request):
    folder = str(request.getfixturevalue(model))
    assert np.allclose(TextEncoder(folder).encode(TEXTS), TextEncoder(folder, pooling=own).encode(TEXTS), atol=1e-6)


def test_prompt_length_and_dimension_are_obeyed(masked_model):
    plain = TextEncoder(str(masked_model), max_length=2).encode(["whales sing bread"])
    assert np.allclose(plain, TextEncoder(str(masked_model)).encode(["whales sing"]), atol=1e-6)
    prompted = TextEncoder(str(masked_model), prompt="film ").encode(["whales"])
    assert np.allclose(prompted, TextEncoder(str(masked_model)).encode(["film whales"]), atol=1e-6)
    assert TextEncoder(str(masked_model), truncate_dim=5).encode(TEXTS).shape == (4, 5)


@pytest.mark.slow
def test_naming_the_pooling_leaves_a_sentence_encoders_normalisation(minilm):
    named = TextEncoder(MINILM.name, pooling="mean").encode(TEXTS)
    assert np.allclose(named, minilm.encode(TEXTS), atol=1e-5)
    assert np.allclose(np.linalg.norm(TextEncoder(MINILM.name, pooling="cls").encode(TEXTS), axis=1), 1, atol=1e-4)


def test_length_that_a_model_cannot_read_is_an_error(masked_model):
    with pytest.raises(EncoderError, match="text_max_length=600, but it reads 32 tokens at most"):
        TextEncoder(str(masked_model), max_length=600).encode(TEXTS)


@pytest.mark.parametrize("pooling", [None, "cls"])
def test_more_dimensions_than_a_model_has_are_an_error(masked_model, pooling):
    with pytest.raises(EncoderError, match="text_truncate_dim=17, but it gives 16 dimensions"):
        TextEncoder(str(masked_model), truncate_dim=17, pooling=pooling).encode(TEXTS)
    assert TextEncoder(str(masked_model), truncate_dim=16, pooling=pooling).encode(TEXTS).shape == (4, 16)


def test_half_precision_is_close(minilm):
    half = TextEncoder(MINILM.name, precision="bfloat16").encode(TEXTS)
    assert min(map(cosine, half, minilm.encode(TEXTS))) > 0.99


def test_chinese_is_text_like_any_other():
    """The bundled model knows little Chinese; the hashing encoder, which has no words to know, shows what is alike."""
    encoder = HashingEncoder()
    machines, devices, soup = encoder.encode(["人工智能和机器学习", "机器学习的新方法", "番茄鸡蛋汤"])
    assert cosine(machines, devices) > cosine(machines, soup) + 0.1


@pytest.mark.parametrize(
    "change",
    [{"pooling": "cls"}, {"prompt": "query: "}, {"max_length": 5}, {"truncate_dim": 8}, {"precision": "bfloat16"}],
)
def test_text_encoder_set_up_differently_is_another(masked_model, change):
    assert TextEncoder(str(masked_model), **change).fingerprint != TextEncoder(str(masked_model)).fingerprint


def test_what_does_not_change_features_does_not_change_the_encoder(masked_model):
    plain = TextEncoder(str(masked_model)).fingerprint
    assert TextEncoder(str(masked_model), batch_size=7, device="cpu").fingerprint == plain


@pytest.mark.slow
def test_changed_weights_are_another_encoder(minilm, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(minilm.folder, copy)
    assert TextEncoder(str(copy)).fingerprint == minilm.fingerprint
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert TextEncoder(str(copy)).fingerprint != minilm.fingerprint


def test_bundled_weights_that_are_not_the_original_are_refused(monkeypatch):
    from recbole_llm_interest.content.encoders import text_models

    monkeypatch.setattr(text_models, "MINILM", replace(MINILM, sha256="0" * 64))
    with pytest.raises(EncoderError, match="not those of all-MiniLM-L6-v2"):
        TextEncoder(MINILM.name)


def test_odd_texts_do_not_stop_a_batch(minilm):
    odd = ["\ud800 half a pair", "\0", "a" * 100_000, "🎬" * 50, "‮right to left"]
    readable = []
    for text in map(Text, odd):
        with text.open(text.key()) as content:
            readable.append(minilm.load(content))
    assert np.isfinite(minilm.encode(readable)).all()


# --- images


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A small CLIP with random weights and its own preprocessing, in the layout that open_clip saves."""
    from open_clip import CLIP
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    configuration = {
        "model_cfg": {
            "embed_dim": 24,
            "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
            "text_cfg": {"context_length": 8, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1},
        },
        "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bilinear"},
    }
    torch.manual_seed(0)
    model = CLIP(**configuration["model_cfg"])
    save_file({name: value.contiguous() for name, value in model.state_dict().items()},
              folder / "open_clip_model.safetensors")  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(configuration))
    return folder


def pictures():
    noise = np.random.default_rng(0).integers(0, 256, (3, 50, 40, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


def encode_files(encoder, files):
    return encoder.encode([encoder.load(file) for file in files])


def test_images_are_encoded_as_a_bare_open_clip_loop_does(clip_folder):
    import open_clip

    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{clip_folder}")
    model.eval()
    with torch.no_grad():
        expected = model.encode_image(torch.stack([preprocess(image) for image in pictures()]), normalize=True)
    encoder = ImageEncoder(str(clip_folder), "ignored")
    features = encode_files(encoder, map(as_file, pictures()))
    assert features.shape == (3, 24)
    assert np.allclose(features, expected.numpy(), atol=1e-5)


def test_images_are_encoded_in_half_precision(clip_folder):
    half = ImageEncoder(str(clip_folder), "", precision="bfloat16")
    full = ImageEncoder(str(clip_folder), "")
    for a, b in zip(*(encode_files(encoder, map(as_file, pictures())) for encoder in (half, full)), strict=True):
        assert cosine(a, b) > 0.98


def test_preprocessing_is_the_folders_own(clip_folder):
    pixels = ImageEncoder(f"local-dir:{clip_folder}", "ignored").load(as_file(Image.new("RGB", (32, 32), "black")))
    assert torch.allclose(pixels[:, 0, 0], torch.tensor([-0.1 / 0.4, -0.2 / 0.5, -0.3 / 0.6]))


def test_image_features_are_the_same_on_every_pass(clip_folder):
    one, two = (encode_files(ImageEncoder(str(clip_folder), ""), map(as_file, pictures())) for _ in range(2))
    assert np.array_equal(one, two)


def test_changed_image_weights_or_preprocessing_are_another_encoder(clip_folder, tmp_path):
    copy = tmp_path / "clip"
    shutil.copytree(clip_folder, copy)
    assert ImageEncoder(str(copy), "").fingerprint == ImageEncoder(str(clip_folder), "").fingerprint
    configuration = json.loads((copy / "open_clip_config.json").read_text())
    configuration["preprocess_cfg"]["mean"] = [0, 0, 0]
    (copy / "open_clip_config.json").write_text(json.dumps(configuration))
    assert ImageEncoder(str(copy), "").fingerprint != ImageEncoder(str(clip_folder), "").fingerprint


def test_folder_without_weights_is_never_random(clip_folder, tmp_path):
    shutil.copy(clip_folder / "open_clip_config.json", tmp_path)
    with pytest.raises(EncoderError, match="does not load"):
        ImageEncoder(str(tmp_path), "").load(as_file(pictures()[0]))


@pytest.mark.slow
def test_random_weights_and_checkpoint_files_by_name(tmp_path, caplog):
    """A real architecture: untrained only where asked for in so many words, and loaded from a file of weights."""
    import open_clip
    from safetensors.torch import save_file

    named = ImageEncoder("RN50", "random")
    features = encode_files(named, map(as_file, pictures()))
    assert features.shape == (3, 1024)
    assert "RANDOM" in caplog.text
    assert np.allclose(features, encode_files(ImageEncoder("RN50", "random"), map(as_file, pictures())), atol=1e-5)
    torch.manual_seed(5)
    model = open_clip.create_model("RN50").eval()
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, tmp_path / "rn50.safetensors")
    encoder = ImageEncoder("RN50", str(tmp_path / "rn50.safetensors"))
    with torch.no_grad():
        expected = model.encode_image(torch.stack([encoder.load(as_file(image)) for image in pictures()]), True)
    assert np.allclose(encode_files(encoder, map(as_file, pictures())), expected.numpy(), atol=1e-5)
    assert encoder.fingerprint != named.fingerprint


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("ViT-B-32", "no-such-tag", "its tags: .*laion2b_s34b_b79k"),
        ("ViT-B-33", "openai", "is no architecture of open_clip"),
        ("local-dir:/no/such/folder", "", "holds no open_clip_config.json"),
    ],
)
def test_image_encoder_that_does_not_exist_is_an_error_that_helps(name, weights, message):
    with pytest.raises(EncoderError, match=message):
        ImageEncoder(name, weights).load(as_file(pictures()[0]))


# --- sound


def custom_code_folder(folder, base):
    """A model that brings code along, which would leave a mark if it ran."""
    shutil.copytree(base, folder)
    configuration = json.loads((folder / "config.json").read_text())
    configuration["auto_map"] = {"AutoConfig": "mark.Config", "AutoModel": "mark.Model"}
    configuration["model_type"] = "marked"
    (folder / "config.json").write_text(json.dumps(configuration))
    (folder / "mark.py").write_text("import os\nos.mkdir('executed')\n")
    return folder


@pytest.mark.parametrize("pooling", [None, "mean"])
def test_code_that_comes_with_a_model_is_never_run_nor_asked_about(masked_model, tmp_path, monkeypatch, pooling):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    folder = custom_code_folder(tmp_path / "model", masked_model)
    with pytest.raises(EncoderError, match="does not load") as caught:
        TextEncoder(str(folder), pooling=pooling).encode(TEXTS)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


@pytest.fixture(scope="module", params=["wav2vec2", "hubert", "whisper", "ast", "clap", "clap fused"])
def audio_folder(request, tmp_path_factory):
    return request.param, tiny_models.audio_model(request.param, tmp_path_factory.mktemp(request.param))


def sounds():
    chance = np.random.default_rng(0)
    return [chance.normal(0, 0.1, (int(seconds * 16_000), 1)).astype(np.float32) for seconds in (0.2, 3, 25, 70)]


@pytest.mark.slow
def test_sounds_of_every_length_are_encoded_the_same_alone_and_together(audio_folder):
    """Deterministic, windows averaged, and no sound depends on what is encoded beside it."""
    _, folder = audio_folder
    encoder = AudioEncoder(str(folder), seconds=40, batch_size=3)
    loaded = [encoder.load(sound_file(sound)) for sound in sounds()]
    together = encoder.encode(loaded)
    assert together.shape[0] == 4
    assert np.isfinite(together).all()
    for sound, row in zip(loaded, together, strict=True):
        assert np.allclose(encoder.encode([sound])[0], row, atol=1e-4)
    assert not np.allclose(together[1], together[2], atol=1e-4)


def test_adapters_are_in_the_upper_layers_of_what_reads_audio(audio_folder):
    """CLAP has a tower of text beside, and Whisper a decoder: neither is run, so neither could learn."""
    _, folder = audio_folder
    encoder = AudioEncoder(str(folder))
    batch = [encoder.load(sound_file(sounds()[1]))]
    adapter = attach(encoder.network, AdapterOptions("lora", rank=2, layers=1))
    encoder.network = adapter.network
    assert all(any(word in name for word in ("layers.1.", "layer.1.")) for name in adapter.parameters)
    encoder.embed(batch).square().sum().backward()
    assert all(values.grad is not None for values in adapter.parameters.values())


def test_windows_have_the_length_that_the_model_takes(audio_folder):
    kind, folder = audio_folder
    encoder = AudioEncoder(str(folder), seconds=45)
    windows = encoder.load(sound_file(sounds()[3]))
    rate = 48_000 if kind.startswith("clap") else 16_000
    seconds = {"whisper": 30, "ast": 10.24}.get(kind, 10)
    assert len(windows[0]) == seconds * rate
    assert sum(map(len, windows)) == pytest.approx(45 * rate, rel=0.01)


def test_whisper_hears_the_sound_and_not_the_silence_it_is_padded_with(tmp_path):
    from transformers import WhisperFeatureExtractor, WhisperModel

    folder = tiny_models.audio_model("whisper", tmp_path)
    encoder = AudioEncoder(str(folder))
    (window,) = encoder.load(sound_file(sounds()[1]))
    inputs = WhisperFeatureExtractor.from_pretrained(folder)(window, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        states = WhisperModel.from_pretrained(folder).eval().get_encoder()(inputs["input_features"]).last_hidden_state
    assert np.allclose(encoder.encode([[window]])[0], states[0, :150].mean(dim=0), atol=1e-5)  # 3 s of 30 s, of 1500


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_audio_models_compute_in_half_precision(audio_folder, precision):
    _, folder = audio_folder
    half, full = (AudioEncoder(str(folder), precision=p) for p in (precision, "float32"))
    assert half.fingerprint != full.fingerprint
    sound = sounds()[1]
    a, b = (encoder.encode([encoder.load(sound_file(sound))])[0] for encoder in (half, full))
    assert cosine(a, b) > 0.98


def test_damaged_audio_model_is_one_error(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match="does not load"):
        AudioEncoder(str(tmp_path)).load(sound_file(tone()))


# --- without weights


@pytest.mark.slow
def test_weights_free_encoders_are_deterministic_and_as_wide_as_they_say():
    images = ColorHistogramEncoder()
    features = encode_files(images, map(as_file, pictures()))
    assert features.shape == (3, images.description["columns"])
    assert np.array_equal(features, encode_files(images, map(as_file, pictures())))
    audio = LibrosaEncoder()
    features = encode_files(audio, map(sound_file, sounds()[:3]))
    assert features.shape == (3, audio.description["columns"])
    assert np.array_equal(features, encode_files(audio, map(sound_file, sounds()[:3])))
    text = HashingEncoder()
    assert text.encode(TEXTS).shape == (4, 2 * text.description["columns"])


def test_color_histogram_tells_colours_and_where_they_are():
    def split(left, right):
        image = Image.new("RGB", (64, 64), left)
        image.paste(right, (32, 0, 64, 64))
        return as_file(image)

    encoder = ColorHistogramEncoder()
    red, reddish, turned, green = encode_files(
        encoder, [split("red", "blue"), split((250, 10, 5), "blue"), split("blue", "red"), split("green", "white")]
    )
    assert np.linalg.norm(red - reddish) < 0.2 * np.linalg.norm(red - turned)
    assert np.linalg.norm(red - reddish) < 0.2 * np.linalg.norm(red - green)


@pytest.mark.slow
def test_librosa_features_tell_pitch_and_beat():
    encoder = LibrosaEncoder()
    low, also_low, high = encode_files(encoder, [sound_file(tone(pitch=pitch)) for pitch in (220, 221, 2000)])
    assert np.linalg.norm(low - also_low) < 0.3 * np.linalg.norm(low - high)
    clicks = np.zeros((16_000 * 8, 1), np.float32)
    clicks[:: 16_000 // 2] = 1.0
    (beats,) = encode_files(encoder, [sound_file(clicks)])
    assert beats[-1] == pytest.approx(120, rel=0.05)  # two a second


@pytest.mark.parametrize("samples", [np.zeros((16_000, 1)), np.ones((16_000, 1)), np.full((5, 1), 0.1)])
def test_librosa_features_of_silence_and_of_next_to_nothing_are_finite(samples):
    (features,) = encode_files(LibrosaEncoder(), [sound_file(samples)])
    assert np.isfinite(features).all()


# --- choosing one


@pytest.mark.parametrize("modality", ["text", "image", "audio"])
def test_missing_weights_name_the_places_and_the_remedies_at_once(modality):
    settings = ContentSettings(
        text_encoder="nobody/has-this-model", image_encoder="hf-hub:nobody/has-this-model",
        audio_encoder="nobody/has-this-model",
    )  # fmt: skip
    started = time.perf_counter()
    with pytest.raises(EncoderError) as caught:
        create_encoder(modality, settings)
    assert time.perf_counter() - started < 2
    message = str(caught.value)
    for word in ("nobody/has-this-model", modality, "local directory", "hub cache", "HF_HOME", "HF_HUB_OFFLINE=1",
                 f"item_{modality}_features or user_{modality}_features", "needs no weights"):  # fmt: skip
        assert word in message
    assert "\n" not in message


def test_missing_weights_of_a_tag_are_told_before_anything_is_encoded():
    import open_clip  # noqa: F401  (takes seconds, and is no look-up)

    started = time.perf_counter()
    with pytest.raises(EncoderError, match=r"image_encoder=ViT-B-32, image_weights=laion2b_s34b_b79k: no weights"):
        create_encoder("image", ContentSettings(image_encoder="ViT-B-32")).prepare()
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(("modality", "package"), [("text", "sentence_transformers"), ("image", "open_clip"),
                                                   ("audio", "librosa"), ("audio", "soundfile")])  # fmt: skip
def test_missing_package_is_named_with_what_installs_it(modality, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EncoderError, match=rf"needs the package {package}: pip install .*\[{modality}\]"):
        create_encoder(modality, ContentSettings(image_encoder="ViT-B-32")).prepare()


def test_interrupted_download_is_not_taken_for_the_model(tmp_path, monkeypatch):
    """Only its configuration reached the hub's cache: the weights are asked for again, not given up."""
    import huggingface_hub

    (tmp_path / "config.json").write_text("{}")
    asked = []

    def snapshot_download(name, *, local_files_only=False, **_):
        asked.append(local_files_only)
        return str(tmp_path)

    def repo_info(self, name, *, timeout):
        return SimpleNamespace(sha="newest")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", repo_info)
    with pytest.raises(EncoderError, match="its repository on the hub holds none"):
        find_model("text", "someone/half-there", download=True)
    assert asked == [True, False, False]
    (tmp_path / "model.safetensors").touch()
    assert find_model("text", "someone/half-there", download=True) == tmp_path


@pytest.mark.slow
def test_hub_that_never_answers_is_not_waited_for(monkeypatch):
    """A firewall may take the connection and say nothing."""
    import huggingface_hub.constants

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        started = time.perf_counter()
        with pytest.raises(EncoderError, match="no weights for the audio encoder 'nobody/silent'"):
            find_model("audio", "nobody/silent", download=True)
        assert time.perf_counter() - started < 20  # on a busy machine; unlimited, it would wait forever


def take_from_checkpoint(weights, word):
    from safetensors.torch import load_file, save_file

    kept = {name: tensor for name, tensor in load_file(weights).items() if word not in name}
    save_file(kept, weights, metadata={"format": "pt"})


@pytest.mark.slow
def test_text_checkpoint_that_lacks_weights_is_no_encoder(tmp_path, minilm, monkeypatch):
    """transformers would draw them at random, other ones each time. The pooler of BERT is none that features need."""
    monkeypatch.setattr(logging.getLogger("transformers"), "level", logging.ERROR)
    shutil.copytree(minilm.folder, tmp_path / "model")
    take_from_checkpoint(tmp_path / "model" / "model.safetensors", "pooler.")
    assert np.allclose(TextEncoder(str(tmp_path / "model")).encode(TEXTS), minilm.encode(TEXTS), atol=1e-6)
    take_from_checkpoint(tmp_path / "model" / "model.safetensors", "layer.5.")
    with pytest.raises(EncoderError, match=r"the checkpoint lacks \d+ weights, such as encoder\.layer\.5\."):
        TextEncoder(str(tmp_path / "model")).encode(TEXTS)


def test_audio_checkpoint_that_lacks_weights_is_no_encoder(tmp_path):
    take_from_checkpoint(tiny_models.audio_model("wav2vec2", tmp_path) / "model.safetensors", "layers.1.")
    with pytest.raises(EncoderError, match=r"the checkpoint lacks \d+ weights, such as encoder\.layers\.1\."):
        encode_files(AudioEncoder(str(tmp_path)), [sound_file(tone(1))])


@pytest.mark.parametrize(
    "rest", ["1_Pooling/config.json", "config_sentence_transformers.json", "sentence_bert_config.json"]
)
def test_half_a_sentence_encoder_is_not_taken_for_a_plain_model(minilm, tmp_path, rest):
    """An interrupted copy: without modules.json, its tokens' mean would pass for what the encoder gives."""
    folder = tmp_path / "model"
    gone = {"modules.json", "1_Pooling", "config_sentence_transformers.json", "sentence_bert_config.json"}
    gone.remove(rest.split("/")[0])
    shutil.copytree(minilm.folder, folder, copy_function=os.symlink, ignore=lambda *_: gone)
    with pytest.raises(EncoderError, match=rf"is incomplete: {rest} .* modules\.json.* is missing; fetch the model"):
        TextEncoder(str(folder))


def test_sentence_encoder_that_lacks_another_file_says_to_fetch_it_again(minilm, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(minilm.folder, folder, copy_function=os.symlink, ignore=lambda *_: {"1_Pooling"})
    with pytest.raises(EncoderError, match=r"does not load: .*\(if it is incomplete, fetch the model again\)"):
        TextEncoder(str(folder)).encode(TEXTS)


@pytest.mark.parametrize("kind", ["Bert", "MPNet", "T5"])
def test_model_without_a_tokenizer_is_no_encoder(tmp_path, kind):
    """transformers makes an empty tokenizer, to which all words are the same, where it finds no files of one."""
    import transformers as t

    if kind == "T5":
        configuration = t.T5Config(vocab_size=200, d_model=16, d_ff=32, num_layers=1, num_heads=2, d_kv=8)
        t.T5EncoderModel(configuration).save_pretrained(tmp_path)
    else:
        configuration = getattr(t, f"{kind}Config")(vocab_size=50, hidden_size=16, num_hidden_layers=1,
                                                    num_attention_heads=2, intermediate_size=32)  # fmt: skip
        getattr(t, f"{kind}Model")(configuration).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="its tokenizer's files are missing; fetch the model again"):
        TextEncoder(str(tmp_path)).encode(TEXTS)


def test_causal_model_without_its_tokenizers_settings_is_no_encoder(causal_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(causal_model, folder, ignore=lambda *_: {"tokenizer_config.json"})
    with pytest.raises(EncoderError, match=r"neither a padding token nor one for the end, as tokenizer_config\.json"):
        TextEncoder(str(folder)).encode(TEXTS)


def test_encoder_without_weights_is_used_only_where_it_is_named():
    named = ContentSettings(text_encoder="hashing", image_encoder="color_hist", audio_encoder="librosa")
    kinds = [type(create_encoder(modality, named)) for modality in ("text", "image", "audio")]
    assert kinds == [HashingEncoder, ColorHistogramEncoder, LibrosaEncoder]
    assert [create_encoder(modality, ContentSettings()).name for modality in ("text", "image")] == [
        "all-MiniLM-L6-v2",
        "efficientnet_lite0",
    ]


def test_damaged_text_model_folder_is_one_error(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match="does not load"):
        TextEncoder(str(tmp_path)).encode(["x"])
