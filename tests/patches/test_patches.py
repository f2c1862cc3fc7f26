"""RecBole runs with current libraries, stock models included, and runs no code from settings or files."""

from __future__ import annotations

import inspect
import logging
import random
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, write_dataset
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.utils import get_model, get_trainer

from recbole_llm_interest.io.checkpoints.reading import load_checkpoint
from recbole_llm_interest.patches import PATCHES, checkpoints, data, environment, security, training
from recbole_llm_interest.training.comparison import run

NEW_YEAR = 1_704_067_200.0  # of 2024, in epoch seconds


def run_python(program, cwd):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=cwd, capture_output=True, text=True, timeout=300
    )


# --- documentation


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.__name__)
def test_docs_name_every_patch_with_its_issues(patch):
    """One line of a table: the fault, the function, and the issues of the docstring's first paragraph."""
    summary = patch.__doc__.partition("\n\n")[0]
    issues = re.search(r"\(([^()]*(?:#\d+|issue)[^()]*)\)\.$", " ".join(summary.split()))
    lines = (REPOSITORY / "docs" / "patches.md").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("| ") and f"| `{patch.__name__}` |" in line]
    assert re.findall(r"#\d+", line) == re.findall(r"#\d+", issues[1])


def test_every_patch_is_installed_once():
    defined = [
        function
        for module in (data, checkpoints, environment, security, training)
        for name, function in vars(module).items()
        if inspect.isfunction(function) and not name.startswith("_") and function.__module__ == module.__name__
        if not inspect.signature(function).parameters
        if not inspect.isgeneratorfunction(inspect.unwrap(function))  # a context manager, which others apply
    ]
    assert sorted(patch.__name__ for patch in PATCHES) == sorted(function.__name__ for function in defined)


# --- stock models train, reload their best checkpoint and evaluate


@pytest.mark.slow
@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec", "Pop", "FDSA", "ItemKNN", "EASE", "LightGCN", "LLMInterest"])
def test_stock_quick_start_trains_reloads_and_evaluates(model, settings):
    fdsa = {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title"]}}
    # without repeatable, RecBole has no negatives for users who have seen every item
    extra = {model: {"repeatable": True} for model in ("Pop", "ItemKNN", "EASE", "LightGCN")}
    extra["FDSA"] = {"selected_features": ["title"], **fdsa}
    result = run_recbole(model=model, dataset="cycle", config_dict={**settings, **extra.get(model, {})})
    assert 0 <= result["test_result"]["recall@3"] <= 1
    (checkpoint,) = Path("saved").glob("*.safetensors")
    assert set(load_checkpoint(Path(checkpoint))) >= {"config", "state_dict", "optimizer"}
    config, restored, _, _, _, test_data = load_data_and_model(str(checkpoint))
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, restored)
    assert trainer.evaluate(test_data, load_best_model=False) == result["test_result"]


@pytest.mark.slow
def test_interaction_works_before_any_config(here):
    done = run_python(
        """
        import recbole_llm_interest
        from recbole.data.interaction import Interaction
        print(Interaction({"rating": [1.0, 2.0]})["rating"].sum().item())
        """,
        here,
    )
    assert done.stdout.strip() == "3.0", done.stderr
    assert Interaction({"a": np.array([1.5])})["a"].dtype == torch.float32


@pytest.mark.slow
def test_quick_start_runs_without_ray(settings, here):
    done = run_python(
        f"""
        import sys
        class NoRay:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "ray":
                    raise ModuleNotFoundError("No module named 'ray'", name="ray")
        sys.meta_path.insert(0, NoRay())
        import importlib.util
        find_spec = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *rest: None if name == "ray" else find_spec(name, *rest)
        import recbole_llm_interest
        from recbole.quick_start import run_recbole
        print(run_recbole(model="GRU4Rec", dataset="cycle", config_dict={settings!r})["test_result"]["recall@3"])
        """,
        here,
    )
    assert done.returncode == 0, done.stderr
    assert 0 <= float(done.stdout.splitlines()[-1]) <= 1


@pytest.mark.slow
def test_transformers_and_torchvision_import_with_a_cpu_only_torch(here):
    done = run_python(
        """
        import recbole_llm_interest, recbole
        import torchvision.transforms.v2 as transforms, torch
        from transformers import BertModel
        from sentence_transformers import SentenceTransformer
        print(transforms.functional.resize(torch.zeros(3, 8, 8), [4, 4]).shape[1])
        """,
        here,
    )
    assert done.stdout.strip() == "4", done.stderr


def test_model_lookup_keeps_anomaly_detection_off():
    get_model("SINE")
    assert not torch.is_anomaly_enabled()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["GRU4Rec", "LLMInterest"])
def test_metrics_that_need_counts_are_computed(model, settings):
    metrics = ["ItemCoverage", "AveragePopularity", "GiniIndex", "ShannonEntropy", "TailPercentage", "NDCG"]
    result = run_recbole(model=model, dataset="cycle", config_dict={**settings, "metrics": metrics})["test_result"]
    assert 0 < result["itemcoverage@3"] <= 1
    assert len(result) == 2 * len(metrics)  # seen items kept and filtered


# --- settings are never run as code


@pytest.mark.parametrize("place", ["command line", "config_dict", "yaml"])
def test_settings_are_never_run_as_code(place, settings, here, monkeypatch):
    mark = here / "executed"
    payload = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    config_dict, files = dict(settings), []
    if place == "command line":
        monkeypatch.setattr(sys, "argv", ["run", f"--wandb_project={payload}"])
    elif place == "config_dict":
        config_dict["wandb_project"] = payload
    else:
        files = [str(here / "settings.yaml")]
        Path(files[0]).write_text(f'wandb_project: "{payload}"\n')
    config = Config("GRU4Rec", "cycle", files, config_dict)
    assert config["wandb_project"] == payload
    assert not mark.exists()


def test_yaml_tag_that_runs_code_is_refused(settings, here):
    mark, file = here / "executed", here / "settings.yaml"
    file.write_text(f'seed: !!python/object/apply:os.system ["touch {mark}"]\n')
    with pytest.raises(Exception, match="could not determine a constructor"):
        Config("GRU4Rec", "cycle", [str(file)], settings)
    assert not mark.exists()


def test_search_space_is_never_run_as_code(here):
    from recbole.trainer import HyperTuning

    mark = here / "executed"
    (here / "space.txt").write_text(f"learning_rate choice __import__('pathlib').Path({str(mark)!r}).touch()\n")
    with pytest.raises(SyntaxError, match="not a literal"):
        HyperTuning(lambda *args: {}, params_file=str(here / "space.txt"))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("1e-3", 1e-3), ("[5, 10]", [5, 10]), ("[title, genres]", ["title", "genres"]), ("None", None),
     ("True", True), ("true", True), ("5-10", "5-10"), ("1/0", "1/0"), ("ml-100k", "ml-100k"),
     ("{'LS': 'a'}", {"LS": "a"})],
)  # fmt: skip
def test_settings_keep_their_types(text, value, settings):
    assert Config("GRU4Rec", "cycle", config_dict={**settings, "wandb_project": text})["wandb_project"] == value


# --- order of events


@pytest.mark.parametrize("model", ["LLMInterest", "SASRec", "Pop"])
@pytest.mark.parametrize("unit", [1, 1000], ids=["seconds", "milliseconds"])
def test_events_are_sorted_in_double_precision(built, here, model, unit):
    """Twelve events of each user within twelve seconds of 2024, in random order: in float32 their times are equal."""
    shuffle = random.Random(0)
    events = [(f"u{u}", f"i{(5 * u + s) % 40}", (NEW_YEAR + 60 * u + s) * unit) for u in range(30) for s in range(12)]
    shuffle.shuffle(events)
    write_dataset(here / "data", "times", events)
    _, _, data, _, valid, test = built(
        model, "times", eval_args={"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}, repeatable=True
    )
    for split, step in ((valid, 10), (test, 11)):
        rows = split._dataset.inter_feat
        users, items = data.id2token("user_id", rows["user_id"]), data.id2token("item_id", rows["item_id"])
        assert dict(zip(users, items, strict=True)) == {f"u{u}": f"i{(5 * u + step) % 40}" for u in range(30)}


def test_events_with_equal_timestamps_keep_the_files_order(built, here):
    events = [(f"u{u}", f"i{s}", 5.0) for u in range(12) for s in range(6)]
    write_dataset(here / "data", "ties", events)
    _, _, data, _, _, test = built("LLMInterest", "ties")
    assert set(data.id2token("item_id", test._dataset.inter_feat["item_id"])) == {"i5"}


def test_time_column_is_loaded_without_load_col(built):
    _, _, data, *_ = built("SASRec")
    assert "timestamp" in data.inter_feat


def test_pop_counts_each_interaction_and_no_negatives(settings):
    protocol = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}, "repeatable": True}
    config = Config("Pop", "cycle", config_dict={**settings, **protocol})
    train, _, _ = data_preparation(config, create_dataset(config))
    model = get_model("Pop")(config, train._dataset)
    for batch in train:
        model.calculate_loss(batch)
    assert int(model.item_cnt.sum()) == len(train._dataset)


# --- files


@pytest.mark.slow
def test_tensorboard_is_written_beside_the_log(settings, here):
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []  # pytest's own would prevent RecBole from opening a log file
    try:
        run_recbole(model="GRU4Rec", dataset="cycle", config_dict=settings)
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers = handlers
    (log,) = (here / "log" / "GRU4Rec").glob("*.log")
    assert list(log.with_suffix("").glob("events.out.tfevents.*"))
    assert not (here / "log_tensorboard").exists()


@pytest.mark.slow
def test_saved_data_loaders_keep_their_generators(settings, here):
    epochs = {**settings, "epochs": 2}
    (plain,) = run(["BPR"], "cycle", config_dict=epochs)
    (saved,) = run(["BPR"], "cycle", config_dict={**epochs, "save_dataloaders": True})
    assert (saved.losses, saved.test) == (plain.losses, plain.test)
