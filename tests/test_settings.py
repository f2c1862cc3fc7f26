"""Settings: one source of code, YAML file, documentation and help; unknown keys and values are errors."""

from __future__ import annotations

import dataclasses
import re

import pytest
import yaml
from conftest import REPOSITORY
from recbole.config import Config

from recbole_llm_interest.cli import arguments
from recbole_llm_interest.cli.arguments import data_set_parser, parse_arguments
from recbole_llm_interest.cli.settings import generated_files, main
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.literals import parse_literal
from recbole_llm_interest.settings import (
    ALL_SETTINGS,
    BASELINE_SETTINGS,
    OBJECTIVE_WEIGHT,
    REGISTRIES,
    ContentSettings,
    ModelSettings,
    Registry,
    baseline_keys,
    check_keys,
    read_settings,
    settings_keys,
    ssl_weights,
)
from recbole_llm_interest.settings.rendering import settings_by_section

YAML = yaml.safe_load((REPOSITORY / "properties" / "model" / "LLMInterest.yaml").read_text())
#: RecBole's own keys for which this model has another default
RECBOLE_OWN = {"learning_rate", "loss_type", "train_neg_sample_args"}
#: of each baseline, what its file says
BASELINE_YAML = {
    name: yaml.safe_load((REPOSITORY / "properties" / "model" / f"{name}.yaml").read_text())
    for name in BASELINE_SETTINGS
}
#: every setting and its default, in the order of the documentation
EVERY = {
    **YAML,
    **{key: value for values in BASELINE_YAML.values() for key, value in values.items() if key not in YAML},
}
MARKDOWN = (REPOSITORY / "docs" / "settings.md").read_text()


def test_yaml_and_code_have_the_same_settings():
    assert set(YAML) == set(settings_keys()) | RECBOLE_OWN


@pytest.mark.parametrize("settings", ALL_SETTINGS)
def test_yaml_and_code_have_the_same_defaults(settings):
    assert settings(**{field.name: YAML[field.name] for field in dataclasses.fields(settings)}) == settings()


@pytest.mark.parametrize("model", BASELINE_SETTINGS)
def test_yaml_and_code_have_the_same_settings_of_baselines(model):
    own = {"MAX_ITEM_LIST_LENGTH", "loss_type", "train_neg_sample_args"}
    assert BASELINE_YAML[model].keys() == {*baseline_keys(model), *own}
    for settings in BASELINE_SETTINGS[model]:
        assert read_settings(settings, BASELINE_YAML[model]) == settings()


@pytest.mark.parametrize("path", generated_files(), ids=lambda path: path.name)
def test_generated_files_are_up_to_date(path):
    assert path.read_text() == generated_files()[path], "run: make settings"


def test_docs_list_every_setting_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", MARKDOWN, re.MULTILINE))
    assert rows.keys() == EVERY.keys()
    for settings in (group() for group in (*ALL_SETTINGS, *sum(BASELINE_SETTINGS.values(), ()))):
        for field in dataclasses.fields(settings):
            default, meaning = rows[field.name].rsplit(" | ", 2)[1:]
            assert yaml.safe_load(default.strip("`").replace("~", "null") or "''") == EVERY[field.name]
            assert meaning == field.default.description


def test_every_setting_has_a_section_and_a_meaning():
    for section, settings in settings_by_section().items():
        assert section
        assert all(setting.meaning and "\n" not in setting.meaning for setting in settings)


@pytest.mark.parametrize("name", ["tracker", "fusion", "feature_conditioning", "projection", "score", "time_features"])
def test_enumerations_name_their_values(name):
    (setting,) = [
        setting for settings in settings_by_section().values() for setting in settings if setting.name == name
    ]
    assert len(setting.values) > 1
    for value in setting.values:
        read_settings(
            next(group for group in ALL_SETTINGS if name in group.__annotations__),
            {name: [value] if setting.type == "list" else value},
        )
    assert f"| {setting.type} {', '.join(f'`{value}`' for value in setting.values)} |" in MARKDOWN


def test_help_lists_every_setting(capsys):
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert re.findall(r"^  --(\w+)=", listed, re.MULTILINE) == [
        setting.name for group in settings_by_section().values() for setting in group
    ]
    assert max(map(len, listed.splitlines())) <= 80
    assert listed.strip() in arguments.data_set_parser("compare", "compares").format_help()


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


def test_key_unlike_any_other_is_an_error_that_names_the_list():
    with pytest.raises(SettingsError, match=r"^unknown setting 'qqqq'; docs/settings\.md lists the settings$"):
        check_keys(["qqqq"])


@pytest.mark.parametrize("key", ["n_heads", "tail_ratio", "worker", "mlp_hidden_size", "selected_features", "nproc"])
def test_keys_of_recbole_are_known(key):
    check_keys([key])


@pytest.mark.slow
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
        built(**{"text_encoder": "hashing"} | wrong)


@pytest.mark.parametrize(
    ("settings", "key", "words", "shown"),
    [
        (ContentSettings, "modalities", "text, image", "text,image"),
        (ContentSettings, "item_text_fields", "title", "title"),
        (ModelSettings, "time_features", "gap,hour", "gap,hour"),
    ],
)
def test_list_that_is_given_as_words_is_an_error_that_shows_how_to_write_it(settings, key, words, shown):
    in_yaml = f"[{shown.replace(',', ', ')}]"
    with pytest.raises(
        SettingsError, match=re.escape(f"written --{key}={shown} on the command line, {in_yaml} in YAML")
    ):
        read_settings(settings, {key: words})
    _, on_the_command_line = parse_arguments(data_set_parser("test", "test"), [f"--{key}={shown}"])
    for as_given in (parse_literal(on_the_command_line[key]), yaml.safe_load(in_yaml)):
        assert getattr(read_settings(settings, {key: as_given}), key) == tuple(re.findall(r"\w+", words))


@pytest.mark.parametrize("template", ["{title}", "{title} ({year})", "{summary}: {review}", "About {title}"])
def test_template_on_the_command_line_is_text(template):
    _, given = parse_arguments(data_set_parser("test", "test"), [f"--item_text_template={template}"])
    with pytest.raises(SyntaxError):  # RecBole then keeps the text
        parse_literal(given["item_text_template"])


@pytest.fixture
def registry(monkeypatch):
    """Replace the registry of fusions by one with two members."""
    monkeypatch.setitem(REGISTRIES, "fusion", Registry("fusion"))
    for name in ("gated", "toy"):
        REGISTRIES["fusion"].register(name)(object)
    return REGISTRIES["fusion"]


def test_registered_implementation_is_a_value(registry):
    assert read_settings(ModelSettings, {"fusion": "toy"}).fusion == "toy"


@pytest.mark.parametrize(("name", "hint"), [("gatde", "did you mean 'gated'? "), ("zzz", "")])
def test_unknown_implementation_is_an_error_that_lists_the_known_ones(registry, name, hint):
    message = f"fusion={name!r} is not a value of this setting: {hint}known are gated, toy"
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}$"):
        read_settings(ModelSettings, {"fusion": name})
    with pytest.raises(SettingsError, match=f"^{re.escape(f'unknown fusion {name!r}: {hint}known are gated, toy')}$"):
        registry[name]


def test_lazily_registered_implementation_is_imported_on_first_use():
    registry = Registry("module")
    registry.register_lazy("path", "os.path:join")
    registry.register_lazy("missing", "no_such_module:thing")
    assert list(registry) == ["path", "missing"]
    assert registry["path"]("a", "b") == "a/b"
    with pytest.raises(ModuleNotFoundError):
        registry["missing"]


@pytest.fixture
def objectives(monkeypatch):
    """Replace the registry of SSL objectives by one with an objective of the package and one from outside."""
    monkeypatch.setitem(REGISTRIES, OBJECTIVE_WEIGHT, Registry("SSL objective"))
    for name in ("toy", "views"):
        REGISTRIES[OBJECTIVE_WEIGHT].register(name)(object)


def test_weights_of_objectives_come_in_order_without_zeros(objectives):
    assert ssl_weights({}) == {"walks": 4.0}
    weights = ssl_weights({"ssl_toy_weight": 2, "ssl_modalities_weight": 0.5, "ssl_walks_weight": 0.0})
    assert list(weights.items()) == [("modalities", 0.5), ("toy", 2.0)]


def test_external_objective_has_a_setting(objectives, built):
    check_keys(["ssl_toy_weight"])
    assert settings_keys()[-1] == "ssl_toy_weight"
    with pytest.raises(SettingsError, match=r"^ssl_toy_weight=-1 is not a value of this setting"):
        ssl_weights({"ssl_toy_weight": -1})
    with pytest.raises(SettingsError, match=r"unknown setting 'ssl_toi_weight': did you mean 'ssl_toy_weight'\?"):
        built(ssl_toi_weight=1)


def test_setting_of_an_objective_that_is_not_registered_is_unknown():
    with pytest.raises(SettingsError, match="unknown setting 'ssl_toy_weight'"):
        check_keys(["ssl_toy_weight"])


def test_value_of_many_parts_is_a_short_message():
    with pytest.raises(SettingsError) as caught:
        read_settings(ContentSettings, {"controlled_content": ["nothing"] * 20_000})
    assert len(str(caught.value)) < 1500
