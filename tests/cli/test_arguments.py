"""The words of the command line: settings with an equals sign or without, and lists as words."""

from __future__ import annotations

import pytest

from recbole_llm_interest.cli.arguments import data_set_parser, parse_arguments
from recbole_llm_interest.errors import SettingsError


def parsed(words):
    return parse_arguments(data_set_parser("test", "test"), words)


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (["--data_path=data"], {"data_path": "data"}),
        (["--data_path", "data"], {"data_path": "data"}),
        (["--epochs", "3", "--learning_rate", "-1"], {"epochs": "3", "learning_rate": "-1"}),
        (["--note=a=b"], {"note": "a=b"}),
        (["--item_text_fields", "~"], {"item_text_fields": None}),
        (["--item_text_fields=None"], {"item_text_fields": "None"}),
        (["--time_split", "None"], {"time_split": "None"}),
        (["--modalities=text,image"], {"modalities": "['text', 'image']"}),
        (["--modalities", "text"], {"modalities": "['text']"}),
        (["--modalities=['text','image']"], {"modalities": "['text','image']"}),
        (["--benchmark_filename=train,valid,test"], {"benchmark_filename": "['train', 'valid', 'test']"}),
        (["--time_split=2011-09-30,2011-10-31"], {"time_split": "['2011-09-30', '2011-10-31']"}),
        (["--topk=5, 10"], {"topk": "[5, 10]"}),
        (["--metrics", "Recall,NDCG"], {"metrics": "['Recall', 'NDCG']"}),
    ],
)
def test_settings_are_read_however_they_are_written(words, settings):
    options, found = parsed(["--dataset", "cycle", *words])
    assert options.dataset == "cycle"
    assert found == settings


@pytest.mark.parametrize("words", [["data"], ["--epochs"], ["--epochs", "--seed=1"], ["--=3"], ["--epochs=3", "4"]])
def test_word_that_belongs_to_no_setting_is_named(words):
    with pytest.raises(SettingsError, match="is not understood; settings are written --key=value"):
        parsed(words)
