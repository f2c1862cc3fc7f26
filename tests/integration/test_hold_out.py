"""Data sets that benchmarks make of others: what is held out is new, and what is written tells nothing of it."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import yaml
from conftest import REPOSITORY, write_dataset
from scipy.stats import ttest_rel

from recbole_llm_interest.evaluation.significance import means_by_user
from recbole_llm_interest.evaluation.table import write_comparison
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.recommender.embeddings import write_embeddings
from recbole_llm_interest.training.comparison import run


def script(name: str, *options: str, cwd: Path) -> str:
    """What a benchmark prints."""
    command = [sys.executable, str(REPOSITORY / "benchmarks" / name), *options]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def held_out(here, monkeypatch, capsys):
    """What the script printed of a data set of short histories, and the lines before and after: (user, item) each."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    import hold_out

    chance = random.Random(1)
    events = [
        (f"u{user}", f"i{item}", 100.0 * user + step)
        for user in range(40)
        for step, item in enumerate(chance.sample(range(12), k=4 + user % 4))
    ]
    write_dataset(here / "data", "short", events)
    options = ["--what=items", "--dataset=short", "--data_path=data", "--output=data", "--share=0.3"]
    monkeypatch.setattr(sys, "argv", ["hold_out.py", *options])
    hold_out.main()
    monkeypatch.setattr(sys, "argv", ["test"])
    printed = capsys.readouterr().out
    lines = (here / "data" / "short-new-items" / "short-new-items.inter").read_text().splitlines()[1:]
    return printed, [event[:2] for event in events], [tuple(line.split("\t")[:2]) for line in lines]


@pytest.mark.slow
def test_every_kind_of_model_is_tested_on_the_same_events(held_out, settings):
    first, second = run(["GRU4Rec", "Pop"], "short-new-items", config_dict=settings)
    assert first.test_digest == second.test_digest


def test_held_out_items_are_last_events_only_and_the_dropped_are_counted(held_out):
    printed, before, after = held_out
    counts = json.loads(printed.splitlines()[-1])
    left = Counter(user for user, _ in after)
    assert min(left.values()) == 4
    assert counts["users_dropped"] == 40 - len(left) > 0
    assert f"; {counts['users_dropped']} users with fewer than 4 events left were dropped" in printed
    last = dict(after)
    new = {item for _, item in before} - {item for place, (_, item) in enumerate(after[:-1])
                                          if after[place + 1][0] == after[place][0]}  # fmt: skip
    assert len(new) == counts["items_held_out"] == 3
    assert sum(item in new for item in last.values()) == counts["tested_events"] > 0
    assert counts["events"] == len(after)


@pytest.mark.slow
def test_profiles_tell_what_users_whom_training_never_saw_begin_with(here, settings):
    """Farmers read about bread and librarians about chess, each in an order of their own."""
    chance = random.Random(1)
    subjects = {"farmer": "bread", "librarian": "chess"}
    books = {f"{subject}{n}": f"{subject}, volume {n}" for subject in subjects.values() for n in range(12)}
    users = {f"u{n}": "librarian" if n % 2 else "farmer" for n in range(80)}
    events = [
        (user, f"{subjects[who]}{n}", float(step))
        for user, who in users.items()
        for step, n in enumerate(chance.sample(range(12), 8))
    ]
    write_dataset(here / "data", "readers", events, books, users)
    (here / "data" / "readers" / "content").mkdir()
    (here / "data" / "readers" / "content" / "users.jsonl").write_text(
        "".join(json.dumps({"user_id": user, "occupation": who}) + "\n" for user, who in users.items())
    )
    options = ["--dataset=readers", "--data_path=data", "--output=data"]
    held_out = json.loads(script("hold_out.py", "--what=users", *options, cwd=here).splitlines()[-1])
    assert held_out == {"dataset": "readers-new-users", "events": 64 * 8, "users_held_out": 16}
    kept, left_out = (
        (here / "data" / "readers-new-users" / name).read_text().splitlines()[1:]
        for name in ("readers-new-users.inter", "held_out.tsv")
    )
    whole = (here / "data" / "readers" / "readers.inter").read_text().splitlines()[1:]
    assert sorted(kept + left_out) == sorted(whole)
    ids = {line.split("\t")[0] for line in kept}
    assert not ids & {line.split("\t")[0] for line in left_out}
    known = (here / "data" / "readers-new-users" / "readers-new-users.user").read_text().splitlines()[1:]
    assert {line.split("\t")[0] for line in known} == ids

    trained, *_ = run(["LLMInterest"], "readers-new-users", config_dict={**settings, "epochs": 30})
    printed = script(
        "new_users.py", f"--checkpoint={trained.checkpoint}", "--dataset=readers-new-users", "--data_path=data",
        f"--feature_cache={settings['feature_cache']}", cwd=here,
    )  # fmt: skip
    figure = json.loads(printed.splitlines()[-1])
    assert figure["users"] == 16
    found = {known: metrics["of the first 10 events"] for known, metrics in figure["metrics"].items()}
    assert found["own profile"] > 0.7  # ten of the twelve books of the subject hold .83 of whichever eight
    assert found["nothing known"] < 0.6
    assert found["somebody else's"] < 0.6
    assert found["most popular items"] < 0.6


@pytest.mark.slow
def test_walks_find_items_that_few_users_never_chose(here, settings):
    """Users keep to a subject of thirty books; training sees a few of them, and most books have no event there."""
    chance = random.Random(1)
    subjects = ["bread", "chess", "opera", "sailing", "history of Rome", "gardens", "trains", "beetles"]
    books = {f"b{place}-{n}": f"{subject}, volume {n}" for place, subject in enumerate(subjects) for n in range(30)}
    events = [
        (f"u{user}", f"b{user % len(subjects)}-{n}", float(step))
        for user in range(160)
        for step, n in enumerate(chance.sample(range(30), 6))
    ]
    write_dataset(here / "data", "few", events, books)
    options = ["--dataset=few", "--data_path=data", "--output=data", "--share=0.15"]
    counts = json.loads(script("few_users.py", *options, cwd=here).splitlines()[-1])
    expected = {"users_trained": 24, "train_rows": 24 * 3, "valid_rows": 24, "test_rows": 160, "users_dropped": 0}
    assert counts == {"dataset": "few-few-users-1", **expected}
    trained = {line.split("\t")[0] for line in (here / "data/few-few-users-1/few-few-users-1.train.inter").open()}
    assert len(trained - {"user_id:token"}) == 24

    quick = {"metrics": ["NDCG", "NDCGUnseen"], "epochs": 60, "stopping_step": 60, "train_batch_size": 64}
    quick["benchmark_filename"] = ["train", "valid", "test"]
    found = {0.0: [], 4.0: []}
    for weight, seed in itertools.product(found, (1, 2, 3)):
        chosen = {**settings, **quick, "ssl_walks_weight": weight, "seed": seed}
        (result,) = run(["LLMInterest"], "few-few-users-1", config_dict=chosen)
        found[weight].append(result.test["filtered_ndcgunseen@3"])
    # any of the subject's 25 other books may be next: to know the subject is worth .085
    assert fmean(found[4.0]) > max(0.085, 1.4 * fmean(found[0.0]))


def test_profiles_tell_the_training_history_and_nothing_of_held_out_events(here):
    books = {f"b{n}": f"Book {n}" for n in range(9)}
    orders = {"data": range(9), "other": [*range(7), 8, 7]}
    told = {}
    for folder, order in orders.items():
        events = [("u1", f"b{n}", float(place)) for place, n in enumerate(order)]
        write_dataset(here / folder, "shop", [*events, ("u2", "b1", 0.0), ("u2", "b2", 1.0)], books, {"u1": "baker"})
        options = ["--dataset=shop", f"--data_path={folder}", f"--output={folder}"]
        counts = json.loads(script("user_profiles.py", *options, cwd=here).splitlines()[-1])
        assert counts == {"dataset": "shop-profiles", "profiles": 1, "written_by_model": 0}
        told[folder] = (here / folder / "shop-profiles" / "content" / "users.jsonl").read_text()
    profile = "last chosen: Book 6, Book 5, Book 4."
    assert json.loads(told["data"]) == {"user_id": "u1", "occupation": "baker", "history": profile}
    assert told["data"] == told["other"]


def test_joined_texts_are_those_of_the_last_events_in_the_order_of_time(here):
    folder = here / "data" / "notes"
    folder.mkdir(parents=True)
    rows = ["u1\ti2\t3\tthird", "u1\ti1\t1\tfirst", "u2\ti1\t1\telse", "u1\ti3\t2\t", "u1\ti1\t4\tfourth"]
    header = "user_id:token\titem_id:token\ttimestamp:float\tnote:token_seq"
    (folder / "notes.inter").write_text("\n".join([header, *rows]) + "\n")
    options = ["--dataset=notes", "--data_path=data", "--output=data", "--fields=note", "--window=3"]
    counts = json.loads(script("joined_texts.py", *options, cwd=here).splitlines()[-1])
    assert counts == {"dataset": "notes-window-3", "events": 5, "texts": 5, "windows": 4, "mean_words": 1.4}
    written = (here / "data/notes-window-3/notes-window-3.inter").read_text().splitlines()[1:]
    found = {tuple(line.split("\t")[:3]): line.split("\t")[3] for line in written}
    assert found["u1", "i1", "1"] == found["u1", "i3", "2"] == "first"
    assert found["u1", "i2", "3"] == "third; first"
    assert found["u1", "i1", "4"] == "fourth; third"
    assert found["u2", "i1", "1"] == "else"


def test_chats_become_replies_with_what_was_said_before_them(here):
    def chat(name, start, *turns):
        turns = [{"role": role, "text": text, "timestamp": start + n} for n, (role, text) in enumerate(turns)]
        return json.dumps({"dialogue_id": name, "turns": turns}) + "\n"

    said = (
        ("customer", "Hello."),
        ("customer", "A room?"),
        ("agent", "Yes."),
        ("customer", "Thanks."),
        ("agent", "Bye."),
    )
    chats = [chat("last", 900, ("agent", "Welcome."), ("agent", "Yes.")), *(chat(f"c{n}", n, *said) for n in range(9))]
    (here / "chats.jsonl").write_text("".join(chats))
    options = ["--chats=chats.jsonl", "--output=data"]
    counts = json.loads(script("dialogues.py", *options, cwd=here))
    assert counts == {"dataset": "dialogues", "chats": 10, "replies": 3, "train": 14, "valid": 2, "test": 4}
    texts = {
        row["item_id"]: row["reply"] for row in map(json.loads, (here / "data/dialogues/content/items.jsonl").open())
    }
    rows = map(json.loads, (here / "data/dialogues/content/events.jsonl").open())
    found = {(row["user_id"], texts[row["item_id"]]): (row["message"], row["chat"]) for row in rows}
    assert found["c0", "Yes."] == ("Hello. A room?", "A room? Hello.")
    assert found["c0", "Bye."] == ("Thanks.", "Thanks. Yes. A room? Hello.")
    assert found["last", "Welcome."] == ("", "")
    assert found["last", "Yes."] == ("", "Welcome.")

    for line, words in (
        (chat("x", 0, ("user", "Hi.")), r"line 11: no chat .*role \(customer or agent\).* a turn of 'user'"),
        (chat("x", 0, ("agent", None)), "line 11: .* with the text None"),
        (chat("x", math.nan, ("agent", "Hi.")), "line 11: .*the timestamp nan"),
        (chat("x", 0), "line 11: .*no turns"),
        ('{"id": 1}\n', r"line 11: no chat with dialogue_id and turns of role .*\(KeyError: 'dialogue_id'\)"),
        ("oops\n", "line 11: no chat .*JSONDecodeError"),
    ):
        (here / "chats.jsonl").write_text("".join(chats) + line)
        command = [sys.executable, str(REPOSITORY / "benchmarks/dialogues.py"), *options, "--name=again"]
        done = subprocess.run(command, cwd=here, capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert re.search(words, done.stderr)


def test_recall_among_a_few_is_the_mean_over_draws(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    from among import recall_among

    ranks, draw = np.array([1, 4, 12, 30]), np.random.default_rng(0)
    others = np.array([draw.choice(29, 9, replace=False) for _ in range(20_000)])  # of 30 items, 10 candidates
    drawn = [((others < rank - 1).sum(axis=1) < 3).mean() for rank in ranks]
    assert recall_among(ranks, 30, 10, 3) == pytest.approx(drawn, abs=0.015)


def test_recall_among_a_few_is_tested_over_users(here, settings, monkeypatch):
    """Several events of one user count as one observation."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    from among import recall_among

    events = [
        (f"u{user}", f"i{user * step % 13}", float(8 * step + user % 7)) for user in range(30) for step in range(8)
    ]
    write_dataset(here / "data", "few", events, {f"i{n}": f"Book {n}" for n in range(13)})
    ranked = {"topk": [1, 13], "valid_metric": "NDCG@13", "time_split": [0.6, 0.8], "test_targets": "successive"}
    runs = run(["Pop", "RepeatLast"], "few", config_dict={**settings, **ranked})
    write_comparison(runs, here / "few.json")
    printed = script("among.py", "--table=few.json", "--candidates=5", "--k=1", cwd=here)
    pop, last = (means_by_user(recall_among(np.array(one.ranks), 13, 5, 1), one.event_users) for one in runs)
    assert len(pop) < len(runs[0].ranks)
    (row,) = (line.split("|") for line in printed.splitlines() if "RepeatLast" in line)
    assert float(row[4].split(",")[0]) == pytest.approx(ttest_rel(last, pop).pvalue, rel=0.06)


@pytest.mark.slow
def test_clicks_are_told_from_what_else_was_shown(here, settings):
    """Users click what is dear to them among four that are shown, on four days: held-out days are told well."""
    chance = random.Random(1)
    folder = here / "data" / "pages"
    (folder / "content").mkdir(parents=True)
    rows = ["user_id:token\titem_id:token\ttimestamp:float\tlabel:float\timpression_id:token"]
    for page in range(600):
        user, shown = page % 30, chance.sample(range(16), 4)
        dear = max(shown, key=lambda item: (item + 5 * (user % 3)) % 16)
        time = 86_400 * (page // 150) + page
        rows += [f"u{user}\ti{item}\t{time}\t{int(item == dear)}\tp{page}" for item in shown]
    (folder / "pages.inter").write_text("\n".join(rows) + "\n")
    with gzip.open(folder / "content" / "history.jsonl.gz", "wt") as file:
        file.write(json.dumps({"impression_id": "p0", "history": ["i3", "i4"]}) + "\n")
    printed = script("click_through.py", "data", "--source=data/pages", "--output=data", cwd=here)
    counts = {"train": 302, "valid": 150, "test": 150}
    assert json.loads(printed.splitlines()[-1]) == {"items": 16, "impressions": 600, "clicks": counts}

    rows = yaml.safe_load((REPOSITORY / "benchmarks/rows/click-through.yaml").read_text())["shown alone"]
    quick = {"epochs": 40, "stopping_step": 40, "learning_rate": 0.01, "show_progress": False}
    chosen = {**settings, **quick, **{name: value for name, value in rows.items() if name not in ("model", *quick)}}
    (result,) = run(["LLMInterest"], "pages-clicks", config_dict={**chosen, "modalities": []})
    ours = script(
        "click_through.py", "measure", f"--checkpoint={result.checkpoint}", "--impressions=data/pages-clicks", cwd=here
    )
    write_embeddings(Recommender.load(result.checkpoint), here / "features")
    options = ["--dataset=pages", "--data_path=data"]
    stock = script("click_through.py", "stock", "--model=FM", *options, cwd=here)
    with_ours = script("click_through.py", "stock", "--model=FM", *options, "--embeddings=features", cwd=here)
    assert "FM with embeddings" in with_ours
    for printed in (ours, stock, with_ours):
        rows = [line.split("|") for line in printed.splitlines() if line.startswith("|")]
        figures = {cells[1].strip(): cells[2].strip() for cells in rows}
        assert min(float(figures["AUC"]), float(figures["AUC on validation, to choose by"])) > 0.8
        assert float(figures["log loss"]) < float(figures["log loss of validation's mean rate"])
        assert float(figures["ECE, 10 bins"]) < 0.15


@pytest.mark.slow
def test_forecasts_are_measured_on_events_that_training_never_saw(here, settings):
    """Every user buys of the subjects in turn: five events ahead are known but for a method that takes no turns."""
    subjects = ["bread", "chess", "opera", "gardens"]
    books = {f"b{place}-{n}": f"{subject}, volume {n}" for place, subject in enumerate(subjects) for n in range(3)}
    chance = random.Random(1)
    events = [
        (f"u{user}", f"b{(user + step // 6) % 4}-{chance.randrange(3)}", float(step))
        for user in range(40)
        for step in range(24)
    ]
    write_dataset(here / "data", "turns", events, books)
    printed = script("forecast.py", "split", "--dataset=turns", "--data_path=data", "--output=data", cwd=here)
    assert json.loads(printed) == {"dataset": "turns-forecast", "users": 40, "events_held_out": 200}
    quick = {"epochs": 40, "stopping_step": 40, "learning_rate": 0.01}
    (result,) = run(["LLMInterest"], "turns-forecast", config_dict={**settings, **quick})
    options = [f"--checkpoint={result.checkpoint}", "--held_out=data/turns-forecast", "--users=20", "--samples=8"]
    rows = [
        line.split("|") for line in script("forecast.py", "measure", *options, cwd=here).splitlines() if "|" in line
    ]
    crps = {cells[1].strip(): float(cells[4]) for cells in rows[2:]}
    assert crps["the model"] < 0.6 * min(value for name, value in crps.items() if name != "the model")
    shown = script("forecast.py", "show", "forecast.json", "forecast.json", cwd=here).splitlines()
    assert [line.split("|") for line in shown if "|" in line] == rows  # the mean of two equal ones


@pytest.mark.slow
def test_periods_train_test_and_compare_three_methods(here, settings):
    """Users walk round the items: each data set ends with the period that tests it; an unfinished file is refused."""
    events = [
        (f"u{user}", f"i{(user + step) % 6}", float(100 * step + user)) for step in range(16) for user in range(12)
    ]
    write_dataset(here / "data", "walks", events, {f"i{n}": f"A film about number {n}" for n in range(6)})
    options = ["--dataset=walks", "--data_path=data", "--periods=4"]
    written = [
        json.loads(line) for line in script("periods.py", "split", *options, "--output=data", cwd=here).splitlines()
    ]
    assert [one["dataset"] for one in written] == ["walks-1", "walks-2", "walks-3"]
    assert [one["events"] for one in written] == [96, 144, 192]
    assert written[-1]["time_split"] == [0.675, 0.75]
    names = ("embedding_size", "hidden_size", "MAX_ITEM_LIST_LENGTH", "train_batch_size", "feature_cache")
    quick = [f"--{name}={settings[name]}" for name in names]
    quick += ["--text_encoder=hashing", "--topk=[6]", "--valid_metric=NDCG@6", "--metrics=[NDCG]", "--epochs=2"]
    script("periods.py", "run", *options, *quick, "--output=runs.json", "--warm=--epochs=1 --replay=1", cwd=here)
    runs = json.loads((here / "runs.json").read_text())
    assert Counter(one["method"] for one in runs) == {"trained anew": 3, "warm start": 2, "unchanged": 2}
    assert {one["epochs"] for one in runs if one["method"] == "unchanged"} == {0}
    shown = script("periods.py", "show", "runs.json", cwd=here)
    assert "kept: warm start / trained anew" in shown
    (here / "unfinished.json").write_text(json.dumps(runs[:-1]))
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "periods.py"), "show", "unfinished.json"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (2, "error: unfinished.json: 1 runs are missing: run them first")


def test_a_larger_shop_is_written_without_the_users_of_the_smaller_one(here):
    for name, users in (("large", range(6)), ("small", range(4, 9))):
        events = [(f"u{user}", f"{name}{step}", float(step)) for user in users for step in range(3)]
        write_dataset(here / "data", name, events)
    options = ["--source=large", "--target=small", "--data_path=data", "--output=data"]
    counts = {"users": 4, "events": 12, "users_left_out": 2, "shared_items": 0}
    assert json.loads(script("transfer.py", *options, cwd=here)) == {"dataset": "large-alone", **counts}
    written = (here / "data" / "large-alone" / "large-alone.inter").read_text()
    assert {line.split("\t")[0] for line in written.splitlines()[1:]} == {"u0", "u1", "u2", "u3"}
