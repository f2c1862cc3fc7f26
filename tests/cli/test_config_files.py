"""``model`` and ``dataset`` in config files, with RecBole's precedence, in every command that takes such files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from conftest import cycle_events, write_dataset

from recbole_llm_interest.cli import compare, encode, forget, tune
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.training.comparison import run
from recbole_llm_interest.training.config import configure
from recbole_llm_interest.training.unused import warn_of_unused


@pytest.fixture
def files(settings, here):
    """Two data sets, and files of settings: ``pop.yaml`` names Pop and ``cycle``, ``other.yaml`` the other one."""
    write_dataset(here / "data", "other", cycle_events(users=12), {f"i{n}": f"film {n}" for n in range(8)})
    quick = settings | {"epochs": 1, "checkpoint_dir": str(here / "saved")}
    (here / "pop.yaml").write_text(yaml.safe_dump(quick | {"model": "Pop", "dataset": "cycle"}))
    (here / "other.yaml").write_text("dataset: other\n")
    (here / "two.yaml").write_text("model: [GRU4Rec, Pop]\n")
    (here / "comma.yaml").write_text("model: GRU4Rec, Pop\n")
    return here


def trained(*words):
    """Model and data set of each run of ``compare``."""
    assert compare.main(["--table=table", *words]) == 0
    return [(row["model"], row["dataset"]) for row in json.loads(Path("table.json").read_text())]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--config_files=pop.yaml"], [("Pop", "cycle")]),
        (["--config_files=pop.yaml other.yaml"], [("Pop", "other")]),
        (["--config_files=other.yaml pop.yaml"], [("Pop", "cycle")]),
        (["--config_files=pop.yaml", "--dataset=other"], [("Pop", "other")]),
        (["--config_files=pop.yaml", "--model=ItemKNN"], [("ItemKNN", "cycle")]),
        (["--config_files=pop.yaml two.yaml"], [("GRU4Rec", "cycle"), ("Pop", "cycle")]),
        (["--config_files=pop.yaml comma.yaml"], [("GRU4Rec", "cycle"), ("Pop", "cycle")]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0], str) else "",
)
def test_comparison_trains_what_the_files_name(files, words, expected):
    assert trained(*words) == expected


def test_rows_take_precedence_over_files_and_say_so(files, caplog):
    Path("rows.yaml").write_text("mine: {model: ItemKNN}\n")
    assert trained("--config_files=pop.yaml", "--rows=rows.yaml") == [("ItemKNN", "cycle")]
    assert "model=Pop in the config files has no effect: rows.yaml names models" in caplog.text


def test_python_takes_models_and_data_set_from_files(files):
    (result,) = run(config_file_list=["pop.yaml"])
    assert (result.model, result.dataset, result.variant) == ("Pop", "cycle", "Pop")
    assert not {"model", "dataset"} & result.settings.keys()
    (result,) = run(config_file_list=["pop.yaml"], config_dict={"dataset": "other", "model": ["ItemKNN"]})
    assert (result.model, result.dataset) == ("ItemKNN", "other")
    config = configure(files=["pop.yaml"])
    assert (config["model"], config["dataset"]) == ("Pop", "cycle")


def test_defaults_are_used_where_nothing_is_named(here):
    config = configure()
    assert (config["model"], config["dataset"]) == ("LLMInterest", "ml-100k")


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((["GRU4Rec"], "cycle"), {"model": "Pop"}, "model=Pop would have no effect: GRU4Rec is also given"),
        ((["Pop"], "cycle"), {"dataset": "other"}, "dataset=other would have no effect: cycle is also given"),
        (((), None), {"model": 7}, "model=7 is neither a name of a model"),
        (((), None), {"dataset": ["cycle"]}, r"dataset=\['cycle'\] is not the name of a data set"),
        (((), None), {"dataset": 2024}, "give one name; put numbers in quotes"),
    ],
)
def test_settings_that_would_be_ignored_are_errors(files, arguments, settings, message):
    with pytest.raises(SettingsError, match=message):
        run(*arguments, config_file_list=["pop.yaml"], config_dict=settings)


def test_row_with_a_data_set_of_its_own_is_an_error(files, capsys):
    Path("rows.yaml").write_text("mine: {model: Pop, dataset: other}\n")
    assert compare.main(["--config_files=pop.yaml", "--rows=rows.yaml"]) == 2
    assert "dataset=other would have no effect: cycle is also given" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["seeds: 3", "table: x", "resume: x.pth", "rows: r.yaml", "config_files: a.yaml"])
def test_option_of_the_command_line_in_a_file_is_an_error(files, capsys, option):
    Path("option.yaml").write_text(option + "\n")
    assert compare.main(["--config_files=pop.yaml option.yaml"]) == 2
    name = option.partition(":")[0]
    assert f"{name} is an option of the command line, not a setting: give --{name}" in capsys.readouterr().err


def test_search_is_of_the_model_and_data_set_that_files_name(files, capsys):
    Path("space.hyper").write_text("hidden_size choice [8]\n")
    Path("gru.yaml").write_text("model: GRU4Rec\nloss_type: CE\ntrain_neg_sample_args: ~\n")
    assert tune.main(["--config_files=pop.yaml gru.yaml other.yaml", "--space=space.hyper", "--trials=1"]) == 0
    assert "row: tuned/GRU4Rec-other.yaml" in capsys.readouterr().out
    assert tune.main(["--config_files=two.yaml", "--space=space.hyper"]) == 2
    assert "model=GRU4Rec,Pop: a search is for one model" in capsys.readouterr().err


@pytest.mark.slow
def test_content_of_the_data_set_that_files_name_is_encoded(files, capsys, caplog):
    assert encode.main(["--config_files=pop.yaml other.yaml"]) == 0
    assert "features of other: " in capsys.readouterr().out
    assert "model=Pop in the config files has no effect: LLMInterest's content is encoded" in caplog.text
    assert encode.main(["--config_files=pop.yaml", "--model=GRU4Rec"]) == 2
    assert "model=GRU4Rec would have no effect: LLMInterest is also given" in capsys.readouterr().err


def test_user_of_the_data_set_that_files_name_is_forgotten(files):
    events = Path("data/other/other.inter"), Path("data/cycle/cycle.inter")
    assert forget.main(["--config_files=pop.yaml other.yaml", "--user=u3"]) == 0
    assert ["u3\t" in path.read_text() for path in events] == [False, True]


def test_settings_that_recbole_does_not_use_are_said_once(files, caplog):
    Path("unused.yaml").write_text("device: cuda:1\nvalid_metric_bigger: false\n")
    assert trained("--config_files=pop.yaml unused.yaml", "--model=Pop,ItemKNN") == [
        ("Pop", "cycle"),
        ("ItemKNN", "cycle"),
    ]
    assert caplog.text.count("the setting device has no effect: gpu_id and use_gpu determine it") == 1
    assert "the setting valid_metric_bigger has no effect" in caplog.text


def test_filters_of_split_data_and_the_path_of_ml_100k_are_said(files, caplog):
    path = Path("data/other/other.inter")
    for part in ("train", "valid", "test"):
        path.with_name(f"other.{part}.inter").write_text(path.read_text())
    split = {"benchmark_filename": ["train", "valid", "test"], "user_inter_num_interval": "[5,inf)"}
    warn_of_unused([configure("Pop", "other", ["pop.yaml"], split)])
    assert "user_inter_num_interval has no effect: files of benchmark_filename are not filtered" in caplog.text
    assert "data_path" not in caplog.text
    Path("data/ml-100k").mkdir()
    warn_of_unused([configure("Pop", "ml-100k", ["pop.yaml"])])
    assert "data_path has no effect: RecBole reads its own ml-100k" in caplog.text
