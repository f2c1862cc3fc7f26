"""Features made elsewhere: every layout that people have them in, and every way in which they can be wrong."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from recbole_llm_interest.content.precomputed import read_features
from recbole_llm_interest.errors import DataError

TOKENS = ["b", "a", "d"]
IDS = ["a", "b", "c"]
ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


def write_npy_with_ids(folder):
    np.save(folder / "f.npy", ROWS)
    (folder / "f.ids.tsv").write_text("item_id\tconfidence\n" + "".join(f"{token}\thigh\n" for token in IDS))
    return folder / "f.npy"


def write_npy_with_json_ids(folder):
    np.save(folder / "f.npy", ROWS.astype(np.float64))
    (folder / "f.ids.json").write_text(json.dumps(IDS))
    return folder / "f.npy"


def write_one_tensor(folder):
    save_file({"features": ROWS}, folder / "f.safetensors", metadata={"ids": json.dumps(IDS)})
    return folder / "f.safetensors"


def write_a_tensor_an_id(folder):
    save_file(dict(zip(IDS, ROWS, strict=True)), folder / "f.safetensors")
    return folder / "f.safetensors"


def write_parquet_of_lists(folder):
    pd.DataFrame({"item_id": IDS, "vector": list(ROWS)}).to_parquet(folder / "f.parquet")
    return folder / "f.parquet"


def write_parquet_of_columns(folder):
    pd.DataFrame(ROWS, columns=list("wxyz")).assign(item_id=IDS).to_parquet(folder / "f.parquet")
    return folder / "f.parquet"


def write_recbole(folder):
    lines = [f"{token}\t{' '.join(map(str, row))}" for token, row in zip(IDS, ROWS, strict=True)]
    (folder / "d.itememb").write_text("\n".join(["iid:token\titem_emb:float_seq", *lines]) + "\n")
    return folder / "d.itememb"


def write_mmrec(folder):
    np.save(folder / "image_feat.npy", ROWS[[2, 0, 1]])
    (folder / "i_id_mapping.csv").write_text("asin\titemID\na\t1\nb\t2\nc\t0\n")
    return folder / "image_feat.npy"


def write_unisrec(folder):
    ROWS[[1, 2, 0]].tofile(folder / "d.feat1CLS")
    (folder / "d.item2index").write_text("b\t0\nc\t1\na\t2\n")
    return folder / "d.feat1CLS"


def write_ducho(folder):
    layer = folder / "torch" / "resnet" / "avgpool"
    layer.mkdir(parents=True)
    for token, row in zip(IDS, ROWS, strict=True):
        np.save(layer / f"{token}.npy", row[None])
    return layer


WRITERS = [
    write_npy_with_ids,
    write_npy_with_json_ids,
    write_one_tensor,
    write_a_tensor_an_id,
    write_parquet_of_lists,
    write_parquet_of_columns,
    write_recbole,
    write_mmrec,
    write_unisrec,
    write_ducho,
]


@pytest.mark.parametrize("write", WRITERS)
def test_rows_are_found_by_id_in_every_layout(write, tmp_path):
    found = read_features(write(tmp_path), TOKENS, "item", "item_id")
    assert set(found) == {"a", "b"}  # c is not in the data set, d has no features
    assert np.array_equal(found["a"], ROWS[0])
    assert np.array_equal(found["b"], ROWS[1])
    assert found["a"].dtype == np.float32


@pytest.mark.parametrize(
    "precision", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2, torch.int32]
)
def test_tensors_of_every_precision_are_read(precision, tmp_path):
    """Language models compute in bfloat16, of which numpy knows nothing. The rows' numbers are exact in all of them."""
    values = torch.tensor([[0, 1, 2, 3], [-4, 5, 6, 7], [8, 10, -12, 14]])
    rows = values.float().where(values < 4, values.float().div(4).round())
    tensors = dict(zip(IDS, rows.to(precision), strict=True))
    save_tensors(tensors, tmp_path / "f.safetensors")
    save_tensors({"features": rows.to(precision)}, tmp_path / "g.safetensors", metadata={"ids": json.dumps(IDS)})
    for name in ("f", "g"):
        found = read_features(tmp_path / f"{name}.safetensors", TOKENS, "item", "item_id")
        assert found["a"].dtype == np.float32
        assert np.array_equal(np.stack([found["a"], found["b"]]), rows[:2].numpy())


def test_mmrecs_own_numbers_are_ids_where_the_interactions_use_them(tmp_path):
    found = read_features(write_mmrec(tmp_path), ["1", "2", "7"], "item", "item_id")
    assert set(found) == {"1", "2"}
    assert np.array_equal(found["1"], ROWS[0])


def test_mmrec_map_that_can_be_read_two_ways_is_refused(tmp_path):
    """Raw ids that are numbers, too: half of the rows would go to the wrong items."""
    np.save(tmp_path / "image_feat.npy", ROWS)
    (tmp_path / "i_id_mapping.csv").write_text("asin\titemID\n1\t0\n2\t1\n3\t2\n")
    with pytest.raises(DataError, match="it is ambiguous which are meant"):
        read_features(tmp_path / "image_feat.npy", ["1", "2"], "item", "item_id")


def test_quoted_ids_of_a_csv_file_are_those_within(tmp_path):
    np.save(tmp_path / "x.npy", ROWS)
    (tmp_path / "x.ids.csv").write_text('"a, or b",1\n"c",2\nd,3\n')
    assert set(read_features(tmp_path / "x.npy", ["a, or b", "c"], "item", "item_id")) == {"a, or b", "c"}


def test_ducho_cuts_a_name_at_its_first_dot(tmp_path):
    found = read_features(write_ducho(tmp_path), ["a.1", "b"], "item", "item_id")
    assert set(found) == {"a.1", "b"}
    assert np.array_equal(found["a.1"], ROWS[0])


def test_header_of_the_ids_may_be_the_data_sets_own_name_for_them(tmp_path):
    np.save(tmp_path / "f.npy", ROWS)
    (tmp_path / "f.ids.csv").write_text("movie:token,x\na,1\nb,2\nc,3\n")
    assert set(read_features(tmp_path / "f.npy", TOKENS, "item", "movie")) == {"a", "b"}


def test_users_have_features_too(tmp_path):
    np.save(tmp_path / "user_feat.npy", ROWS)
    (tmp_path / "u_id_mapping.csv").write_text("user\tuserID\na\t0\nb\t1\nc\t2\n")
    assert set(read_features(tmp_path / "user_feat.npy", TOKENS, "user", "user_id")) == {"a", "b"}


class Payload:
    def __reduce__(self):
        import os

        return os.mkdir, ("executed",)


def npy(rows, ids=IDS):
    def write(folder):
        np.save(folder / "f.npy", rows)
        (folder / "f.ids.txt").write_text("\n".join(ids) + "\n")
        return folder / "f.npy"

    return write


def poisoned(folder):
    np.save(folder / "f.npy", np.array([Payload()], dtype=object), allow_pickle=True)
    (folder / "f.ids.txt").write_text("a\n")
    return folder / "f.npy"


def pickled(folder):
    (folder / "f.npy").write_bytes(pickle.dumps(Payload()))
    (folder / "f.ids.txt").write_text("a\n")
    return folder / "f.npy"


def pickled_as(name):
    def write(folder):
        (folder / name).write_bytes(pickle.dumps(Payload()))
        return folder / name

    return write


def saved_by_torch(folder):
    torch.save({"features": Payload()}, folder / "f.pt")
    return folder / "f.pt"


def object_in_folder(folder):
    np.save(folder / "a.npy", np.array([Payload()], dtype=object), allow_pickle=True)
    return folder


def unisrec_of(width_bytes, lines):
    def write(folder):
        (folder / "d.feat1CLS").write_bytes(b"\0" * width_bytes)
        (folder / "d.item2index").write_text(lines)
        return folder / "d.feat1CLS"

    return write


def without_ids(folder):
    np.save(folder / "f.npy", ROWS)
    return folder / "f.npy"


def uneven_folder(folder):
    for token, width in zip(IDS, (4, 4, 5), strict=True):
        np.save(folder / f"{token}.npy", np.zeros(width))
    return folder


def collided_folder(folder):
    np.save(folder / "a.npy", np.zeros(4))
    return folder


def archive(folder):
    np.savez(folder / "f.npz", ROWS)
    (folder / "f.npz").rename(folder / "f.npy")
    return folder / "f.npy"


def ids_as_a_map(folder):
    np.save(folder / "f.npy", ROWS)
    (folder / "f.ids.json").write_text(json.dumps({"a": 2, "b": 1, "c": 0}))
    return folder / "f.npy"


def parquet_with(**columns):
    def write(folder):
        pd.DataFrame({"item_id": IDS, **columns}).to_parquet(folder / "f.parquet")
        return folder / "f.parquet"

    return write


def parquet_with_ids(ids):
    return parquet_with(item_id=ids, vector=list(ROWS))


TITLES = ["Heat", "Ran", "M"]


def written(name, text):
    def write(folder):
        (folder / name).write_text(text)
        return folder / name

    return write


@pytest.mark.parametrize(
    ("write", "tokens", "message"),
    [
        (npy(ROWS, IDS[:2]), TOKENS, "3 rows, but 2 ids"),
        (npy(ROWS, ["a", "b", "a"]), TOKENS, "duplicate ids: 'a'"),
        (npy(np.where(ROWS == 5, np.nan, ROWS)), TOKENS, "NaN, Inf .* in the rows of 'b'"),
        (npy(np.where(ROWS == 5, np.inf, ROWS)), TOKENS, "NaN, Inf .* in the rows of 'b'"),
        (npy(np.where(ROWS == 5, 1e300, ROWS.astype(float))), TOKENS, "numbers beyond float32 in the rows of 'b'"),
        (npy(ROWS.astype(str)), TOKENS, "a table .* of numbers expected"),
        (npy(ROWS[0]), TOKENS, "a table .* expected"),
        (npy(np.zeros((3, 0))), TOKENS, "a table .* expected"),
        (npy(ROWS), ["x", "y"], "none of their 3 ids .*'a'.* is one of the data set's items .*'x'"),
        (archive, TOKENS, r"archive of several tables"),
        (ids_as_a_map, TOKENS, "have to be a JSON list in the order of the rows, not a dict"),
        (without_ids, TOKENS, "have no ids: put them"),
        (poisoned, TOKENS, "cannot be read"),
        (pickled, TOKENS, "cannot be read"),
        (object_in_folder, TOKENS, "cannot be read"),
        (saved_by_torch, TOKENS, "are a pickle, which could run any code"),
        *((pickled_as(f"f.{ending}"), TOKENS, "are a pickle") for ending in ("pt", "pth", "pkl", "bin", "joblib")),
        (pickled_as("f.itememb"), TOKENS, "is not UTF-8"),
        (pickled_as("f.safetensors"), TOKENS, "cannot be read"),
        (pickled_as("f.parquet"), TOKENS, "cannot be read"),
        (
            written("f.itememb", "iid:token\temb:float_seq\na\t1 2\nb\n"),
            TOKENS,
            "another number of columns than the header: '2'",
        ),
        (parquet_with_ids([1.0, np.nan, 3.0]), TOKENS, "rows without an id, or ids that are fractions"),
        (parquet_with_ids(["a", None, "c"]), TOKENS, "rows without an id"),
        (unisrec_of(48, "a\t0\nb\t1\nc\t2\nd\t3\ne\t4\n"), TOKENS, "48 bytes are no table of 5 float32 rows"),
        (unisrec_of(47, "a\t0\nb\t1\nc\t2\n"), TOKENS, "47 bytes are no table"),
        (unisrec_of(48, "a\t0\nb\t1\nc\t3\n"), TOKENS, "does not number its 3 ids from 0 to 2"),
        (uneven_folder, TOKENS, r"rows of other shapes than \(4,\): 'c'"),
        (collided_folder, ["a.1", "a.2"], "a.npy stands for several items: 'a.1', 'a.2'"),
        (collided_folder, ["a.1", "a"], "a.npy stands for several items: 'a.1', 'a'"),
        (lambda folder: folder, TOKENS, "holds no .npy files"),
        (lambda folder: folder / "nothing.npy", TOKENS, "do not exist"),
        (written("f.csv", "a,1,2\n"), TOKENS, "neither a known suffix"),
        (written("f.safetensors", "x" * 100), TOKENS, "cannot be read"),
        (written("f.parquet", "x" * 100), TOKENS, "cannot be read"),
        (parquet_with(title=TITLES, f0=ROWS[0, :3], seen=[True] * 3), TOKENS, "hold no numbers: 'title', 'seen'; save"),
        (parquet_with(title=TITLES, vector=list(ROWS)), TOKENS, "hold no numbers: 'title', 'vector'; save"),
        (parquet_with(title=TITLES), TOKENS, "hold no numbers: 'title'; save it with item_id and either one column of"),
    ],
)
def test_what_is_wrong_is_refused_by_name(write, tokens, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        read_features(write(tmp_path), tokens, "item", "item_id")
    assert not (tmp_path / "executed").exists()
