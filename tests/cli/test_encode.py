"""Encoding as a job of its own, and the three-modality way from content to recommendations."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import QUICK, REPOSITORY
from PIL import Image
from safetensors.numpy import load_file

from recbole_llm_interest.cli.encode import main


@pytest.fixture(scope="session")
def daily_data(tmp_path_factory):
    """The project's own data set, made by its script."""
    folder = tmp_path_factory.mktemp("data")
    subprocess.run([sys.executable, str(REPOSITORY / "data" / "make_daily.py"), str(folder)], check=True)
    return folder


@pytest.fixture
def daily(here, daily_data, feature_cache):
    """A copy of it in the current directory, and the settings to use it by."""
    shutil.copytree(daily_data, here / "data")
    return {**QUICK, "data_path": str(here / "data"), "feature_cache": str(feature_cache), "text_encoder": "hashing"}


def words(settings):
    keys = ("data_path", "feature_cache", "text_encoder")
    return ["--dataset=daily", *(f"--{key}={settings[key]}" for key in keys)]


def summaries_of(out):
    return {(s["kind"], s["modality"]): s for s in json.loads(out.splitlines()[-1])["summaries"]}


def rows_below(cache):
    shards = [load_file(path) for path in cache.rglob("*.safetensors")]
    return {key.tobytes(): row for shard in shards for key, row in zip(shard["keys"], shard["features"], strict=True)}


@pytest.mark.slow
def test_data_set_is_the_same_every_time(daily_data, tmp_path):
    subprocess.run([sys.executable, str(REPOSITORY / "data" / "make_daily.py"), str(tmp_path)], check=True)
    files = sorted(path.relative_to(daily_data) for path in daily_data.rglob("*") if path.is_file())
    assert len(files) > 100
    for file in files:
        assert (daily_data / file).read_bytes() == (tmp_path / file).read_bytes(), file


@pytest.mark.slow
def test_ada_reads_technology_history_and_finance_on_successive_days(daily_data):
    lines = [line.split("\t") for line in (daily_data / "daily" / "daily.inter").read_text().splitlines()]
    hers = [(item.split("-")[0], int(time) // 86_400) for user, item, time in lines if user == "ada"]
    assert [topic for topic, _ in hers[:4]] == ["technology", "history", "finance", "technology"]
    assert [day - hers[0][1] for _, day in hers] == list(range(13))


@pytest.mark.slow
def test_second_job_encodes_nothing(daily, capsys, tmp_path):
    daily["feature_cache"] = str(tmp_path / "cache")
    assert main([*words(daily), "--json"]) == 0
    first = summaries_of(capsys.readouterr().out)
    assert {key: (s["encoded"], len(s["missing"]), len(s["refused"])) for key, s in first.items()} == {
        ("item", "text"): (56, 8, 0),
        ("item", "image"): (48, 16, 0),
        ("item", "audio"): (48, 16, 0),
        ("user", "text"): (108, 36, 0),
        ("user", "image"): (48, 96, 0),
        ("user", "audio"): (24, 120, 0),
    }
    assert main([*words(daily), "--json"]) == 0
    out = capsys.readouterr().out
    second = summaries_of(out)
    assert all(s["encoded"] == 0 and s["cached"] == first[key]["encoded"] for key, s in second.items())
    assert "| items' audio | librosa" in out
    assert f"features of daily: {daily['feature_cache']}" in out


@pytest.mark.slow
def test_bad_media_are_listed_and_the_rest_is_encoded(daily, here, capsys):
    media = here / "data" / "daily" / "content"
    (media / "images" / "history-1.png").write_bytes(b"no image")
    (media / "audio" / "music-1.wav").write_bytes(b"RIFF")
    (media / "images" / "travel-1.png").unlink()
    assert main([*words(daily), "--json"]) == 0
    out = capsys.readouterr().out
    refused = summaries_of(out)["item", "image"]["refused"]
    assert set(refused) == {"history-1", "travel-1"}
    assert "rejected: item 'history-1': image is not a readable image" in out
    assert "rejected: item 'music-1': audio is no" in out
    assert main([*words(daily), "--strict"]) == 2
    assert (
        "2 of 64 items have image content that cannot be used ('history-1' is not a readable image"
        in capsys.readouterr().err
    )


def test_items_that_only_interactions_name_are_missing_too(settings, here, capsys):
    """And a data set without any catalogue has a summary all the same."""
    from conftest import cycle_events, write_dataset

    write_dataset(here / "data", "bare", cycle_events())
    command = ["--dataset=bare", f"--data_path={settings['data_path']}", "--json"]
    assert main(command) == 0
    summary = summaries_of(capsys.readouterr().out)["item", "text"]
    assert (summary["tokens"], len(summary["missing"])) == (8, 8)
    assert main([*command, "--strict"]) == 2
    assert "8 of 8 items have no text ('i0', 'i1'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "visible"),
    [("--seed=1", "0"), ("--gpu_id=1", "1"), ("--gpu_id=", ""), ("--gpu_id=1,0", "1,0"), ("--gpu_id=[0,1]", "0,1")],
)
def test_encoders_see_the_gpus_of_gpu_id(settings, monkeypatch, word, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert main(["--dataset=cycle", f"--data_path={settings['data_path']}", "--text_encoder=hashing", word]) == 0
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible


def test_protocol_of_a_file_may_say_only_the_split(settings, here):
    (here / "split.yaml").write_text("eval_args: {split: {LS: valid_and_test}}\n")
    words = ["--dataset=cycle", f"--data_path={settings['data_path']}", "--text_encoder=hashing"]
    assert main([*words, "--config_files=split.yaml"]) == 0


def test_mistakes_are_one_line_and_exit_2(daily, capsys):
    for mistake in ("--image_encoder=local-dir:/no/such", "--item_audio_features=nowhere.npy", "--modalitys=[text]"):
        assert main([*words(daily), mistake]) == 2
        (error,) = capsys.readouterr().err.strip().splitlines()[-1:]
        assert error.startswith("error: ")


@pytest.mark.slow
def test_several_processes_share_the_work(daily, tmp_path):
    """Under torch's own launcher; the result is that of one process."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    job = ["-m", "recbole_llm_interest.content.encode", *words({**daily, "feature_cache": tmp_path / "c"}), "--json"]
    done = subprocess.run([*launcher, *job], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    together = summaries_of(done.stdout)
    assert (together["item", "text"]["encoded"], together["item", "text"]["cached"]) == (56, 0)
    assert together["user", "audio"]["encoded"] == 24
    alone = tmp_path / "alone"
    assert main(words({**daily, "feature_cache": alone})) == 0
    rows, expected = (rows_below(folder) for folder in (tmp_path / "c", alone))
    assert rows.keys() == expected.keys()
    assert all(np.allclose(rows[key], expected[key], atol=1e-5) for key in rows)
    assert done.stdout.count("features of daily") == 1


@pytest.fixture
def trained(daily):
    """The three-modality model after a short training: config, model, dataset, train, valid, test, trainer."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    config = Config("LLMInterest", "daily", config_dict={**daily, "MAX_ITEM_LIST_LENGTH": 20, "topk": [10],
                    "valid_metric": "NDCG@10", "embedding_size": 32, "epochs": 25, "learning_rate": 0.01})  # fmt: skip
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    model = get_model("LLMInterest")(config, train._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], "LLMInterest")(config, model)
    trainer.fit(train, valid, verbose=False, saved=False)
    return model, dataset, train, test, trainer


@pytest.mark.slow
def test_three_modalities_find_the_topic_of_the_next_day(trained):
    model, dataset, _, test, trainer = trained
    assert set(dataset.item_content) == set(dataset.user_content) == {"text", "image", "audio"}
    assert model.item_encoder.modalities == ["audio", "image", "text", "id"]
    assert trainer.evaluate(test, load_best_model=False)["recall@10"] > 0.9  # chance is 10 of 64
    weights = model.item_encoder.weights()
    without_sound = dataset.token2id(dataset.iid_field, "music-5")
    assert weights[without_sound, 0] == 0
    assert weights[without_sound].sum() == pytest.approx(1)


@pytest.mark.slow
def test_losing_modalities_leaves_scores_and_training_finite(trained):
    """Any one of them, or all, for some or all of the items and users."""
    model, _, train, test, trainer = trained
    chance = torch.Generator().manual_seed(0)
    fusions = (model.item_encoder, model.user_encoder)
    whole = [fusion.present.clone() for fusion in fusions]
    everything = ["text", "image", "audio", "id"]
    for lost, share in itertools.product([["text"], ["image"], ["audio"], ["id"], everything], [0.5, 1.0]):
        for fusion, present in zip(fusions, whole, strict=True):
            fusion.present.copy_(present)
            for modality in set(lost) & set(fusion.modalities):
                rows = (torch.rand(len(present), generator=chance) < share).nonzero().view(-1)
                fusion.drop_modality(modality, rows)
        assert np.isfinite(trainer.evaluate(test, load_best_model=False)["recall@10"])
        assert model.full_sort_predict(next(iter(test))[0])[:, 1:].isfinite().all()  # but the padding's
        model.train()
        model.zero_grad()
        loss = sum(model.calculate_loss(next(iter(train))))
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_imported_features_stand_in_for_encoding(daily, here, capsys):
    from recbole.config import Config
    from recbole.data import create_dataset

    folder = here / "data" / "daily"
    tokens = [json.loads(line)["item_id"] for line in (folder / "content" / "items.jsonl").read_text().splitlines()]
    np.save(folder / "sound.npy", np.random.default_rng(0).normal(size=(60, 5)))
    (folder / "sound.ids.txt").write_text("\n".join(tokens[:60]))
    config = Config("LLMInterest", "daily", config_dict={**daily, "item_audio_features": "sound.npy",
                                                         "feature_conditioning": "none"})  # fmt: skip
    dataset = create_dataset(config)
    features = dataset.item_content["audio"]
    assert features.values.shape == (65, 5)
    assert int(features.present.sum()) == 60
    row = dataset.token2id(dataset.iid_field, tokens[7])
    assert np.allclose(features.values[row], np.load(folder / "sound.npy")[7], atol=1e-5)


@pytest.mark.slow
def test_training_on_features_that_are_there_needs_no_encoder_library(daily):
    """Neither transformers, open_clip nor librosa may be imported once everything is encoded."""
    program = (
        "import sys, recbole_llm_interest\n"
        "from recbole_llm_interest.cli.compare import main\n"
        "for name in ('transformers', 'sentence_transformers', 'open_clip', 'librosa', 'soundfile', 'PIL'):\n"
        "    sys.modules[name] = None\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    assert main(words(daily)) == 0
    command = [sys.executable, "-c", program, "--model=LLMInterest", "--epochs=1", *words(daily)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_users_without_content_need_no_other_settings(daily, here, capsys):
    """daily's own settings file names columns of users.jsonl."""
    users = here / "data" / "daily" / "content" / "users.jsonl"
    users.unlink()
    assert main(words(daily)) == 0
    from recbole.config import Config
    from recbole.data import create_dataset

    dataset = create_dataset(Config("LLMInterest", "daily", config_dict=daily))
    assert dataset.user_content == {}
    assert set(dataset.item_content) == {"text", "image", "audio"}
    users.write_text('{"user_id": "ada", "job": "engineer"}\n')
    assert main(words(daily)) == 2
    assert "user_text_template names 'occupation', which" in capsys.readouterr().err


def test_picture_of_every_topic_can_be_told_from_the_others(daily_data):
    """The drawn images are what the weights-free encoder needs: nearest neighbours share their topic."""
    from recbole_llm_interest.content.encoders.weights_free import ColorHistogramEncoder

    encoder = ColorHistogramEncoder()
    files = sorted(path for path in (daily_data / "daily" / "content" / "images").iterdir() if "user" not in path.name)
    files = [path for path in files if path.name != "ada.png"]
    features = encoder.encode([encoder.load(path.open("rb")) for path in files])
    topics = [path.name.split("-")[0] for path in files]
    distance = np.linalg.norm(features[:, None] - features[None], axis=-1) + 1e9 * np.eye(len(files))
    right = sum(topics[i] == topics[j] for i, j in enumerate(distance.argmin(axis=1)))
    assert right / len(files) > 0.9
    assert Image.open(files[0]).size == (96, 96)
