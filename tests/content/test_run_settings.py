"""The settings that are merged without RecBole are those of RecBole."""

from __future__ import annotations

import pytest
from recbole.config import Config

from recbole_llm_interest.content.run_settings import read_run_settings
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.settings import PROPERTIES

#: what RecBole computes from others, or what this package leaves to it
COMPUTED = {"data_path", "eval_args", "gpu_id", "load_col", "topk", "metrics"}


@pytest.mark.parametrize("model", ["LLMInterest", "VSKNN", "GRU4Rec", "Pop", "rectools:SASRec", "rectools:UniSRec"])
@pytest.mark.parametrize("dataset", ["mine", "ml-100k", "daily"])
def test_settings_are_those_of_recbole(model, dataset, here):
    (here / "a.yaml").write_text("embedding_size: 32\ndata_path: elsewhere\nTIME_FIELD: when\n")
    (here / "b.yaml").write_text("embedding_size: 16\nload_col: {inter: [user_id, item_id, when]}\n")
    overrides = {"data_path": "data", "epochs": "7", "strict_data": "true", "item_text_fields": "['title']"}
    files = ["a.yaml", "b.yaml"]
    config = Config(model, dataset, [str(PROPERTIES / "protocol.yaml"), *files], dict(overrides))
    merged = read_run_settings(model, dataset, files, overrides)
    keys = {"USER_ID_FIELD", "TIME_FIELD", "LIST_SUFFIX", "encoding", "checkpoint_dir", "benchmark_filename"}
    keys |= {"field_separator", "seq_separator", "unload_col", "embedding_size", "item_text_fields", "modalities"}
    for key in (keys | {*merged.external_config_dict}) - COMPUTED:
        assert merged[key] == config[key], key
    assert merged["eval_args"] == config["eval_args"]
    assert merged["eval_args"]["order"] == "TO"
    assert merged["load_col"] == config["load_col"]
    assert merged.external_config_dict.keys() == config.external_config_dict.keys()
    if dataset != "ml-100k":
        assert merged["data_path"] == config["data_path"] == f"data/{dataset}"
    assert [path.name for path in here.iterdir() if path.suffix != ".yaml"] == []


@pytest.mark.parametrize(
    "given",
    [{}, {"split": {"LS": "valid_and_test"}}, {"order": "TO", "mode": "uni100"}, {"mode": {"test": "uni50"}},
     {"mode": {"valid": "uni50"}}, {"group_by": None, "mode": {}}],
)  # fmt: skip
def test_parts_of_eval_args_are_completed_as_by_recbole(given, here):
    config = Config("GRU4Rec", "mine", config_dict={"eval_args": dict(given), "train_neg_sample_args": None})
    assert read_run_settings("GRU4Rec", "mine", overrides={"eval_args": given})["eval_args"] == config["eval_args"]


def test_eval_args_that_are_no_dictionary_are_named(here):
    with pytest.raises(SettingsError, match="eval_args=5 is no dictionary"):
        read_run_settings("GRU4Rec", "mine", overrides={"eval_args": "5"})
