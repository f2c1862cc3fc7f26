"""The file of all users' recommendations: it has what ``recommend`` gives each user, and is there only as a whole."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from conftest import QUICK, full_disk

from recbole_llm_interest import recommend_all
from recbole_llm_interest.errors import LLMInterestError, RequestError, StorageError
from recbole_llm_interest.io.files import exclusive_data_set_lock
from recbole_llm_interest.io.manifest import find_record
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.recommender import recommend_all as module
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


@pytest.mark.parametrize("batch", [1024, 7])  # in one part, and in several with a rest
def test_each_user_gets_what_recommend_gives(recommender, here, monkeypatch, batch):
    monkeypatch.setattr(module, "_BATCH", batch)
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
    with full_disk(2000), pytest.raises(StorageError, match=r"best\.parquet cannot be written .*: free some space"):
        recommend_all(recommender, here / "best.parquet", k=3)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "to_frame", interrupt)
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
