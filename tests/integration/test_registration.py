"""RecBole finds LLMInterest by name wherever it looks up models, from a checkout and from a wheel."""

from __future__ import annotations

import importlib
import runpy
import subprocess
import sys
import textwrap

import pytest
from conftest import REPOSITORY
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.dataset import Dataset
from recbole.quick_start import objective_function, run_recbole
from recbole.utils import get_model, get_trainer

from recbole_llm_interest import activation, patches, registration
from recbole_llm_interest.cli import compare
from recbole_llm_interest.data.dataset import LLMInterestDataset
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.training import comparison
from recbole_llm_interest.training.trainer import LLMInterestTrainer


def test_names_resolve_to_our_classes(settings):
    config = Config("LLMInterest", "cycle", config_dict=settings)
    assert get_model("LLMInterest") is LLMInterest
    assert get_trainer(config["MODEL_TYPE"], "LLMInterest") is LLMInterestTrainer
    assert type(create_dataset(config)) is LLMInterestDataset


def test_registering_again_changes_nothing():
    before = (Config._update_internal_config_dict, Config._set_default_parameters, Dataset._change_feat_format)
    patches.install()
    registration.register()
    assert before == (
        Config._update_internal_config_dict,
        Config._set_default_parameters,
        Dataset._change_feat_format,
    )


def test_config_takes_the_class(settings):
    config = Config(LLMInterest, "cycle", config_dict=settings)
    assert config["model"] == "LLMInterest"
    assert config["temperature"] == 0.07


@pytest.mark.slow
def test_stock_run_recbole_takes_the_name(settings):
    assert "recall@3" in run_recbole(model="LLMInterest", dataset="cycle", config_dict=settings)["test_result"]


def test_settings_have_recboles_precedence(settings, here, monkeypatch):
    """Command line over dict over config file over our file over RecBole's general file."""
    del settings["embedding_size"]
    config = Config("LLMInterest", "cycle", config_dict=settings)
    assert config["learning_rate"] == 0.003  # RecBole's own default is 0.001
    assert config["eval_args"]["order"] == "TO"  # from RecBole's file for sequential models, read after ours
    (here / "mine.yaml").write_text("embedding_size: 8\nssl_share: 0.5\nhidden_size: 8\n")
    monkeypatch.setattr(sys, "argv", ["run", "--hidden_size=32"])
    config = Config("LLMInterest", "cycle", [str(here / "mine.yaml")], {**settings, "ssl_share": 0.7})
    assert (config["embedding_size"], config["ssl_share"], config["hidden_size"]) == (8, 0.7, 32)


def test_data_sets_settings_are_found():
    config = Config("LLMInterest", "ml-100k")
    assert config["item_text_fields"] == ["movie_title", "release_year", "class"]
    assert Config("GRU4Rec", "ml-100k")["item_text_fields"] is None


#: commands that were run by another name of their module
FORMER_COMMANDS = ["content.encode", "doctor", "export", "forget", "recommender", "report", "runner", "tuning"]


@pytest.mark.parametrize("name", FORMER_COMMANDS)
def test_former_name_of_a_command_still_runs_it(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(f"recbole_llm_interest.{name}", run_name="__main__", alter_sys=True)
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")


@pytest.mark.slow
def test_former_name_of_a_command_runs_in_a_process_of_its_own():
    done = subprocess.run(
        [sys.executable, "-m", "recbole_llm_interest.doctor", "--help"], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")


@pytest.mark.parametrize(("former", "present"), activation.MOVED_MODULES.items())
def test_former_name_of_a_module_imports_its_present_one(former, present):
    module = importlib.import_module(f"recbole_llm_interest.{former}")
    today = importlib.import_module(f"recbole_llm_interest.{present}")
    public = [name for name in vars(today) if not name.startswith("_")]
    assert public
    assert all(getattr(module, name) is getattr(today, name) for name in public)


def test_former_name_of_the_comparison_has_its_functions():
    from recbole_llm_interest.runner import main, run

    assert (main, run) == (compare.main, comparison.run)


@pytest.mark.slow
def test_hyper_tuning_takes_the_name_from_yaml(settings, here):
    import yaml
    from recbole.trainer import HyperTuning

    (here / "tune.yaml").write_text(yaml.safe_dump({**settings, "model": "LLMInterest", "dataset": "cycle"}))
    tuning = HyperTuning(
        objective_function,
        params_dict={"choice": {"learning_rate": [0.01, 0.001]}},
        fixed_config_file_list=[str(here / "tune.yaml")],
        algo="exhaustive",
    )
    tuning.run()
    assert len(tuning.params2result) == 2
    assert {result["model"] for result in tuning.params2result.values()} == {"LLMInterest"}


@pytest.mark.slow
def test_wheel_brings_everything_it_needs(here, settings):
    """The wheel is built, installed outside the checkout and run by its command line."""
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        ".",
        REPOSITORY,
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = here.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", "site", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    assert (here / "site" / "recbole_llm_interest" / "report" / "report.html.j2").is_file()
    program = """
        import sys
        sys.path.insert(0, "site")
        import recbole_llm_interest
        from recbole_llm_interest.cli.compare import main
        assert recbole_llm_interest.__file__.startswith(sys.argv[1]), recbole_llm_interest.__file__
        sys.exit(main(sys.argv[2:]))
        """
    words = ["--dataset=cycle", *(f"--{key}={value}" for key, value in settings.items())]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(here / "site"), *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "| LLMInterest |" in done.stdout
