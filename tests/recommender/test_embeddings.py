"""Representations are what RecBole's other models load, and what the recommender computes."""

from __future__ import annotations

import shutil

import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset

from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.recommender.embeddings import LOADING, write_embeddings


def test_recbole_loads_what_the_recommender_computes(tiny_checkpoint, tiny_model, here, settings):
    recommender = Recommender(tiny_model)
    shutil.copytree(tiny_checkpoint.parent.parent / "data" / "tiny", here / "data" / "tiny")
    write_embeddings(recommender, here / "data" / "tiny", history="training", steps=1)
    (here / "load.yaml").write_text(LOADING)
    config = Config("BPR", "tiny", [str(here / "load.yaml")], {**settings, "data_path": str(here / "data")})
    dataset = create_dataset(config)
    items = torch.from_numpy(dataset.get_preload_weight("item_emb_id")).float()
    rows = recommender.items.find(dataset.field2id_token["item_id"][1:].tolist())
    assert torch.allclose(items[1:], recommender.items.representations[rows], atol=1e-4)
    users = torch.from_numpy(dataset.get_preload_weight("user_emb_id")).float()
    for row in (3, 5):
        user = str(dataset.field2id_token["user_id"][row])
        before, *_ = recommender.replay(recommender.start(user), events=2)
        assert torch.allclose(users[row], before.interest[0], atol=1e-4)


def test_history_of_training_leaves_out_what_is_tested(tiny_model):
    recommender = Recommender(tiny_model)
    everything, trained = recommender.start("u3"), recommender.start("u3", history="training")
    assert int(trained.length) == int(everything.length) - 2
    before, *_ = recommender.replay(everything, events=2)
    assert torch.allclose(before.interest, trained.interest, atol=1e-6)


def test_files_of_others_are_not_overwritten(tiny_model, here):
    (here / "tiny.itememb").write_text("entity:token\tvector:float_seq\n")
    with pytest.raises(RequestError, match="was not written by this command"):
        write_embeddings(Recommender(tiny_model), here)
    assert (here / "tiny.itememb").read_text().startswith("entity")


def test_interest_ahead_is_after_the_likeliest_events(tiny_model, here):
    recommender = Recommender(tiny_model)
    _, path = write_embeddings(recommender, here / "made", steps=2)
    header, first, *_ = path.read_text().splitlines()
    assert header.split("\t")[2] == "user_emb_next:float_seq"
    user, _, ahead = first.split("\t")
    *_, last = recommender.forecast(recommender.start(user), steps=2)
    assert [*map(float, ahead.split())] == pytest.approx(last.state.interest[0].tolist(), abs=1e-4)


def test_negative_numbers_are_refused(tiny_model, here):
    with pytest.raises(RequestError, match="steps=-1"):
        write_embeddings(Recommender(tiny_model), here / "made", steps=-1)
    assert not (here / "made").exists()
