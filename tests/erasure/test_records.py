"""Commands record every file that they write, so that ``forget`` finds it, and lock the data set meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_llm_interest.cli import compare, encode, forget, recommend, report, tune
from recbole_llm_interest.io.manifest import MANIFEST, find_record, read
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.training.comparison import run


def unrecorded(here):
    """Files that a command wrote and no manifest lists."""
    recorded = {it.path for folder in (here, here / "saved") for it in read(folder / MANIFEST)}
    files = (path for path in here.rglob("*") if path.is_file() and not path.is_relative_to(here / "data"))
    return [path for path in files if path.name != MANIFEST and recorded.isdisjoint((path, *path.parents))]


@pytest.mark.slow
def test_every_file_of_the_commands_is_recorded_with_its_data_set(settings, here):
    words = [f"--{key}={value}" for key, value in settings.items() if key != "feature_cache"]
    words += ["--dataset=cycle", "--text_encoder=hashing", "--feature_cache=cache"]
    assert encode.main(words) == 0
    assert compare.main([*words, "--model=LLMInterest,Pop", "--table=results/lr0.1"]) == 0
    assert compare.main([*words, "--model=Pop", "--save_dataset=True", "--save_dataloaders=True"]) == 0
    (here / "space.hyper").write_text("learning_rate choice [0.01,0.02]\n")
    assert tune.main([*words, "--model=GRU4Rec", "--space=space.hyper", "--trials=1"]) == 0
    (here / "space.hyper").unlink()
    checkpoint = next(it.path for it in read(here / "saved" / MANIFEST) if it.kind == "checkpoint")
    served = [f"--checkpoint={checkpoint}", f"--data_path={here / 'data'}", "--feature_cache=cache"]
    assert report.main([*served, "--output=page", "--user=u1"]) == 0
    assert recommend.main([*served, "--user=u1", "--k=3", "--save_state=states/u1"]) == 0
    recommender = Recommender.load(checkpoint, data_path=str(here / "data"), feature_cache="cache")
    recommender.save_pretrained(here / "model")
    Recommender.from_pretrained(here / "model").save_pretrained(here / "again")  # the record names the data set
    assert unrecorded(here) == []
    assert list(here.rglob(MANIFEST)) == [here / MANIFEST, here / "saved" / MANIFEST]  # none in an exported folder
    assert {it.data_path for it in read(here / "saved" / MANIFEST)} == {here / "data" / "cycle"}
    assert find_record(here / "again" / "config.json").data_path == here / "data" / "cycle"
    for path in ("page/report.html", "states/u1", "model/texts.json", "tuned/GRU4Rec-cycle.json", "results/lr0.1.png"):
        assert find_record(here / path) is not None, path


def test_training_locks_its_data_set(settings, here, capsys):
    codes = []
    words = ["--dataset=cycle", f"--data_path={here / 'data'}", "--user=u1"]
    run(["Pop"], "cycle", config_dict=settings, on_result=lambda result: codes.append(forget.main(words)))
    assert codes == [2]
    assert "is in use by a training or another command" in capsys.readouterr().err
    assert "u1\t" in Path("data/cycle/cycle.inter").read_text()
