"""Comparisons: ranks, groups of events, significance tests, tables, variants and controlled content."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, SUBJECTS, write_dataset
from scipy.stats import ttest_rel

import recbole_llm_interest
from recbole_llm_interest.cli.compare import main
from recbole_llm_interest.content.features import Features, control
from recbole_llm_interest.data.event_counts import count_training_events
from recbole_llm_interest.errors import DataError, SettingsError, StorageError
from recbole_llm_interest.evaluation.comparison import mean_event_gains, summarize
from recbole_llm_interest.evaluation.metrics import EVENT_GROUPS, LONG_HISTORY, MANY_EVENTS, event_gains
from recbole_llm_interest.evaluation.plot import draw_comparison
from recbole_llm_interest.evaluation.results import RunResult, read_results
from recbole_llm_interest.evaluation.significance import paired_p_values
from recbole_llm_interest.evaluation.table import as_table, write_comparison
from recbole_llm_interest.io.variants import Variant, read_variants
from recbole_llm_interest.settings import check_keys
from recbole_llm_interest.training.comparison import run
from recbole_llm_interest.training.environment_info import commit_of

GROUPED = [f"{metric}{group}" for metric in ("Recall", "NDCG") for group in EVENT_GROUPS]


@pytest.fixture
def popularity(here, settings):
    """40 users with long and short histories, items of different popularity, one of them only in the test split."""
    chance = random.Random(1)
    events = []
    for user in range(40):
        items = chance.choices(range(7), weights=[13, 8, 5, 3, 2, 1, 1], k=5 if user % 2 else 14)
        items[-1] = 7 if user % 5 == 0 else items[-1]
        events += [(f"u{user}", f"i{item}", 100.0 * user + step) for step, item in enumerate(items)]
    write_dataset(here / "data", "popularity", events, {f"i{n}": subject for n, subject in enumerate(SUBJECTS)})
    return {**settings, "metrics": ["Recall", "NDCG", "MRR", *GROUPED]}


def result(variant="A", seed=1, ranks=(1, 0, 2, 0), **changes):
    values = {"ndcg@10": float(event_gains("ndcg", torch.tensor(ranks), 10).mean())}
    plain = RunResult(
        variant=variant, model=variant, dataset="d", seed=seed, test=values, valid_metric="NDCG@10", best_valid=0.5,
        epochs=3, seconds_per_epoch=1.0, parameters=7, test_events=len(ranks), candidates="all 9 items",
        test_digest="x", checkpoint=f"saved/{variant}-Nov-24-2026_10-00-00.pth", log="log/a.log", ranks=list(ranks),
    )  # fmt: skip
    return replace(plain, **changes)


# --- ranks and groups


@pytest.mark.slow
@pytest.mark.parametrize("model", ["LLMInterest", "GRU4Rec", "FPMC", "Pop", "BPR"])
def test_mean_gains_equal_recboles_metrics(popularity, model):
    """The mean gain of the recorded ranks is RecBole's own metric, for every type of model."""
    (done,) = run([model], "popularity", config_dict={**popularity, "repeatable": True})
    ranks = torch.tensor(done.ranks)
    assert len(ranks) == done.test_events
    for metric in ("recall", "ndcg", "mrr"):
        assert abs(float(event_gains(metric, ranks, 3).mean()) - done.test[f"{metric}@3"]) < 1e-4


def histories(folder):
    """Each user's items in the order of time."""
    by_user: dict[str, list[tuple[float, str]]] = {}
    for line in (folder / "data" / "popularity" / "popularity.inter").read_text().splitlines()[1:]:
        user, item, time = line.split("\t")
        by_user.setdefault(user, []).append((float(time), item))
    return {user: [item for _, item in sorted(events)] for user, events in by_user.items()}


@pytest.mark.slow
def test_every_model_has_the_same_events_in_the_same_groups(popularity, here):
    """The mean of the group metrics, weighted by sizes that are counted from the file, is the metric of all events."""
    walks = histories(here)
    trained = Counter(item for items in walks.values() for item in items[:-2])
    counts = [trained[items[-1]] for items in walks.values()]
    sizes = {
        "unseen": sum(count == 0 for count in counts),
        "few": sum(0 < count < MANY_EVENTS for count in counts),
        "many": sum(count >= MANY_EVENTS for count in counts),
        "short": sum(len(items) - 2 < LONG_HISTORY for items in walks.values()),
        "long": sum(len(items) - 2 >= LONG_HISTORY for items in walks.values()),
    }
    assert all(sizes.values())
    results = run(["LLMInterest", "GRU4Rec", "Pop"], "popularity", config_dict=popularity)
    assert len({done.test_digest for done in results}) == 1
    for done in results:
        for groups in (("unseen", "few", "many"), ("short", "long")):
            total = sum(sizes[group] * done.test[f"recall{group}@3"] for group in groups)
            assert abs(total / len(walks) - done.test["recall@3"]) < 1e-3


@pytest.mark.parametrize("model", ["LLMInterest", "GRU4Rec", "BPR"])
def test_training_events_are_those_before_each_users_last_two(built, popularity, here, model):
    split = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
    _, _, dataset, train, *_ = built(model, "popularity", eval_args=split)
    walks = histories(here)
    items, users = count_training_events(train.dataset)
    for user, chosen in walks.items():
        assert users[dataset.token2id("user_id", user)] == len(chosen) - 2
    counted = Counter(item for chosen in walks.values() for item in chosen[:-2])
    for n in range(8):
        assert items[dataset.token2id("item_id", f"i{n}")] == counted[f"i{n}"]


def test_group_without_events_has_no_mean(settings):
    """Every item of this data set has training events, so that the group ``Unseen`` is empty."""
    (done,) = run(["Pop"], "cycle", config_dict={**settings, "metrics": ["Recall", "NDCG", "RecallUnseen"]})
    assert set(done.test) == {"recall@3", "ndcg@3", "filtered_recall@3", "filtered_ndcg@3"}


def test_group_metrics_need_full_ranking(popularity, capsys):
    sampled = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni5"}
    with pytest.raises(SettingsError, match="full ranking"):
        run(["GRU4Rec"], "popularity", config_dict={**popularity, "eval_args": sampled})


def test_gains_by_rank():
    ranks = torch.tensor([0, 1, 2, 3, 4])
    assert event_gains("recall", ranks, 3).tolist() == [0, 1, 1, 1, 0]
    assert event_gains("mrr", ranks, 3).tolist() == [0, 1, 1 / 2, 1 / 3, 0]
    assert torch.allclose(event_gains("ndcg", ranks, 3), torch.tensor([0, 1, 1 / math.log2(3), 0.5, 0]).double())


# --- significance


@pytest.mark.slow
def test_p_values_are_of_a_paired_t_test_with_holms_correction():
    chance = np.random.default_rng(0)
    reference = chance.random(200)
    others = [reference + chance.normal(shift, 0.2, 200) for shift in (0.05, 0.0, 0.2)]
    raw = [float(ttest_rel(reference, other).pvalue) for other in others]
    order = np.argsort(raw)
    by_hand, least = {}, 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, raw[index] * (3 - rank)))
        by_hand[int(index)] = least
    assert np.allclose(paired_p_values(reference, others), [by_hand[index] for index in range(3)])
    assert paired_p_values(reference, [reference.copy()]) == [1.0]
    assert paired_p_values(reference, []) == []


def test_equal_models_are_rarely_called_different(monkeypatch):
    """Under the null hypothesis, at most one comparison in twenty has a p-value below .05."""
    monkeypatch.setattr("gc.collect", lambda *_: 0)  # statsmodels does at each call, half a second each
    ranks = torch.from_numpy(np.random.default_rng(3).integers(0, 30, 100 * 2 * 300))
    drawn = event_gains("ndcg", ranks.where(ranks <= 10, 0), 10).numpy().reshape(100, 2, 300)
    significant = sum(paired_p_values(one, [other])[0] < 0.05 for one, other in drawn)
    assert significant < 100 * 0.05 + 3 * math.sqrt(100 * 0.05 * 0.95)


def test_seeds_are_averaged_event_by_event_before_the_test():
    runs = [result(ranks=(1, 0, 0, 3)), result(seed=2, ranks=(0, 1, 0, 3))]
    assert np.allclose(mean_event_gains(runs, "NDCG@10"), [0.5, 0.5, 0, 0.5])


@pytest.mark.slow
def test_rows_on_other_events_are_not_tested():
    rows = summarize([result(), result("B", ranks=(0, 0, 0, 1)), result("C", test_digest="y")])
    assert [row.p_values is None for row in rows] == [True, False, True]


@pytest.mark.slow
def test_rows_chosen_by_other_metrics_are_not_tested():
    rows = [result(), result("B", ranks=(0, 0, 0, 1)), result("C", ranks=(0, 0, 1, 1), valid_metric="MRR@10")]
    assert [row.p_values is None for row in summarize(rows)] == [True, False, True]
    assert "best epoch by validation NDCG@10 or MRR@10;" in as_table(rows)


# --- the table


@pytest.mark.slow
def test_table_of_several_seeds_has_means_deviations_and_tests():
    a = [result(seed=seed, test={"ndcg@10": value}) for seed, value in ((1, 0.2), (2, 0.4))]
    b = [result("B", seed=seed, test={"ndcg@10": 0.1}, note="twelve trials", ranks=(0, 0, 0, 0)) for seed in (1,)]
    table = as_table([*a, *b])
    assert "0.3000 ± 0.1414" in table
    assert re.search(r"B +\| +0\.1000 \|", table)
    assert "seeds 1, 2" in table
    assert "B: only 1 of 2 seeds." in table
    assert "B: twelve trials" in table
    assert "Holm" in table


def test_table_of_one_seed_has_no_deviations_or_tests():
    table = as_table([result()])
    assert "±" not in table
    assert "p (t / W)" not in table
    assert "seed 1." in table


@pytest.mark.slow
def test_written_results_are_read_back(tmp_path):
    results = [result(), result("B_1 & co", ranks=(0, 0, 0, 1))]
    markdown, latex, data = write_comparison(results, tmp_path / "table")
    assert read_results(data) == results
    assert "B_1 & co" in markdown.read_text()
    assert r"B\_1 \& co" in latex.read_text()
    assert r"\toprule" in latex.read_text()


@pytest.mark.parametrize("text", ["{", '{"row": "A"}', '[{"row": "A"}]', '[{"nonsense": 1}]'])
def test_file_without_results_is_an_error(tmp_path, text):
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(DataError, match=r"table\.json (does not hold results|is not JSON)"):
        read_results(tmp_path / "table.json")


@pytest.mark.slow
def test_table_has_the_metrics_of_all_rows(tmp_path):
    """The table has the metrics of all rows, in the order of their first occurrence."""
    rows = [result(test={"recall@10": 0.5, "ndcg@10": 0.25}), result("B", test={"ndcg@10": 0.125, "mrr@10": 0.75})]
    markdown, *_ = write_comparison(rows, tmp_path / "table")
    cells = [[cell.strip() for cell in line.split("|")[1:5]] for line in markdown.read_text().splitlines()[:4]]
    assert cells[0] == ["model", "recall@10", "ndcg@10", "mrr@10"]
    assert cells[2:] == [["A", "0.5000", "0.2500", "-"], ["B", "-", "0.1250", "0.7500"]]


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["Recall@10", "Hit@10"])
def test_plot_leaves_out_rows_without_its_metric(tmp_path, metric):
    from PIL import Image

    plain = {"valid_metric": metric, "test": {metric.lower(): 0.5}}
    two = draw_comparison([result(**plain), result("B", **plain)], tmp_path / "two.json")
    three = draw_comparison([result(**plain), result("B", **plain), result("C")], tmp_path / "three.json")
    assert Image.open(two).size == Image.open(three).size


def test_results_are_kept_if_the_markdown_file_cannot_be_written(tmp_path):
    (tmp_path / "table.md").mkdir()
    with pytest.raises(StorageError, match=r"table\.md cannot be written .*move the file or folder that has its name"):
        write_comparison([result()], tmp_path / "table")
    assert read_results(tmp_path / "table.json") == [result()]


@pytest.mark.slow
def test_plot_shows_each_row(tmp_path):
    from PIL import Image

    few = draw_comparison([result(), result("B")], tmp_path / "few.json")
    many = draw_comparison([result(f"row {n}") for n in range(9)], tmp_path / "many.json")
    assert Image.open(few).size[0] == Image.open(many).size[0] > 800
    assert Image.open(many).size[1] > 2 * Image.open(few).size[1]
    assert np.asarray(Image.open(few).convert("L")).std() > 10  # not an empty sheet


# --- variants, seeds and known results


def test_rows_file(tmp_path):
    path = tmp_path / "rows.yaml"
    path.write_text(
        "LLMInterest:\nbare: {model: LLMInterest, use_item_id: false, note: no IDs}\nSASRec: {n_layers: 1}\n"
    )
    assert read_variants(path) == [
        Variant("LLMInterest", "LLMInterest"),
        Variant("bare", "LLMInterest", {"use_item_id": False}, "no IDs"),
        Variant("SASRec", "SASRec", {"n_layers": 1}),
    ]
    assert [row.name for row in read_variants(path, ["SASRec", "Pop"])] == ["SASRec", "Pop"]
    path.write_text("- a\n- b\n")
    with pytest.raises(SettingsError, match="rows' names"):
        read_variants(path)
    path.write_text("text, images: {model: LLMInterest}\n")
    with pytest.raises(SettingsError, match="'text, images' needs a name without a comma"):
        read_variants(path)


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "benchmarks" / "rows").glob("*.yaml")), ids=lambda path: path.stem
)
def test_rows_of_the_benchmarks_can_be_read(path):
    for row in read_variants(path):
        check_keys(row.settings)


@pytest.mark.slow
def test_repeated_command_runs_only_missing_seeds(here, settings, capsys):
    """Two variants with two seeds are run; a third seed runs only the missing runs."""
    (here / "rows.yaml").write_text(
        "with IDs: {model: LLMInterest}\ncontent: {model: LLMInterest, use_item_id: false}\n"
    )
    (here / "quick.yaml").write_text(json.dumps(settings))
    command = ["--rows=rows.yaml", "--dataset=cycle", "--config_files=quick.yaml", "--table=out/table.json"]
    assert main([*command, "--seeds=2"]) == 0
    printed = capsys.readouterr().out
    first = read_results(here / "out" / "table.json")
    assert [(done.variant, done.seed) for done in first] == [("with IDs", 2020), ("with IDs", 2021), ("content", 2020),
                                                         ("content", 2021)]  # fmt: skip
    assert "±" in printed
    assert (here / "out" / "table.png").is_file()
    assert str(here / "out" / "table.md") in printed or "out/table.md" in printed
    assert len({done.checkpoint for done in first}) == 4

    assert main([*command, "--seeds=3"]) == 0
    second = read_results(here / "out" / "table.json")
    assert [done for done in second if done.seed < 2022] == first
    assert len(second) == 6

    assert main([*command, "--seeds=3", "--model=content"]) == 0
    assert read_results(here / "out" / "table.json") == second  # results and their order are kept
    assert "difference from with IDs" in (here / "out" / "table.md").read_text()

    assert main([*command, "--seeds=2", "--temperature=0.5"]) == 2
    assert "temperature" in capsys.readouterr().err


@pytest.mark.slow
def test_known_run_with_another_default_is_an_error(here, settings, capsys):
    """Defaults that changed since the run are an error, except those that only change its speed."""
    (here / "quick.yaml").write_text(json.dumps(settings))
    command = ["--model=LLMInterest", "--dataset=cycle", "--config_files=quick.yaml", "--table=table"]
    assert main(command) == 0
    table = here / "table.json"
    (old,) = json.loads(table.read_text())
    table.write_text(
        json.dumps(
            [{**old, "effective_settings": {**old["effective_settings"], "text_batch_size": 7, "gone_since": 1}}]
        )
    )
    assert main([*command, "--temperature=0.07"]) == 0  # the default, given explicitly

    for key, value in (("temperature", 0.09), ("learning_rate", 0.1), ("time_features", ["gap"])):
        table.write_text(json.dumps([{**old, "effective_settings": {**old["effective_settings"], key: value}}]))
        capsys.readouterr()
        assert main(command) == 2
        assert f"was run with {key}={value!r}, now " in capsys.readouterr().err


@pytest.mark.slow
def test_table_of_an_older_version_is_extended(here, settings):
    (here / "quick.yaml").write_text(json.dumps(settings))
    command = ["--dataset=cycle", "--config_files=quick.yaml", "--table=table"]
    assert main([*command, "--model=LLMInterest"]) == 0
    (old,) = json.loads((here / "table.json").read_text())
    del old["effective_settings"], old["environment_info"]
    (here / "table.json").write_text(json.dumps([old]))
    assert main([*command, "--model=LLMInterest,Pop"]) == 0
    first, _ = read_results(here / "table.json")
    assert (first.checkpoint, first.environment_info) == (old["checkpoint"], {})


@pytest.mark.slow
def test_result_has_environment_info(settings):
    """The table names the commit; the JSON file has the whole environment."""
    (done,) = run(["GRU4Rec"], "cycle", config_dict={**settings, "use_gpu": False})
    assert done.environment_info["version"] == recbole_llm_interest.__version__
    assert done.environment_info["torch"] == torch.__version__
    assert done.environment_info["python"] == sys.version.split()[0]
    assert done.environment_info["device"]
    assert done.environment_info["cores"] >= 1
    assert done.effective_settings == {}
    table = as_table([replace(done, environment_info={"commit": "abc1234"})])
    assert "seed 2020; commit abc1234.\n" in table
    other = replace(done, variant="B", environment_info={})
    assert "; commits abc1234, unknown." in as_table([replace(done, environment_info={"commit": "abc1234"}), other])


def test_commit_is_the_packages_own(tmp_path):
    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *identity, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    package, properties = tmp_path / "package", tmp_path / "properties"
    for folder in (package, properties):
        folder.mkdir()
        (folder / "__init__.py").write_text("")
    assert commit_of(package, properties) is None
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "another project, whose environment the package lies in")
    assert commit_of(package, properties) is None
    git("add", ".")
    git("commit", "-q", "-m", "the package")
    commit = git("rev-parse", "--short", "HEAD")
    (tmp_path / "notes.txt").write_text("no part of the package")
    assert commit_of(package, properties) == commit
    (properties / "__init__.py").write_text("other defaults")
    assert commit_of(package, properties) == f"{commit}+changes"


def test_duplicate_variant_names_are_an_error(settings):
    with pytest.raises(SettingsError, match="comes twice"):
        run(["Pop", "Pop"], "cycle", config_dict=settings)


# --- controlled content


def test_shuffled_content_permutes_items():
    torch.manual_seed(0)
    present = torch.tensor([False, True, True, True, False, True])
    content = {"text": Features(torch.randn(6, 3), present), "image": Features(torch.randn(6, 2), present)}
    shuffled = control(content, "shuffled", seed=4)
    source = [int((content["text"].values == row).all(dim=1).nonzero()[0]) for row in shuffled["text"].values]
    assert sorted(source) == list(range(6))
    assert source[0] == 0
    assert source != list(range(6))
    assert torch.equal(
        shuffled["image"].values, content["image"].values[source]
    )  # modalities of an item are permuted as one
    assert torch.equal(shuffled["image"].present, present[source])
    assert control(content, "none", seed=4) is content


def test_random_content_keeps_only_the_mask():
    present = torch.tensor([False, *[True] * 400])
    drawn = control({"text": Features(torch.ones(401, 8) * 5, present)}, "random", seed=4)["text"]
    assert torch.equal(drawn.present, present)
    assert abs(float(drawn.values[1:].mean())) < 0.1
    assert abs(float(drawn.values[1:].std()) - 1) < 0.1


def test_controlled_content_selects_kind_and_modality(built):
    """``controlled_content`` is the items' text by default; with the users' text, the items' is unchanged."""
    plain = built()[2]
    for given, kind in ({}, "item"), ({"controlled_content": ["user_text"]}, "user"):
        other = built(content_control="shuffled", **given)[2]
        for of in ("item", "user"):
            then, now = (getattr(data, f"{of}_content")["text"].values for data in (plain, other))
            assert torch.equal(then, now) == (of != kind)


@pytest.mark.slow
def test_shuffled_content_loses_the_gain_of_content(here, settings):
    """New items of a known kind are recommended by their own content, not by that of other items."""
    count = 20
    events = []
    for user in range(2 * count):
        kind = "whales" if user % 2 else "bread"
        chosen = [f"{kind}{(user // 2 + step) % count}" for step in range(5)]
        events += [
            (f"u{user}", item, 10.0 * user + step) for step, item in enumerate([*chosen, f"new {kind}{user // 2}"])
        ]
    titles = {f"{new}{kind}{n}": f"{new}{kind} {n}" for kind in ("whales", "bread") for n in range(count)
              for new in ("", "new ")}  # fmt: skip
    write_dataset(here / "data", "kinds", events, titles)
    plain = {**settings, "epochs": 40, "learning_rate": 0.01, "use_item_id": False, "topk": [2 * count],
             "feature_conditioning": "none", "content_neighbours": 0, "modality_dropout": 0.0, "score": "dot",
             "valid_metric": f"NDCG@{2 * count}"}  # fmt: skip
    rows = [Variant("content", "LLMInterest"), Variant("shuffled", "LLMInterest", {"content_control": "shuffled"})]
    content, shuffled = (done.test[f"recall@{2 * count}"] for done in run(rows, "kinds", config_dict=plain))
    assert content > 0.9
    assert shuffled < 0.7


@pytest.mark.slow
def test_script_reports_a_mistake_by_exit_code(here, settings):
    (here / "quick.yaml").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "run_recbole.py"), "--model=Pop", "--dataset=cycle", "--seeds=0",
         "--config_files=quick.yaml"], capture_output=True, text=True, cwd=here)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: seeds=0")
