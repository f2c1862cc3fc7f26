"""The search: by validation alone, resumable, and a row of a comparison in the end."""

from __future__ import annotations

import json

import pytest
import yaml
from recbole.trainer import Trainer

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.runner import main as compare
from recbole_llm_interest.tuning import main, tune


@pytest.fixture
def space(here):
    path = here / "space.hyper"
    path.write_text("learning_rate choice [0.00001,0.03]\n\nhidden_size choice [8]\n")
    return path


@pytest.fixture
def quick(settings):
    """GRU4Rec learns the cycle within these epochs at one of the two rates only."""
    return {**settings, "epochs": 8, "loss_type": "CE", "train_neg_sample_args": None}


@pytest.mark.parametrize("algorithm", ["random", "bayes", "exhaustive"])
def test_best_by_validation_is_found_and_never_tested(space, quick, here, monkeypatch, algorithm):
    evaluate = Trainer.evaluate
    asked = []

    def watched(self, data, *args, **kwargs):
        rows = data._dataset
        users, items = (rows.id2token(field, rows.inter_feat[field]) for field in ("user_id", "item_id"))
        asked.append({(int(item[1:]) - int(user[1:])) % 8 for user, item in zip(users, items, strict=True)})
        return evaluate(self, data, *args, **kwargs)

    monkeypatch.setattr(Trainer, "evaluate", watched)
    output = here / "tuned" / "row.yaml"
    row = tune("GRU4Rec", "cycle", config_dict=quick, space=space, output=output, algorithm=algorithm, trials=6)
    assert row.settings == {"hidden_size": 8, "learning_rate": 0.03}
    trials = json.loads(output.with_suffix(".json").read_text())["trials"]
    best = max(trials, key=lambda trial: trial["score"])
    assert best["drawn"] == row.settings
    assert f"the best of {len(trials)} trials by validation NDCG@3, {best['score']:.4f}" in row.note
    assert "learning_rate choice [0.00001,0.03], hidden_size choice [8]" in row.note
    assert all(len(trial["drawn"]) == 2 and 0 < trial["epochs"] <= 8 for trial in trials)
    assert len(asked) == sum(trial["epochs"] for trial in trials)
    assert all(steps == {7} for steps in asked)  # the last but one of a user's nine events, numbered from 0
    assert not list(here.glob("saved/*.pth"))


def test_row_goes_into_a_comparison(space, quick, here, capsys):
    words = ["--dataset=cycle", *(f"--{key}={value}" for key, value in quick.items())]
    assert main(["--model=GRU4Rec", f"--space={space}", "--trials=2", *words]) == 0
    out = capsys.readouterr().out
    assert "row: tuned/GRU4Rec-cycle.yaml | trials: tuned/GRU4Rec-cycle.json" in out
    row = yaml.safe_load((here / "tuned" / "GRU4Rec-cycle.yaml").read_text())["GRU4Rec"]
    assert compare(["--rows=tuned/GRU4Rec-cycle.yaml", "--model=GRU4Rec,Pop", *words]) == 0
    out = capsys.readouterr().out
    assert f"GRU4Rec: {row['note']}" in out
    assert "| Pop " in out


def test_finished_trials_are_not_run_again(space, quick, here, monkeypatch):
    output = here / "row.yaml"
    first = tune("GRU4Rec", "cycle", config_dict=quick, space=space, output=output, trials=2)
    monkeypatch.setattr(Trainer, "fit", lambda *_, **__: pytest.fail("a trial was run again"))
    assert tune("GRU4Rec", "cycle", config_dict=quick, space=space, output=output, trials=2) == first


def test_trials_of_another_search_are_refused(space, quick, here):
    tune("GRU4Rec", "cycle", config_dict=quick, space=space, output=here / "row.yaml", trials=1)
    with pytest.raises(SettingsError, match="holds trials of a search with other settings"):
        tune("GRU4Rec", "cycle", config_dict={**quick, "epochs": 9}, space=space, output=here / "row.yaml", trials=1)
    with pytest.raises(SettingsError, match="holds trials of a search with other settings"):
        tune("SASRec", "cycle", config_dict=quick, space=space, output=here / "row.yaml", trials=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist: give one by --space"),
        ("", "has no line such as"),
        ("learning_rate sometimes [1]\n", "is not in RecBole's form: Illegal param type"),
        ("learning_rate choice [1\n", "is not in RecBole's form"),
        ("learning_rte choice [1]\n", "unknown setting 'learning_rte': did you mean 'learning_rate'?"),
        ("learning_rate choice __import__('pathlib').Path('mark').touch()\n", "is not in RecBole's form"),
    ],
)
def test_wrong_space_is_one_line_and_exit_2(quick, here, capsys, text, message):
    if text is not None:
        (here / "wrong.hyper").write_text(text)
    words = [f"--{key}={value}" for key, value in quick.items()]
    assert main(["--model=GRU4Rec", "--dataset=cycle", "--space=wrong.hyper", *words]) == 2
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert err.startswith("error: ")
    assert message in err
    assert not (here / "mark").exists()


@pytest.mark.parametrize("model", ["LLMInterest", "SASRec", "GRU4Rec"])
def test_shipped_spaces_can_be_drawn_from(settings, here, model):
    """One trial each; what is drawn is what the model has settings for."""
    from recbole_llm_interest.registration import PROPERTIES

    cross_entropy = {} if model == "LLMInterest" else {"loss_type": "CE", "train_neg_sample_args": None}
    quick = {key: value for key, value in settings.items() if key not in ("hidden_size", "embedding_size")}
    row = tune(
        *(model, "cycle"),
        config_dict={**quick, **cross_entropy, "epochs": 1},
        space=PROPERTIES / "search" / f"{model}.hyper",
        output=here / "row.yaml",
        trials=1,
    )
    assert "learning_rate" in row.settings
