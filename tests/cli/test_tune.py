"""The hyperparameter search: validation only, resumable, its result a variant of a comparison."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import yaml
from recbole.trainer import Trainer

from recbole_llm_interest.cli.compare import main as compare
from recbole_llm_interest.cli.tune import main
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.training.search import tune


@pytest.fixture
def space(here):
    path = here / "space.hyper"
    path.write_text("learning_rate choice [0.00001,0.03]\n\nhidden_size choice [8]\n")
    return path


@pytest.fixture
def quick(settings):
    """GRU4Rec learns the cycle within these epochs at only one of the two learning rates."""
    return {**settings, "epochs": 8, "loss_type": "CE", "train_neg_sample_args": None}


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["random", "bayes", "exhaustive"])
def test_best_settings_are_chosen_without_the_test_split(space, quick, here, monkeypatch, algorithm):
    evaluate = Trainer.evaluate
    evaluated = []

    def watched(self, data, *args, **kwargs):
        rows = data._dataset
        users, items = (rows.id2token(field, rows.inter_feat[field]) for field in ("user_id", "item_id"))
        evaluated.append({(int(item[1:]) - int(user[1:])) % 8 for user, item in zip(users, items, strict=True)})
        return evaluate(self, data, *args, **kwargs)

    monkeypatch.setattr(Trainer, "evaluate", watched)
    output = here / "tuned" / "row.yaml"
    row = tune("GRU4Rec", "cycle", config_dict=quick, space=space, output=output, algorithm=algorithm, trials=6)
    assert (row.settings["hidden_size"], row.settings["learning_rate"]) == (8, 0.03)
    trials = json.loads(output.with_suffix(".json").read_text())["trials"]
    best = max(trials, key=lambda trial: trial["score"])
    assert best["drawn"] == {"hidden_size": 8, "learning_rate": 0.03}
    assert f"the best of {len(trials)} trials by validation NDCG@3, {best['score']:.4f}" in row.note
    assert "learning_rate choice [0.00001,0.03], hidden_size choice [8]" in row.note
    assert all(len(trial["drawn"]) == 2 and 0 < trial["epochs"] <= 8 for trial in trials)
    assert all(trial["score"] == max(score for _, score in trial["curve"]) for trial in trials)
    assert len(evaluated) == sum(trial["epochs"] for trial in trials)
    assert all(steps == {7} for steps in evaluated)  # the last but one of a user's nine events, numbered from 0
    assert not list(here.glob("saved/*.pth"))


@pytest.mark.slow
def test_other_test_events_give_the_same_trials(space, quick, here):
    """The events that are predicted at test may be any: no trial changes by them."""
    events = here / "data" / "cycle" / "cycle.inter"
    trials = []
    for name in ("first", "second"):
        tune("GRU4Rec", "cycle", config_dict=quick, space=space, output=here / f"{name}.yaml", trials=2)
        trials.append(json.loads((here / f"{name}.json").read_text())["trials"])
        table = pd.read_csv(events, sep="\t")
        last = table.groupby("user_id:token")["timestamp:float"].idxmax()
        table.loc[last, "item_id:token"] = table.loc[last, "item_id:token"].iloc[::-1].to_numpy()
        table.to_csv(events, sep="\t", index=False)
    assert trials[0] == trials[1]


@pytest.mark.slow
def test_trial_that_the_epochs_ended_is_said_to_be_not_converged(space, quick, here):
    search = {"space": space, "output": here / "row.yaml", "trials": 1}
    assert ", 1 of them not converged; " in tune("GRU4Rec", "cycle", config_dict={**quick, "epochs": 2}, **search).note
    search["output"] = here / "other.yaml"
    patience = {**quick, "epochs": 50, "stopping_step": 1}
    assert "converged" not in tune("GRU4Rec", "cycle", config_dict=patience, **search).note


@pytest.mark.slow
def test_tuned_variant_is_compared(space, quick, here, capsys):
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


def test_tuned_variant_trains_as_in_the_search(space, quick, here, capsys):
    """The row alone, without the search's words, has the score that it was chosen for; and says how far it was trained.

    What is reported, and where things lie, is the comparison's own.
    """
    (here / "quick.yaml").write_text(yaml.safe_dump({key: quick[key] for key in ("epochs", "embedding_size")}))
    words = [f"--{key}={value}" for key, value in quick.items() if key not in ("epochs", "embedding_size")]
    command = ["--model=GRU4Rec", f"--space={space}", "--trials=3", "--dataset=cycle", "--output=row.yaml"]
    assert main([*command, "--config_files=quick.yaml", *words, "--learner=adamw"]) == 0
    row = yaml.safe_load((here / "row.yaml").read_text())["GRU4Rec"]
    assert "; at most 8 epochs each, 1 of them not converged; random search over" in row["note"]
    assert (row["epochs"], row["learner"], row["loss_type"], row["train_neg_sample_args"]) == (8, "adamw", "CE", None)
    assert not {"data_path", "feature_cache", "show_progress", "metrics", "topk", "eval_args"} & row.keys()
    shown = ["--topk=[2,3]", "--metrics=[MRR,NDCG]", f"--data_path={quick['data_path']}", "--show_progress=False"]
    assert compare(["--rows=row.yaml", "--dataset=cycle", "--table=table", *shown]) == 0
    (run,) = json.loads((here / "table.json").read_text())
    assert f"validation NDCG@3, {run['best_valid']:.4f}" in row["note"]
    kept = {"mrr@2", "mrr@3", "ndcg@2", "ndcg@3"}
    assert set(run["test"]) == kept | {f"filtered_{metric}" for metric in kept}


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["random", "bayes", "exhaustive"])
def test_search_continues_after_diverged_trials(quick, here, monkeypatch, algorithm):
    space = here / "steep.hyper"
    space.write_text("learning_rate choice [1e30,0.03]\n")
    again = {"config_dict": quick, "space": space, "output": here / "row.yaml", "algorithm": algorithm, "trials": 8}
    row = tune("GRU4Rec", "cycle", **again)
    assert row.settings["learning_rate"] == 0.03
    trials = json.loads((here / "row.json").read_text())["trials"]
    failed = [trial["drawn"]["learning_rate"] for trial in trials if trial["score"] is None]
    assert failed
    assert 0.03 not in failed
    assert f", {len(failed)} of them diverged" in row.note
    monkeypatch.setattr(Trainer, "fit", lambda *_, **__: pytest.fail("a trial was run again"))
    assert tune("GRU4Rec", "cycle", **again) == row


def test_search_without_a_score_is_one_line_and_exit_2(quick, here, capsys):
    (here / "steep.hyper").write_text("learning_rate choice [1e30,1e31]\n")
    words = [f"--{key}={value}" for key, value in quick.items()]
    assert main(["--model=GRU4Rec", "--dataset=cycle", "--space=steep.hyper", "--algorithm=exhaustive", *words]) == 2
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert err.startswith("error: GRU4Rec: training diverged (its loss became NaN) in all 2 trials of ")
    assert not (here / "tuned" / "GRU4Rec-cycle.yaml").exists()


def test_exhaustive_search_ignores_the_number_of_trials(quick, here):
    (here / "many.hyper").write_text("learning_rate choice [0.03,0.0001,0.0002,0.0003,0.0004]\n")
    search = {"space": here / "many.hyper", "output": here / "row.yaml", "algorithm": "exhaustive", "trials": 1}
    tune("GRU4Rec", "cycle", config_dict={**quick, "epochs": 1}, **search)
    assert len(json.loads((here / "row.json").read_text())["trials"]) == 5


def test_finished_trial_with_a_list_is_not_run_again(settings, here, monkeypatch):
    (here / "lists.hyper").write_text("time_features choice [['gap'],['gap']]\n")
    again = {"config_dict": {**settings, "epochs": 1}, "space": here / "lists.hyper", "output": here / "row.yaml"}
    row = tune("LLMInterest", "cycle", **again, trials=1)
    assert row.settings["time_features"] == ["gap"]
    monkeypatch.setattr(Trainer, "fit", lambda *_, **__: pytest.fail("a trial was run again"))
    assert tune("LLMInterest", "cycle", **again, trials=2).settings == row.settings


def test_trials_of_another_search_are_an_error(space, quick, here):
    tune("GRU4Rec", "cycle", config_dict=quick, space=space, output=here / "row.yaml", trials=1)
    other = here / "other.hyper"
    other.write_text("learning_rate choice [0.00001,0.04]\n")
    for changed, what in (
        ({"space": other}, "space="),
        ({"algorithm": "bayes"}, "algorithm='random', now 'bayes'"),
        ({"config_dict": {**quick, "seed": 5}}, "seed=2020, now 5"),
    ):
        search = {"config_dict": quick, "space": space, "output": here / "row.yaml", "trials": 1, **changed}
        with pytest.raises(SettingsError, match=f"holds trials of a search with other settings, {what}"):
            tune("GRU4Rec", "cycle", **search)
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
    """One trial of each space draws settings that the model has."""
    from recbole_llm_interest.settings import PROPERTIES

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
