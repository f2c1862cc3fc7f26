"""No file runs as code and nothing is downloaded unasked: each payload creates a folder if it is executed.

Strings of settings and search spaces are tested in ``tests/patches``, precomputed features in
``tests/content/test_precomputed.py``, and models with code of their own in ``tests/content/test_encoders.py``, too.
"""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_dataset
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import load_data_and_model
from recbole.utils import get_trainer

from recbole_llm_interest.content.encoders import create_encoder
from recbole_llm_interest.content.encoders.bundled import MINILM
from recbole_llm_interest.errors import CheckpointError, DataError, EncoderError, SettingsError
from recbole_llm_interest.settings import ContentSettings
from recbole_llm_interest.training.comparison import run


class Payload:
    """Creates a folder in the current one when it is unpickled."""

    def __reduce__(self):
        return Path.mkdir, (Path("executed"),)


def is_executed():
    return Path("executed").exists()


def plain_pickle(path):
    path.write_bytes(pickle.dumps(Payload()))


def zipped(path):
    torch.save({"config": {"model": "LLMInterest"}, "state_dict": {"weight": Payload()}}, path)


def legacy_format(path):
    torch.save({"state_dict": {"weight": Payload()}}, path, _use_new_zipfile_serialization=False)


WRITERS = [plain_pickle, zipped, legacy_format]


@pytest.mark.parametrize("write", WRITERS)
def test_payloads_are_executed_by_unsafe_loading(write, here):
    write(here / "file")
    torch.load(here / "file", weights_only=False) if write is not plain_pickle else pickle.loads(
        (here / "file").read_bytes()
    )
    assert is_executed()


# --- checkpoints


@pytest.mark.slow
@pytest.mark.parametrize("write", WRITERS)
def test_evaluating_a_checkpoint_does_not_execute_it(write, settings, here):
    write(here / "hostile.pth")
    with pytest.raises(CheckpointError, match="damaged, or not one that this package wrote"):
        run(["LLMInterest"], "cycle", config_dict=settings, checkpoint="hostile.pth")
    assert not is_executed()


@pytest.mark.parametrize("write", WRITERS)
def test_recboles_own_functions_do_not_execute_a_checkpoint(write, built, here):
    write(here / "hostile.pth")
    refused = pytest.raises(CheckpointError, match="damaged, or not one that this package wrote")
    with refused:
        load_data_and_model("hostile.pth")
    config, model, _, _, _, test = built("GRU4Rec")
    trainer = get_trainer(config["MODEL_TYPE"], "GRU4Rec")(config, model)
    with refused:
        trainer.resume_checkpoint("hostile.pth")
    with refused:
        trainer.evaluate(test, model_file="hostile.pth")
    assert not is_executed()


def test_pretrained_weights_of_a_stock_model_are_not_executed(built, here):
    zipped(here / "hostile.pth")
    with pytest.raises(CheckpointError, match="damaged, or not one that this package wrote"):
        built(
            "NeuMF", use_pretrain=True, mf_pretrain_path="hostile.pth", mlp_pretrain_path="hostile.pth", repeatable=True
        )
    assert not is_executed()


# --- saved data sets and data loaders


def saved_data_set(config, model):
    (Path(config["checkpoint_dir"])).mkdir(exist_ok=True)
    kind = {"LLMInterest": "LLMInterestDataset", "Pop": "Dataset"}[model]
    return Path(config["checkpoint_dir"]) / f"{config['dataset']}-{kind}.pth"


def saved_loaders(config, model):
    return saved_data_set(config, model).with_name(f"{config['dataset']}-for-{model}-dataloader.pth")


@pytest.mark.parametrize("model", ["LLMInterest", "Pop"])
@pytest.mark.parametrize("place", [saved_data_set, saved_loaders])
def test_saved_data_is_unpickled_only_with_allow_pickle(model, place, settings, here):
    def prepare(**more):
        config = Config(model, "cycle", config_dict={**settings, "modalities": [], "repeatable": True, **more})
        plain_pickle(place(config, model))
        data_preparation(config, create_dataset(config))

    with pytest.raises(DataError, match=r"is a pickle, which can run any code .* allow_pickle=True"):
        prepare()
    assert not is_executed()
    with pytest.raises(Exception, match=r"config|iterable"):  # the payload's result, a path, is not a data set
        prepare(allow_pickle=True)
    assert is_executed()


def test_checkpoint_cannot_set_allow_pickle(built, here):
    plain_pickle(here / "hostile.pth")
    config, model, *_ = built("GRU4Rec", allow_pickle=True)
    trainer = get_trainer(config["MODEL_TYPE"], "GRU4Rec")(config, model)
    config.external_config_dict["dataset_save_path"] = "hostile.pth"
    trainer._save_checkpoint(0)
    restored, *_ = load_data_and_model(trainer.saved_model_file)
    assert restored["allow_pickle"] is not True
    assert restored["dataset_save_path"] is None
    assert not is_executed()


def test_saved_data_is_used_with_allow_pickle(settings):
    config = Config("Pop", "cycle", config_dict={**settings, "save_dataset": True, "allow_pickle": True})
    first = create_dataset(config)
    again = create_dataset(config)
    assert again.inter_num == first.inter_num
    with pytest.raises(DataError, match="is a pickle"):
        create_dataset(Config("Pop", "cycle", config_dict=settings))


# --- strings and arrays of stock models


def test_teacher_of_kd_dagfm_is_not_executed(built, settings, here):
    path = here / "data" / "cycle" / "cycle.inter"
    path.write_text(path.read_text().replace("timestamp:", "label:"))
    context = {
        "load_col": {"inter": ["user_id", "item_id", "label"]}, "eval_args": {"order": "RO", "mode": "labeled"},
        "phase": "teacher_training", "metrics": ["AUC"], "valid_metric": "AUC",
    }  # fmt: skip
    with pytest.raises(SettingsError, match="is unknown: choose one of KD_DAGFM, DAGFM, CrossNet"):
        built("KD_DAGFM", teacher="__import__('pathlib').Path('executed').mkdir()", **context)
    assert not is_executed()
    teacher = {"t_depth": 2, "t_embedding_size": 8, "depth": 2, "type": "inner"}
    assert built("KD_DAGFM", teacher="CrossNet", **teacher, **context)


def test_item_embeddings_of_ldiffrec_are_not_unpickled(built, here):
    path = here / "data" / "cycle" / "item_emb.npy"
    np.save(path, np.array([Payload()] * 8, dtype=object), allow_pickle=True)
    general = {"n_cate": 2, "repeatable": True, "embedding_size": 16}
    with pytest.raises(ValueError, match="allow_pickle=False"):
        built("LDiffRec", **general)
    assert not is_executed()


# --- models


def hostile_weights(folder):
    (folder / "model.safetensors").unlink()
    zipped(folder / "pytorch_model.bin")


def hostile_module(folder):
    (folder / "mark.py").write_text("import os\nos.mkdir('executed')\n")
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "mark.Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))


def hostile_activation(folder):
    hostile_module(folder)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "sentence_transformers.models.Transformer"
    modules.append(
        {"idx": len(modules), "name": "dense", "path": "dense", "type": "sentence_transformers.models.Dense"}
    )
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "dense").mkdir()
    (folder / "dense" / "config.json").write_text(
        json.dumps({"in_features": 384, "out_features": 4, "bias": True, "activation_function": "mark.Activation"})
    )


@pytest.mark.parametrize("poison", [hostile_weights, hostile_module, hostile_activation])
def test_loading_a_text_model_does_not_execute_its_files(poison, here, monkeypatch):
    shutil.copytree(MINILM.find().parent, here / "model")
    monkeypatch.syspath_prepend(str(here / "model"))  # as if the model's folder were the current one
    poison(here / "model")
    with pytest.raises(EncoderError, match="does not load"):
        create_encoder("text", ContentSettings(text_encoder=str(here / "model"))).encode(["a text"])
    assert not is_executed()


@pytest.mark.slow
@pytest.mark.parametrize("write", WRITERS)
def test_loading_an_image_checkpoint_does_not_execute_it(write, here):
    from io import BytesIO

    from PIL import Image

    write(here / "hostile.pt")
    settings = ContentSettings(image_encoder="ViT-S-32", image_weights="hostile.pt")
    image = BytesIO()
    Image.new("RGB", (8, 8)).save(image, "PNG")
    with pytest.raises(EncoderError, match="does not load"):
        create_encoder("image", settings).load(image)
    assert not is_executed()


def test_loading_an_audio_model_does_not_execute_its_weights(here):
    import transformers

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    transformers.ASTConfig(**small, max_length=1024).save_pretrained("model")
    transformers.ASTFeatureExtractor().save_pretrained("model")
    zipped(here / "model" / "pytorch_model.bin")
    sound = np.zeros((16_000, 1), dtype=np.float32)
    with pytest.raises(EncoderError, match="does not load"):
        create_encoder("audio", ContentSettings(audio_encoder="model")).encode([[sound[:, 0]]])
    assert not is_executed()


# --- the network


@pytest.mark.parametrize("model", ["Pop", "LLMInterest", "KGAT"])
def test_missing_data_set_is_not_downloaded(model, settings, network):
    """RecBole has a URL of ml-1m."""
    config = Config(model, "ml-1m", config_dict=settings)
    with pytest.raises(DataError, match=r"does not exist|are never downloaded"):
        create_dataset(config)
    with pytest.raises(DataError, match="there is no folder"):
        run([model], "ml-1m", config_dict=settings)
    assert not network


@pytest.mark.parametrize(
    "named",
    [{"text_encoder": "someone/text"}, {"image_encoder": "hf-hub:someone/image"}, {"image_encoder": "ViT-B-32"},
     {"audio_encoder": "someone/audio"}],
)  # fmt: skip
def test_hub_is_contacted_only_with_download_weights(named, network):
    (modality,) = (key.split("_")[0] for key in named)
    with pytest.raises(EncoderError, match="the hub is not asked unless download_weights=True"):
        create_encoder(modality, ContentSettings(**named)).prepare()
    assert not network
    with pytest.raises(EncoderError, match="and the download from the hub failed"):
        create_encoder(modality, ContentSettings(**named, download_weights=True)).prepare()
    assert network


def test_run_needs_no_network(settings, network, here):
    write_dataset(
        here / "data", "other", [(f"u{u}", f"i{i}", float(i)) for u in range(9) for i in range(6)], {"i1": "Heat"}
    )
    run(["LLMInterest", "Pop"], "other", config_dict={**settings, "epochs": 1})
    assert not network
