"""Settings that a model does not read are named, and those that it reads are not."""

from __future__ import annotations

import pytest

from recbole_llm_interest.settings import settings_keys
from recbole_llm_interest.settings.readers import unread_settings
from recbole_llm_interest.settings.recbole_sources import keys_in_yaml, recbole_folder


@pytest.mark.parametrize(
    ("model", "given", "unread"),
    [
        ("LLMInterest", {"n_heads": 4, "n_layers": 2, "num_heads": 4, "epochs": 3}, {"n_heads", "n_layers"}),
        (
            "LLMInterest",
            {"loss_type": "BPR", "train_neg_sample_args": {"sample_num": 1}},
            {"loss_type", "train_neg_sample_args"},
        ),
        ("LLMInterest", {"loss_type": "CE", "train_neg_sample_args": None}, set()),
        ("VSKNN", {"k": 50, "loss_type": "BPR"}, {"loss_type"}),
        ("GRU4Rec", {"loss_type": "BPR", "train_neg_sample_args": {"sample_num": 1}, "num_heads": 2}, {"num_heads"}),
        ("SASRec", {"n_heads": 4, "hidden_size": 32, "time_split": None, "temperature": 0.1}, {"temperature"}),
        ("Pop", {"text_encoder": "hashing", "seen_items": "kept", "strict_data": True}, {"text_encoder"}),
        ("TransitionText", {"item_text_fields": ["title"], "tracker": "gru"}, {"tracker"}),
    ],
)
def test_settings_that_a_model_does_not_read(model, given, unread):
    assert unread_settings([(model, given)]).keys() == unread


def test_setting_of_one_of_two_models_has_an_effect():
    assert unread_settings([("LLMInterest", {"n_heads": 4}), ("SASRec", {"n_heads": 4})]) == {}
    rows = [("LLMInterest", {"n_heads": 4}), ("SASRec", {"num_heads": 4})]
    assert unread_settings(rows) == {
        "n_heads": "LLMInterest has no such setting; LLMInterest has num_heads",
        "num_heads": "SASRec has no such setting",
    }


def test_every_setting_in_the_files_of_a_model_has_an_effect_on_it():
    assert unread_settings([("LLMInterest", dict.fromkeys(settings_keys(), 1))]) == {}
    files = (recbole_folder() / "properties" / "model").glob("*.yaml")
    models = {path.stem: dict.fromkeys(keys_in_yaml(path)) for path in files}
    assert len(models) > 90
    assert {model: unread for model in models if (unread := unread_settings([(model, models[model])]))} == {}
