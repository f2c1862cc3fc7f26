"""Neighbours by content: kept beside the features, and among many items approximate or refused, never silently."""

from __future__ import annotations

import logging
import sys

import pytest
import torch
from conftest import write_dataset
from safetensors.torch import save

from recbole_llm_interest.content import neighbour_files, neighbours
from recbole_llm_interest.content.neighbours import cached_neighbours, nearest_neighbours
from recbole_llm_interest.errors import DataError, StorageError


@pytest.fixture
def features():
    """Three hundred rows in thirty clumps, every seventh without content."""
    generator = torch.Generator().manual_seed(0)
    clumps = torch.randn(30, 8, generator=generator)
    values = clumps[torch.arange(300) % 30] + 0.3 * torch.randn(300, 8, generator=generator)
    return values, torch.arange(300) % 7 > 0


@pytest.fixture
def looked_for(monkeypatch):
    """How often neighbours were looked for."""
    calls = []
    monkeypatch.setattr(neighbour_files, "_CACHED_ROWS", 100)
    monkeypatch.setattr(neighbours, "nearest_neighbours", lambda *args: calls.append(1) or nearest_neighbours(*args))
    return calls


def test_neighbours_are_looked_for_once(features, looked_for, tmp_path):
    values, present = features
    first = cached_neighbours(values, present, 5, tmp_path)
    again = cached_neighbours(values.clone(), present.clone(), 5, tmp_path)
    assert len(looked_for) == 1
    assert torch.equal(first, again)
    assert torch.equal(first, nearest_neighbours(values, present, 5))


@pytest.mark.parametrize("change", ["values", "present", "count"])
def test_other_features_have_neighbours_of_their_own(features, looked_for, tmp_path, change):
    values, present = features
    cached_neighbours(values, present, 5, tmp_path)
    other = {"values": values, "present": present, "count": 5}
    other[change] = {"values": values.flip(0), "present": present.flip(0), "count": 6}[change]
    found = cached_neighbours(**other, folder=tmp_path)
    assert len(looked_for) == 2
    assert torch.equal(found, nearest_neighbours(**other))


@pytest.mark.parametrize("damage", ["cut", "empty", "nonsense", "other"])
def test_damaged_file_is_made_anew_and_said(features, looked_for, tmp_path, caplog, damage):
    values, present = features
    first = cached_neighbours(values, present, 5, tmp_path)
    (file,) = tmp_path.iterdir()
    if damage == "other":
        file.write_bytes(save({"neighbours": torch.full((300, 5), 999, dtype=torch.int32)}))
    else:
        file.write_bytes({"cut": file.read_bytes()[:-9], "empty": b"", "nonsense": b"x" * 500}[damage])
    assert torch.equal(cached_neighbours(values, present, 5, tmp_path), first)
    assert "is damaged" in caplog.text
    assert torch.equal(cached_neighbours(values, present, 5, tmp_path), first)
    assert len(looked_for) == 2


def test_few_rows_and_none_asked_for_leave_no_file(features, tmp_path):
    cached_neighbours(*features, 5, tmp_path)
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_written_is_an_error_with_remedies(features, looked_for, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"neighbours-\w+\.safetensors cannot be written .*content_neighbours=0"):
        cached_neighbours(*features, 5, tmp_path / "file" / "folder")


def test_second_model_finds_the_first_ones_neighbours(built, here, looked_for, feature_cache):
    events = [(f"u{u}", f"i{(u * 5 + s) % 150}", float(100 * u + s)) for u in range(60) for s in range(5)]
    write_dataset(here / "data", "many", events, {f"i{n}": f"film number {n}" for n in range(150)})
    first, second = (built("LLMInterest", "many", text_encoder="hashing", content_neighbours=7)[1] for _ in range(2))
    assert len(looked_for) == 1
    assert torch.equal(first.item_encoder.neighbours, second.item_encoder.neighbours)
    second.item_encoder.drop_modality("text", torch.arange(5))  # what is tried out once is not kept
    assert len(looked_for) == 2
    assert len(list((feature_cache / "many" / "neighbours").iterdir())) == 1


def test_too_many_rows_without_faiss_are_refused_with_remedies(features, monkeypatch):
    monkeypatch.setattr(neighbours, "EXACT_ROWS", 200)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(
        DataError, match=r"content_neighbours=5: 257 items .*pip install faiss-cpu.*content_neighbours=0"
    ):
        nearest_neighbours(*features, 5)


def test_faiss_finds_most_and_says_how_many(features, monkeypatch, caplog):
    pytest.importorskip("faiss")
    monkeypatch.setattr(neighbours, "EXACT_ROWS", 200)
    values, present = features
    monkeypatch.setattr(neighbours, "_SEARCHED_CELLS", 1000)  # all of them: then nothing is missed
    caplog.set_level(logging.WARNING)
    found = nearest_neighbours(values, present, 5)
    assert "faiss found 100.0 % of them" in caplog.text
    monkeypatch.setattr(neighbours, "EXACT_ROWS", 300)
    unit = torch.nn.functional.normalize(values, dim=-1)
    near, expected = (
        torch.einsum("nd,nkd->nk", unit, unit[places.long()])[present]
        for places in (found, nearest_neighbours(values, present, 5))
    )
    assert torch.allclose(near, expected, atol=2e-5)  # those that are equally near may come in another order
    monkeypatch.setattr(neighbours, "EXACT_ROWS", 200)
    monkeypatch.setattr(neighbours, "_SEARCHED_CELLS", 1)
    few = nearest_neighbours(values, present, 20)
    assert float(caplog.text.rsplit("found ", 1)[1].split(" %")[0]) < 100
    places = torch.arange(300)[:, None]
    assert not (few == places).where(few > 0, torch.tensor(False)).any()
    assert present[few.long()].where(few > 0, torch.tensor(True)).all()


def test_rounding_errors_do_not_decide_between_those_equally_near():
    """Each of the corners of a simplex is as far from any other."""
    corners = torch.eye(40, dtype=torch.double) - 1 / 40
    turn = torch.linalg.qr(torch.randn(40, 40, generator=torch.Generator().manual_seed(0), dtype=torch.double)).Q
    present = torch.ones(40, dtype=torch.bool)
    found = nearest_neighbours(corners.float(), present, 5)
    assert torch.equal(nearest_neighbours((corners @ turn).float(), present, 5), found)
