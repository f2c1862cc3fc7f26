"""Properties that hold for any input (hypothesis), and the corpus of the fuzz targets."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import REPOSITORY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_llm_interest.content.catalogue import read_catalogue
from recbole_llm_interest.content.feature_store import FeatureStore
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.io.atomic_files import AtomicFormat, drop_rows, read_atomic_file
from recbole_llm_interest.model.interest_tracker import InterestTracker
from recbole_llm_interest.model.losses import info_nce, next_item_loss
from recbole_llm_interest.model.scoring import ScoringRule
from recbole_llm_interest.model.sequence_encoders import TRACKERS

sys.path.insert(0, str(REPOSITORY / "tests" / "fuzz"))
from targets import TARGETS

#: the same examples in every run, so that only a change of the code makes a test fail
few_examples = settings(
    max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
many_examples = settings(few_examples, max_examples=200)

#: values of a cell
cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\0"), max_size=20)
filled = cells.map(lambda cell: f"{cell}x")
times = st.floats(allow_nan=False, allow_infinity=False)
keys = st.binary(min_size=32, max_size=32)


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


# --- loaders


@pytest.mark.slow
@many_examples
@given(
    st.lists(st.tuples(filled, filled, times), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans()
)
def test_events_are_read_as_written(events, ending, has_mark):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "d.inter")
        lines = ["user_id:token\titem_id:token\ttimestamp:float", *(f"{u}\t{i}\t{t!r}" for u, i, t in events)]
        path.write_bytes(ending.join(lines).encode("utf-8-sig" if has_mark else "utf-8"))
        columns = {"user_id": "token", "item_id": "token", "timestamp": "float"}
        rows = read_atomic_file(path, AtomicFormat(), columns, ids=["user_id", "item_id"], time_field="timestamp")
    assert list(rows.itertuples(index=False, name=None)) == events


@pytest.mark.slow
@many_examples
@given(st.lists(st.lists(cells, min_size=1, max_size=4), min_size=1, max_size=8))
def test_rows_are_kept_and_skipped_as_by_a_loop_over_lines(rows):
    """Valid rows have three columns and an id that is new."""
    kept, seen = [], set()
    for cells_ in rows:
        if len(cells_) == 3 and cells_[0] and cells_[0] not in seen:
            seen.add(cells_[0])
            kept.append((*cells_[:2], cells_[2].removesuffix("\r")))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "d.item")
        path.write_bytes("\n".join(["item_id:token\ta:token\tb:token", *("\t".join(row) for row in rows)]).encode())
        columns = {"item_id": "text", "a": "text", "b": "text"}
        if not kept:
            with pytest.raises(DataError):
                read_atomic_file(path, AtomicFormat(), columns, ids=["item_id"], unique=True)
            return
        found = read_atomic_file(path, AtomicFormat(), columns, ids=["item_id"], unique=True)
        assert list(found.itertuples(index=False, name=None)) == kept
        left = b"".join(drop_rows(path, AtomicFormat(), "item_id", [kept[0][0]])).decode().split("\n")[1:]
    assert sum(line.split("\t")[0] == kept[0][0] for line in left) == 0 or "\r" in kept[0][0]


@pytest.mark.slow
@many_examples
@given(st.dictionaries(cells.filter(bool), st.text(st.characters(exclude_characters="\0")), min_size=1, max_size=6))
def test_items_of_json_lines_are_read_as_written(titles):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "content", "items.jsonl")
        path.parent.mkdir()
        path.write_text(
            "".join(json.dumps({"item_id": token, "title": title}) + "\n" for token, title in titles.items())
        )
        catalogue = read_catalogue(Path(folder), "d", "item", "item_id", text_template="{title}")
    assert catalogue.tokens == list(titles)
    shown = {token: " ".join(title.split()) for token, title in titles.items()}
    texts = {token: blob.text for token, blob in catalogue.blobs["text"].items()}
    assert texts == {token: title for token, title in shown.items() if title}


# --- the feature store


@few_examples
@given(
    st.lists(st.dictionaries(keys, st.integers(0, 2**16), min_size=1, max_size=5), min_size=1, max_size=4), st.data()
)
def test_damaged_store_returns_written_rows_or_none(shards, data):
    """Whatever byte of a shard is damaged, no wrong row is returned."""
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder), "text", "encoder")
        written = {}
        for shard in shards:
            written |= shard
            store.write(list(shard), np.array(list(shard.values()), dtype=np.float32)[:, None])
        latest = {key: {shard[key] for shard in shards if key in shard} for key in written}
        found = store.read(list(written))
        assert found.keys() == written.keys()
        assert all(float(row[0]) in latest[key] for key, row in found.items())
        path = data.draw(st.sampled_from(sorted(store.folder.iterdir())))
        content = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[place] ^= data.draw(st.integers(1, 255))
        else:
            del content[place:]
        path.write_bytes(bytes(content))
        found = store.read(list(written))
        assert all(float(row[0]) in latest[key] for key, row in found.items())


# --- the tracker and the losses


@few_examples
@given(
    encoder=st.sampled_from(list(TRACKERS)), layers=st.integers(1, 2), users=st.integers(1, 3),
    length=st.integers(1, 7), cut=st.integers(0, 6), padding=st.integers(0, 3), attention=st.booleans(),
    skip=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_tracker_step_equals_forward(encoder, layers, users, length, cut, padding, attention, skip, seed):
    torch.manual_seed(seed)
    tracker = InterestTracker(
        input_size=4, hidden_size=8, num_layers=layers, dropout_prob=0.3, user_size=3, encoder=encoder, max_length=10,
        attention_readout=attention, last_item_skip=skip,
    ).eval()  # fmt: skip
    items, state = torch.randn(users, length, 4), tracker.initial_state(torch.randn(users, 3))
    with torch.inference_mode():
        padded = torch.cat([items, torch.randn(users, padding, 4)], dim=1)
        whole = tracker(padded, state)[:, :length]
        for place in range(length):
            interest, state = tracker.step(items[:, place], state)
            assert torch.allclose(interest, whole[:, place], atol=1e-5)
            if place == cut:  # a state can be saved and restored
                state = state._replace(carried=state.carried.clone(), past=state.past.clone())


@few_examples
@given(
    targets=st.integers(1, 9), candidates=st.integers(1, 6), positives=st.integers(1, 3), width=st.integers(1, 4),
    temperature=st.sampled_from([None, 0.07, 1.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_next_item_loss_equals_cross_entropy(targets, candidates, positives, width, temperature, seed):
    torch.manual_seed(seed)
    interest = torch.randn(targets, width, dtype=torch.float64, requires_grad=True)
    items = torch.randn(candidates, width, dtype=torch.float64, requires_grad=True)
    target = torch.randint(candidates, (targets, positives))
    share = torch.rand(targets, positives, dtype=torch.float64).softmax(dim=1)
    loss = next_item_loss(interest, items, target, ScoringRule(temperature), target_weight=share)
    scores = interest @ items.T
    if temperature is not None:
        scores = F.normalize(interest, dim=-1) @ F.normalize(items, dim=-1).T / temperature
    naive = -(scores.log_softmax(dim=1).gather(1, target) * share).sum(dim=1).mean()
    assert torch.allclose(loss, naive)
    ours = torch.autograd.grad(loss, (interest, items))
    theirs = torch.autograd.grad(naive, (interest, items))
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(ours, theirs, strict=True))


@few_examples
@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(0, 99))
def test_info_nce_equals_a_loop_over_rows(groups, seed):
    torch.manual_seed(seed)
    views = F.normalize(torch.randn(2, len(groups), 5, dtype=torch.float64), dim=-1)
    group = torch.tensor(groups)
    expected = 0.0
    for one, other in ((views[0], views[1]), (views[1], views[0])):
        for row in range(len(groups)):
            negatives = [place for place in range(len(groups)) if groups[place] != groups[row]]
            scores = torch.stack([one[row] @ other[place] / 0.2 for place in [row, *negatives]])
            expected += -scores.log_softmax(dim=0)[0] / (2 * len(groups))
    assert torch.allclose(info_nce(*views, group[:, None] == group, 0.2), expected)


# --- fuzz targets: their corpus, and mutations of it

CORPUS = [(path.parent.name, path) for path in sorted((REPOSITORY / "tests" / "fuzz" / "corpus").glob("*/*"))]


@pytest.mark.parametrize(("target", "path"), CORPUS, ids=[f"{target}-{path.name}" for target, path in CORPUS])
def test_corpus_passes(target, path):
    TARGETS[target](path.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_mutations_of_the_corpus_pass(target):
    seeds = [path.read_bytes() for name, path in CORPUS if name == target]

    @many_examples
    @given(
        st.sampled_from(seeds),
        st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3), st.integers(0, 6)), max_size=5),
    )
    def pass_(data, changes):
        for part, new, old in changes:
            place = int(part * len(data))
            data = data[:place] + new + data[place + old :]
        TARGETS[target](data)

    pass_()
