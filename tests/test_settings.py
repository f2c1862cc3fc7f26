"""Settings: one default, one reader, and a word for each mistake."""

from __future__ import annotations

import dataclasses
import re

import pytest
import yaml
from conftest import REPOSITORY
from recbole.config import Config

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.patches.security import literal
from recbole_llm_interest.settings import (
    ALL_SETTINGS,
    ContentSettings,
    ModelSettings,
    check_keys,
    read_settings,
    settings_keys,
)

YAML = yaml.safe_load((REPOSITORY / "properties" / "model" / "LLMInterest.yaml").read_text())
#: RecBole's own keys for which this model has another default
RECBOLE_OWN = {"learning_rate", "loss_type", "train_neg_sample_args"}


def test_yaml_and_code_have_the_same_settings():
    assert set(YAML) == set(settings_keys()) | RECBOLE_OWN


@pytest.mark.parametrize("settings", ALL_SETTINGS)
def test_yaml_and_code_have_the_same_defaults(settings):
    assert settings(**{field.name: YAML[field.name] for field in dataclasses.fields(settings)}) == settings()


def test_settings_page_lists_every_setting_with_its_default():
    page = (REPOSITORY / "docs" / "settings.md").read_text()
    for settings in (group() for group in ALL_SETTINGS):
        for field in dataclasses.fields(settings):
            default = yaml.safe_dump(YAML[field.name], default_flow_style=True).removesuffix("...\n").strip()
            default = "~" if YAML[field.name] is None else default
            row = f"| `{field.name}` | `{default}` | {field.default.description} |"
            assert row in page, f"docs/settings.md lacks: {row}"


def test_defaults_reach_recbole(settings):
    config = Config("LLMInterest", "cycle", config_dict={key: settings[key] for key in ("data_path",)})
    for of in ALL_SETTINGS:
        assert read_settings(of, config) == of()


@pytest.mark.parametrize(
    ("key", "suggestion"), [("temprature", "temperature"), ("ssl_shaer", "ssl_share"), ("epoch", "epochs")]
)
def test_misspelt_key_is_an_error_with_a_suggestion(built, key, suggestion):
    with pytest.raises(SettingsError, match=rf"unknown setting '{key}': did you mean '{suggestion}'\?"):
        built(**{key: 1})


@pytest.mark.parametrize("key", ["n_heads", "tail_ratio", "worker", "mlp_hidden_size", "selected_features", "nproc"])
def test_keys_of_recbole_are_known(key):
    check_keys([key])


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0},
        {"dropout_prob": 1.0},
        {"hidden_size": "wide"},
        {"feature_conditioning": "bleach"},
        {"modalities": ["smell"]},
        {"use_item_id": "perhaps"},
        {"eval_scores_mb": 0},
    ],
)
def test_value_out_of_range_is_an_error_that_names_it(built, wrong):
    (key,) = wrong
    with pytest.raises(SettingsError, match=key):
        built(**wrong)


@pytest.mark.parametrize(
    ("settings", "key", "words", "shown"),
    [
        (ContentSettings, "modalities", "text, image", "['text','image']"),
        (ContentSettings, "item_text_fields", "title", "['title']"),
        (ModelSettings, "time_features", "gap,hour", "['gap','hour']"),
    ],
)
def test_list_that_is_given_as_words_is_an_error_that_shows_how_to_write_it(settings, key, words, shown):
    with pytest.raises(
        SettingsError, match=re.escape(f'"--{key}={shown}" on the command line, {key}: {shown} in YAML')
    ):
        read_settings(settings, {key: words})
    for as_given in (literal(shown), yaml.safe_load(shown)):
        assert getattr(read_settings(settings, {key: as_given}), key) == tuple(re.findall(r"\w+", words))
