"""``compare`` in Python: the same runs as the command line, and a comparison that is shown as a table."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

import recbole_llm_interest
from recbole_llm_interest.cli.compare import main
from recbole_llm_interest.errors import DataError, SettingsError
from recbole_llm_interest.training.comparison import compare


@pytest.fixture
def data(settings):
    """The data set ``cycle`` as ``from_pandas`` names it."""
    return SimpleNamespace(dataset="cycle", data_path=settings.pop("data_path"))


def test_python_and_the_command_line_write_the_same_table(data, settings, here):
    comparison = compare(data, ["Pop", "RepeatLast"], table="python", **settings)
    words = [f"--{key}={value}" for key, value in {**settings, "data_path": data.data_path}.items()]
    assert main(["--dataset=cycle", "--model=Pop,RepeatLast", "--table=words", *words]) == 0
    rows = [(here / name).read_text().partition("\n\n")[0] for name in ("python.md", "words.md")]
    assert rows[0] == rows[1]
    assert [path.name for path in comparison.files] == ["python.md", "python.tex", "python.json"]
    assert str(comparison) == (here / "python.md").read_text()


def test_comparison_is_a_table_of_its_results(data, settings):
    comparison = compare(data, ["Pop", "RepeatLast"], seeds=2, **settings)
    assert repr(comparison) == "Comparison(Pop, RepeatLast)"
    frame = comparison.frame
    assert frame.index.tolist() == ["Pop", "RepeatLast"]
    of_pop = [result.test["ndcg@3"] for result in comparison.results if result.variant == "Pop"]
    assert len(of_pop) == 2
    assert frame.loc["Pop", "ndcg@3"] == pytest.approx(sum(of_pop) / 2)
    assert "RepeatLast" in comparison._repr_html_()
    second = comparison.results[1]
    assert comparison.checkpoint("Pop", second.seed) == second.checkpoint
    with pytest.raises(DataError, match="there is no run of SASRec: there are Pop of seed"):
        comparison.checkpoint("SASRec")


def test_finished_runs_of_a_table_are_not_run_again(data, settings):
    first = compare(data, ["Pop"], table="kept", **settings)
    again = compare(data, ["Pop", "RepeatLast"], table="kept", **settings)
    assert again.results[0] == first.results[0]
    assert [result.variant for result in again.results] == ["Pop", "RepeatLast"]


def test_models_are_a_list_or_separated_by_commas(data, settings):
    assert repr(compare(data, "Pop", **settings)) == "Comparison(Pop)"
    assert repr(compare(data, "Pop, RepeatLast", **settings)) == "Comparison(Pop, RepeatLast)"


def test_command_line_of_a_program_is_its_own(data, settings, monkeypatch):
    words = ["study.py", "--seed=7", "--epochs=1", "--out=x"]
    monkeypatch.setattr(sys, "argv", [*words])
    (result,) = compare(data, ["BPR"], seed=1, **settings).results
    assert (result.seed, result.epochs) == (1, settings["epochs"])
    assert "out" not in {**result.settings, **result.effective_settings}
    assert sys.argv == words


def test_misspelt_setting_is_named_before_anything_runs(data, settings, here):
    with pytest.raises(SettingsError, match="unknown setting 'epohcs': did you mean 'epochs'"):
        compare(data, ["Pop"], epohcs=3, **settings)
    assert [path.name for path in here.iterdir()] == ["data"]


def test_package_gives_what_a_program_calls():
    assert recbole_llm_interest.compare is compare
    assert set(recbole_llm_interest.__all__) <= set(dir(recbole_llm_interest))
    for name in recbole_llm_interest.__all__:
        assert getattr(recbole_llm_interest, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'comapre'"):
        recbole_llm_interest.comapre  # noqa: B018
