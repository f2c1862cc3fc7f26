"""The file of all users' recommendations: it has what ``recommend`` gives each user, and is there only as a whole."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace

import pandas as pd
import pytest
import torch
from conftest import QUICK, full_disk

from recbole_llm_interest import recommend_all
from recbole_llm_interest.errors import LLMInterestError, RequestError, StorageError
from recbole_llm_interest.io.files import exclusive_data_set_lock, exclusive_lock, write_atomically
from recbole_llm_interest.io.manifest import find_record
from recbole_llm_interest.recommender import Recommender, recommendation_parts
from recbole_llm_interest.recommender import recommend_all as module
from recbole_llm_interest.recommender.recommend_all import write_all
from recbole_llm_interest.recommender.recommendation_parts import PartsJob, write_part
from recbole_llm_interest.recommender.trained import Trained

COLUMNS = ["user", "rank", "item", "title", "score"]


@pytest.fixture
def recommender(tiny_model):
    return Recommender(tiny_model)


@pytest.fixture
def uneven(built):
    """Makes a recommender of a random model whose users have histories of different lengths."""

    def make(**settings):
        _, model, dataset, *_ = built("LLMInterest", "cycle", text_encoder="hashing", **settings)
        tokens = [str(token) for token in dataset.field2id_token["item_id"]]
        users = {str(token): row for row, token in enumerate(dataset.field2id_token["user_id"]) if row}

        def recorded(users):
            lengths = [int(user[1:]) % 9 for user in users]  # also none, and more than attention sees
            return [([f"i{n}" for n in range(length)], [float(n) for n in range(length)]) for length in lengths]

        length = QUICK["MAX_ITEM_LIST_LENGTH"]
        return Recommender(Trained(model, tokens, users, length, {}, {}, None, None, recorded, recorded))

    return make


def assert_is_what_each_user_gets(frame, recommender, k, exclude_seen=False):
    assert frame.columns.tolist() == COLUMNS
    assert frame["user"].drop_duplicates().tolist() == list(recommender.users)
    for user, rows in frame.groupby("user"):
        expected = recommender.recommend(recommender.start(user), k, exclude_seen=exclude_seen)
        assert rows["rank"].tolist() == list(range(1, k + 1))
        assert rows["score"].tolist() == pytest.approx([score for _, score in expected], abs=1e-4)
        assert rows["title"].tolist() == [recommender.label(item) for item in rows["item"]]
        assert set(rows["item"]) == {item for item, _ in expected}


@pytest.mark.parametrize("size", [1024, 7])  # in one part, and in several with a rest
def test_each_user_gets_what_recommend_gives(recommender, here, monkeypatch, size):
    monkeypatch.setattr(module, "_PART_USERS", size)
    frame = pd.read_parquet(recommend_all(recommender, here / "new" / "best.parquet", k=3))
    assert_is_what_each_user_gets(frame, recommender, k=3)
    assert [path.name for path in (here / "new").iterdir()] == ["best.parquet"]


@pytest.mark.parametrize(
    "changes", [{}, {"tracker": "transformer"}, {"tracker": "hstu"}, {"tracker": "ligr"}, {"attention_readout": True}]
)
def test_histories_may_differ_in_length(uneven, here, changes):
    recommender = uneven(**changes)
    frame = pd.read_parquet(recommend_all(recommender, here / "best.parquet", k=3))
    assert_is_what_each_user_gets(frame, recommender, k=3)
    if changes:
        with pytest.raises(RequestError, match="start each user alone"):
            recommender.start(["u1", "u2"])
        assert len(recommender.start(["u1", "u10"])) == 2  # both have one event
        assert recommender.start(["u6", "u8", "u7"]).users == ("u6", "u8", "u7")  # attention sees the last six of each
    else:
        assert recommender.start(["u1", "u2", "u10"]).length.tolist() == [1, 2, 1]


def test_users_with_few_unseen_items_get_fewer(uneven, here):
    recommender = uneven()
    frame = pd.read_parquet(recommend_all(recommender, here / "best.parquet", k=3, exclude_seen=True))
    rows = frame.groupby("user").size()
    for user in recommender.users:
        assert rows.get(user, 0) == min(3, 8 - int(user[1:]) % 9)
    assert not ((frame["user"] == "u5") & frame["item"].isin([f"i{n}" for n in range(5)])).any()
    empty = pd.read_parquet(recommend_all(recommender, here / "best.parquet", k=3, users=["u8"], exclude_seen=True))
    assert (len(empty), empty.columns.tolist()) == (0, COLUMNS)


def test_users_are_those_that_are_named_in_their_order(recommender, here):
    frame = pd.read_parquet(recommend_all(recommender, here / "best.parquet", k=1, users=pd.Series(["u9", "u2", "u9"])))
    assert frame["user"].tolist() == ["u9", "u2", "u9"]


MISTAKES = {
    "one user": ({"users": "u1"}, "did you mean users=['u1']?"),
    "unknown user": ({"users": ["u1", "nobody"]}, "unknown user 'nobody'"),
    "no users": ({"users": []}, "there are no users"),
    "too many items": ({"k": 9}, "there are only 8 candidates"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_leave_the_former_file(recommender, here, name):
    words, message = MISTAKES[name]
    (here / "best.parquet").write_text("before")
    with pytest.raises(LLMInterestError) as error:
        recommend_all(recommender, here / "best.parquet", **words)
    assert message in str(error.value)
    assert [(path.name, path.read_text()) for path in here.iterdir()] == [("best.parquet", "before")]


def test_full_disk_and_interrupt_leave_the_former_file(tiny_model, here, monkeypatch):
    recommender = Recommender(replace(tiny_model, source=None))  # the limit is for the file, not for the manifest
    (here / "best.parquet").write_text("before")
    with full_disk(2000), pytest.raises(StorageError, match=r"best\.parquet\..* cannot be written .*: free some space"):
        recommend_all(recommender, here / "best.parquet", k=3)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_part", interrupt)
    with pytest.raises(KeyboardInterrupt):
        recommend_all(recommender, here / "best.parquet", k=3)
    assert [(path.name, path.read_text()) for path in here.iterdir()] == [("best.parquet", "before")]


def test_other_folders_of_the_users_stay(recommender, here):
    for name in (".incomplete", ".complete"):
        (here / name).mkdir()
        (here / name / "mine").write_text("mine")
    recommend_all(recommender, here / "best.parquet", k=3)
    assert all((here / name / "mine").exists() for name in (".incomplete", ".complete"))


def test_file_is_recorded_and_is_not_made_while_forget_runs(tiny_model, here):
    data = here / "data" / "mine"
    data.mkdir(parents=True)
    source = replace(tiny_model.source, path=here / "saved" / "model.safetensors", dataset="mine", data_path=data)
    recommender = Recommender(replace(tiny_model, source=source))
    with exclusive_data_set_lock(data), pytest.raises(StorageError, match="are being removed from this data set"):
        recommend_all(recommender, here / "best.parquet", k=3)
    assert not (here / "best.parquet").exists()
    record = find_record(recommend_all(recommender, here / "best.parquet", k=3))
    assert (record.dataset, record.data_path, record.run) == ("mine", data, str(source.path))


#: recommends to all users in parts of five, and kills itself by SIGKILL before the third of them
KILLED = """
import os, signal, sys
from recbole_llm_interest.recommender import Recommender, recommend_all as module
module._PART_USERS, write_part = 5, module.write_part

def write_two(recommender, job, number, users):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return write_part(recommender, job, number, users)

module.write_part = write_two
module.recommend_all(Recommender.load(sys.argv[1], data_path=sys.argv[2]), sys.argv[3], k=3)
"""


@pytest.fixture
def kill(recommender, tiny_checkpoint):
    """Kills a process that recommends to all users of ``recommender``, and leaves two parts."""

    def run(path):
        words = [tiny_checkpoint, recommender._trained.source.data_path.parent, path]
        assert subprocess.run([sys.executable, "-c", KILLED, *map(str, words)]).returncode == -signal.SIGKILL

    return run


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(module, "_PART_USERS", 5)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_killed_run_goes_on_and_ends_in_the_same_bytes(recommender, here, kill, small_parts, caplog, ending):
    whole, path = here / f"whole.{ending}", here / f"best.{ending}"
    recommend_all(recommender, whole, k=3)
    path.write_text("before")
    kill(path)
    assert path.read_text() == "before"
    made = write_all(recommender, path, k=3)
    assert (made.users, made.users_done_before) == (24, 10)
    assert path.read_bytes() == whole.read_bytes()
    assert {one.name for one in here.iterdir()} == {whole.name, path.name}
    assert not caplog.records


@pytest.mark.slow
@pytest.mark.parametrize("change", ["k", "exclude_seen", "users", "model", "items", "events", "title"])
def test_parts_from_other_inputs_are_never_used(tiny_model, recommender, here, kill, small_parts, caplog, change):
    kill(here / "best.csv")
    other, words = Recommender(tiny_model), {"k": 3}
    if change == "model":
        other = Recommender(replace(tiny_model, model=deepcopy(tiny_model.model)))
        with torch.no_grad():
            other._trained.model.tracker.output.bias.add_(1)
        other = Recommender(other._trained)
    elif change == "items":
        other.remove_item("i1")
    elif change == "events":
        other = Recommender(replace(tiny_model, recorded=lambda users: [(["i3"], [1.0]) for _ in users]))
    elif change == "title":
        other = Recommender(replace(tiny_model, labels={**tiny_model.labels, "i1": "Another title"}))
    else:
        words |= {"k": {"k": 2}, "exclude_seen": {"exclude_seen": True}, "users": {"users": ["u3", "u1", "u2"]}}[change]
    made = write_all(other, here / "best.csv", **words)
    alone = recommend_all(other, here / "alone.csv", **words)
    assert made.users_done_before == 0
    assert made.path.read_bytes() == alone.read_bytes()
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == f"{made.path}: finished parts of another model, other data or options are made anew"
    assert {one.name for one in here.iterdir()} == {"best.csv", "alone.csv"}


def test_only_users_with_other_events_are_made_anew(tiny_model, here, small_parts, monkeypatch):
    """A part is made of its users' events alone, so that those of users without new events stay."""

    def interrupt(*_):
        raise KeyboardInterrupt

    recommender = Recommender(tiny_model)
    monkeypatch.setattr(module, "write_atomically", interrupt)  # at the end, when the parts are joined
    with pytest.raises(KeyboardInterrupt):
        recommend_all(recommender, here / "best.csv", k=3)
    monkeypatch.setattr(module, "write_atomically", write_atomically)

    def recorded(users):
        return [(items[:-1], times[:-1]) if user == "u7" else (items, times)
                for user, (items, times) in zip(users, tiny_model.recorded(users), strict=True)]  # fmt: skip

    changed = Recommender(replace(tiny_model, recorded=recorded))
    assert write_all(changed, here / "best.csv", k=3).users_done_before == 24 - 5
    expected = recommend_all(changed, here / "alone.csv", k=3)
    assert (here / "best.csv").read_bytes() == expected.read_bytes()


def test_csv_and_json_lines_have_what_parquet_has(recommender, here, small_parts):
    expected = pd.read_parquet(recommend_all(recommender, here / "best.parquet", k=3))
    csv = pd.read_csv(recommend_all(recommender, here / "best.csv", k=3))
    lines = [json.loads(line) for line in recommend_all(recommender, here / "best.jsonl", k=3).open()]
    for frame in (csv, pd.DataFrame(lines)):
        pd.testing.assert_frame_equal(frame, expected, rtol=1e-6)


def test_commas_quotes_and_other_scripts_stay_as_they_are(tiny_model, here):
    titles = {"i1": 'Bread, "rye"', "i2": "两行\n标题", "i3": "a/b"}
    recommender = Recommender(replace(tiny_model, labels=titles))
    expected = pd.read_parquet(recommend_all(recommender, here / "best.parquet", k=8))["title"].tolist()
    assert set(titles.values()) <= set(expected)
    assert pd.read_csv(recommend_all(recommender, here / "best.csv", k=8))["title"].tolist() == expected
    lines = recommend_all(recommender, here / "best.jsonl", k=8).read_text("utf-8").splitlines()
    assert [json.loads(line)["title"] for line in lines] == expected
    assert any("两行" in line for line in lines)


def test_histories_in_several_chunks_give_the_same(uneven, here, monkeypatch):
    recommender = uneven()
    expected = pd.read_parquet(recommend_all(recommender, here / "best.parquet", k=3))
    monkeypatch.setattr(recommendation_parts, "_MAX_EVENTS", 20)
    found = pd.read_parquet(recommend_all(recommender, here / "best.parquet", k=3))
    pd.testing.assert_frame_equal(found.drop(columns="score"), expected.drop(columns="score"))
    assert found["score"].tolist() == pytest.approx(expected["score"].tolist(), abs=1e-4)


@pytest.mark.parametrize("name", ["best", "best.xlsx", "best.parquet.gz"])
def test_other_endings_are_an_error(recommender, here, name):
    with pytest.raises(RequestError, match=r"known are \.parquet, \.csv, \.jsonl"):
        recommend_all(recommender, here / name, k=3)
    assert not list(here.iterdir())


def test_another_process_is_not_disturbed(recommender, here):
    with exclusive_lock(here / "best.csv", ""), pytest.raises(StorageError, match="is in use by another run"):
        recommend_all(recommender, here / "best.csv", k=3)


def test_parts_are_recorded_as_the_file(tiny_model, here):
    source = replace(tiny_model.source, path=here / "saved" / "model.safetensors")
    recommend_all(Recommender(replace(tiny_model, source=source)), here / "best.csv", k=3)
    assert find_record(here / ".best.csv.parts").kind == "recommendation parts"


def test_parts_that_other_processes_have_written_are_used(recommender, here, small_parts):
    job = pickle.loads(pickle.dumps(PartsJob.of(recommender, here / "best.csv", k=3, exclude_seen=False)))
    users = list(recommender.users)
    assert not write_part(recommender, job, 3, users[15:20]).was_there
    assert write_part(recommender, job, 3, users[15:20]).was_there
    assert write_all(recommender, here / "best.csv", k=3).users_done_before == 5
    assert pd.read_csv(here / "best.csv")["user"].drop_duplicates().tolist() == users
