"""Adapters: what they train and what they leave, their files, and one line for what does not fit."""

import importlib.util
import pickle

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image
from safetensors.numpy import load, save

from recbole_llm_interest.content.adapters import ADAPTERS, all_blocks, attach, check_fit
from recbole_llm_interest.content.encoders import create_encoder
from recbole_llm_interest.content.encoders.adapter_file import AdapterOptions, read_adapter, write_adapter
from recbole_llm_interest.content.encoders.aisfx import AisfxEncoder
from recbole_llm_interest.content.encoders.efficientnet import EfficientNetEncoder
from recbole_llm_interest.content.encoders.text import TextEncoder
from recbole_llm_interest.errors import EncoderError, SettingsError
from recbole_llm_interest.settings import ContentSettings

TEXTS = ["a film about space travel", "whales", "how to bake bread", "whales sing"]
WORDS = sorted({word for text in TEXTS for word in text.split()})
METHODS = list(ADAPTERS)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_models.masked_model(tmp_path_factory.mktemp("bert"), WORDS)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny_models.causal_model(tmp_path_factory.mktemp("llama"), WORDS)


def options_of(method, layers=1):
    return AdapterOptions(method, rank=2, layers=None if method == "prefix" else layers)


def trained(encoder, options, steps=3):
    """Attach an adapter to an encoder and train it to push features apart; returns the adapter."""
    adapter = attach(encoder.network, options, steps)
    encoder.network = adapter.network
    optimizer = torch.optim.Adam(adapter.parameters.values(), lr=0.1)
    for step in range(steps):
        features = torch.nn.functional.normalize(encoder.embed(TEXTS), dim=-1)
        loss = (features @ features.T).mean() + adapter.regularization()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        adapter.after_update(step)
    encoder.network.eval()
    return adapter


def written(path, encoder, options):
    """The file of a trained adapter."""
    arrays = {name: values.detach().numpy() for name, values in trained(encoder, options).parameters.items()}
    write_adapter(path, options, "text", encoder.weights_fingerprint, arrays)
    return str(path)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", ["bert", "llama"])
def test_trained_adapter_gives_the_same_features_from_its_file(model, method, request, tmp_path):
    folder = str(request.getfixturevalue(model))
    encoder = TextEncoder(folder)
    if method == "bitfit" and model == "llama":
        with pytest.raises(EncoderError, match="has nothing that it can adapt"):
            attach(encoder.network, options_of(method))
        return
    frozen = encoder.encode(TEXTS)
    path = written(tmp_path / "a.safetensors", encoder, options_of(method))
    adapted = encoder.encode(TEXTS)
    assert not np.allclose(adapted, frozen, atol=1e-3)
    again = TextEncoder(folder, adapter=path)
    np.testing.assert_allclose(again.encode(TEXTS), adapted, atol=1e-5)
    assert not any(values.requires_grad for values in again.network.parameters())
    np.testing.assert_array_equal(TextEncoder(folder).encode(TEXTS), frozen)  # the files of the model are as they were


@pytest.mark.parametrize("method", [method for method in METHODS if method != "prefix"])
def test_new_adapter_changes_nothing_and_trains_only_itself(method, bert):
    encoder = TextEncoder(str(bert))
    frozen = encoder.encode(TEXTS)
    before = {name: values.clone() for name, values in encoder.network.named_parameters()}
    adapter = attach(encoder.network, options_of(method))
    np.testing.assert_allclose(encoder.encode(TEXTS), frozen, atol=1e-5)
    encoder.embed(TEXTS).sum().backward()
    own = set(adapter.parameters)
    assert all((values.grad is not None) == (name in own) for name, values in encoder.network.named_parameters())
    assert all(".layer.1." in name for name in own)  # of two layers, the upper one
    kept = {name.replace(".base_layer", ""): values for name, values in encoder.network.named_parameters()}
    assert all(torch.equal(values, kept[name]) for name, values in before.items())


@pytest.mark.slow
def test_adapter_of_the_bundled_encoder_is_small():
    """LoRA in the three upper layers of all-MiniLM-L6-v2, the default of ``llm-interest adapt``."""
    network = TextEncoder("all-MiniLM-L6-v2").network
    own = sum(values.numel() for values in network.parameters())
    adapter = attach(network, AdapterOptions("lora", rank=8, layers=3))
    assert sum(values.numel() for values in adapter.parameters.values()) < 0.02 * own


@pytest.mark.parametrize("method", ["lora", "ia3", "bottleneck", "bitfit"])
@pytest.mark.parametrize("name", ["efficientnet", "aisfx"])
def test_networks_of_images_and_sound_are_adapted(name, method):
    if name == "efficientnet":
        encoder, batch = EfficientNetEncoder(batch_size=2), [np.zeros((3, 224, 224), np.float32)]
    else:
        encoder, batch = AisfxEncoder(), [np.ones((1, 100, 96), np.float32)]
    frozen = encoder.encode(batch)
    adapter = attach(encoder.network, AdapterOptions(method, rank=2, layers=2))
    np.testing.assert_allclose(encoder.encode(batch), frozen, atol=1e-4)
    encoder.embed(batch).sum().backward()
    last = [*all_blocks(encoder.network)][-1]
    assert adapter.parameters
    assert any(name.startswith(last) and values.grad is not None for name, values in adapter.parameters.items())


def test_clip_is_adapted_in_its_image_tower():
    encoder = create_encoder("image", ContentSettings(image_encoder="RN50", image_weights="random"))
    batch = [encoder.load(image_file())]
    adapter = attach(encoder.network, AdapterOptions("lora", rank=1, layers=3))
    assert {name.split(".")[0] for name in adapter.parameters} == {"layer4"}
    encoder.embed(batch).sum().backward()
    assert all(values.grad is not None for values in adapter.parameters.values())


@pytest.mark.parametrize("method", METHODS)
def test_check_of_fit_leaves_the_network_as_it_is(method, bert):
    encoder = TextEncoder(str(bert))
    frozen, names = encoder.encode(TEXTS), [name for name, _ in encoder.network.named_modules()]
    check_fit(encoder.network, options_of(method))
    assert [name for name, _ in encoder.network.named_modules()] == names
    assert not any(values.requires_grad for values in encoder.network.parameters())
    np.testing.assert_array_equal(encoder.encode(TEXTS), frozen)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "prefix"])
def test_adapter_is_on_the_device_of_the_network(method, bert):
    network = TextEncoder(str(bert)).network.to("meta")
    assert {values.device.type for values in attach(network, options_of(method)).parameters.values()} == {"meta"}


def image_file():
    import io

    file = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(file, "PNG")
    file.seek(0)
    return file


def test_another_adapter_is_another_encoder(bert, tmp_path):
    frozen = TextEncoder(str(bert))
    first = TextEncoder(str(bert), adapter=written(tmp_path / "a", TextEncoder(str(bert)), options_of("lora")))
    other = TextEncoder(str(bert), adapter=written(tmp_path / "b", TextEncoder(str(bert)), options_of("ia3")))
    assert len({encoder.fingerprint for encoder in (frozen, first, other)}) == 3
    assert len({encoder.weights_fingerprint for encoder in (frozen, first, other)}) == 1


def test_adapter_of_another_model_is_refused(bert, llama, tmp_path):
    path = written(tmp_path / "a.safetensors", TextEncoder(str(bert)), options_of("lora"))
    with pytest.raises(
        EncoderError, match=r"adapter .*a.safetensors was trained in another text encoder than text_enc"
    ):
        TextEncoder(str(llama), adapter=path)
    with pytest.raises(EncoderError, match="is of another modality than image: 'text'"):
        read_adapter(path, "image", "")


def test_adapter_of_other_layers_is_refused(bert, tmp_path):
    encoder = TextEncoder(str(bert))
    path = written(tmp_path / "a.safetensors", encoder, options_of("lora"))
    arrays = load((tmp_path / "a.safetensors").read_bytes())
    for options in (AdapterOptions("lora", 2, layers=2), AdapterOptions("lora", 3, 1), AdapterOptions("bitfit", 2, 1)):
        write_adapter(tmp_path / "b.safetensors", options, "text", encoder.weights_fingerprint, arrays)
        with pytest.raises(EncoderError, match="is for other layers than those of the encoder: '"):
            TextEncoder(str(bert), adapter=str(tmp_path / "b.safetensors")).encode(TEXTS)
    write_adapter(tmp_path / "c", AdapterOptions("lora", 2, 9), "text", encoder.weights_fingerprint, arrays)
    with pytest.raises(EncoderError, match="adapt_layers=9: the encoder has 2 layers"):
        TextEncoder(str(bert), adapter=str(tmp_path / "c")).encode(TEXTS)
    assert TextEncoder(str(bert), adapter=path).encode(TEXTS).shape == (4, 16)


class Payload:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("code in a file was run",))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not a safetensors file"),
        (pickle.dumps(Payload()), "is not a safetensors file"),
        (save({"a": np.zeros(3, np.float32)}), "is no adapter of an encoder"),
        (save({"a": np.zeros(3, np.float32)}, metadata={"format": "llm-interest-adapter"}), "has no options"),
        (
            save(
                {"a": np.zeros(3, np.float32)},
                {"format": "llm-interest-adapter", "options": '{"method": 3, "rank": 2}'},
            ),
            "has options that no adapter has",
        ),
        (save({"a": np.zeros(3, np.int64)}), "has the tensor 'a' of type 'I64'"),
    ],
)
def test_other_files_are_refused_in_one_line(data, says, bert, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(EncoderError, match=says) as error:
        TextEncoder(str(bert), adapter=str(tmp_path / "a.safetensors"))
    assert "name a file that llm-interest adapt wrote" in str(error.value)
    assert "\n" not in str(error.value)


def test_damaged_adapter_is_refused(bert, tmp_path):
    path = tmp_path / "a.safetensors"
    written(path, TextEncoder(str(bert)), options_of("lora"))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(EncoderError, match="is damaged"):
        TextEncoder(str(bert), adapter=str(path))
    with pytest.raises(EncoderError, match=r"missing\.safetensors does not exist"):
        TextEncoder(str(bert), adapter=str(tmp_path / "missing.safetensors"))


def test_encoder_that_cannot_be_adapted_says_so():
    with pytest.raises(EncoderError, match=r"text_adapter=a\.safetensors: the encoder 'hashing' cannot be adapted"):
        create_encoder("text", ContentSettings(text_encoder="hashing", text_adapter="a.safetensors"))


def test_methods_that_do_not_fit_say_why(bert):
    with pytest.raises(EncoderError, match="prefix adapts all layers: set adapt_layers=~"):
        attach(TextEncoder(str(bert)).network, AdapterOptions("prefix", 2, 1))
    with pytest.raises(EncoderError, match="prefix: the encoder has no attention"):
        attach(AisfxEncoder().network, AdapterOptions("prefix", 2))
    with pytest.raises(EncoderError, match="adalora: the encoder has no linear layers"):
        attach(AisfxEncoder().network, AdapterOptions("adalora", 2))
    with pytest.raises(SettingsError, match="unknown adapter 'lara': did you mean 'lora'"):
        attach(TextEncoder(str(bert)).network, AdapterOptions("lara", 2))


def test_missing_peft_names_the_extra(bert, monkeypatch):
    network = TextEncoder(str(bert)).network
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(EncoderError, match=r"lora needs the package peft: pip install 'recbole_llm_interest\[adapt\]'"):
        attach(network, options_of("lora"))
    assert attach(network, options_of("bitfit")).parameters  # which needs no package
