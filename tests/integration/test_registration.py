"""LLMInterest is found by name everywhere RecBole looks models up, from a checkout and from a wheel."""

from __future__ import annotations

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

from recbole_llm_interest import patches, registration
from recbole_llm_interest.data.dataset import LLMInterestDataset
from recbole_llm_interest.model.llm_interest import LLMInterest
from recbole_llm_interest.training.trainer import LLMInterestTrainer


def test_names_lead_to_our_classes(settings):
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


def test_stock_run_recbole_takes_the_name(settings):
    assert "recall@3" in run_recbole(model="LLMInterest", dataset="cycle", config_dict=settings)["test_result"]


def test_settings_have_recboles_precedence(settings, here, monkeypatch):
    """Our file goes before RecBole's general one; a config file before ours; a dict before that; argv before all."""
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
    """Built, unpacked where no checkout is in reach, and run by its command line."""
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
