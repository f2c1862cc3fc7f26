"""Retrieval by what is known before the choice: scores of a plain reference, and what they need."""

from __future__ import annotations

import json
import math
import random
import re

import pytest
import torch
from conftest import write_dataset

from recbole_llm_interest.errors import DataError
from recbole_llm_interest.training.comparison import run

WORDS = ["bread", "chess", "opera", "sailing", "rome", "garden", "train", "beetle"]
CONTEXT = {"context_fields": ["query"], "text_encoder": "hashing"}


@pytest.fixture
def asked(here):
    """A data set whose users ask in words of the item that they choose next, among others."""
    draw = random.Random(3)
    titles = {f"i{n}": " ".join(draw.choices(WORDS, k=2 + n % 4)) for n in range(12)}
    events = [(f"u{user}", f"i{draw.randrange(12)}", float(step)) for user in range(9) for step in range(5)]
    write_dataset(here / "data", "asked", events, titles)
    (here / "data" / "asked" / "content").mkdir()
    with (here / "data" / "asked" / "content" / "events.jsonl").open("w") as file:
        for user, item, time in events:
            query = " ".join([*draw.choices(titles[item].split(), k=2), draw.choice(WORDS)])
            print(json.dumps({"user_id": user, "item_id": item, "timestamp": time, "query": query}), file=file)
    return titles


def reference_bm25(titles: dict[str, str], query: str) -> dict[str, float]:
    """Lucene's form of BM25 with k1 = 1.5 and b = 0.75, by its definition; the padding is a text without words."""
    texts = {"": [], **{item: ["title", *text.split()] for item, text in titles.items()}}
    mean = sum(map(len, texts.values())) / len(texts)
    scores = dict.fromkeys(titles, 0.0)
    for word in query.split():
        having = sum(word in text for text in texts.values())
        weight = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
        for item in titles:
            count, length = texts[item].count(word), len(texts[item])
            scores[item] += weight * count / (count + 1.5 * (1 - 0.75 + 0.75 * length / mean))
    return scores


def queries_of(dataset, batch):
    blobs = dataset.side_information["context"].catalogue.contents.blobs["text"]
    return [re.sub("^query: ", "", blobs[str(row)].text) for row in batch["context_content"].tolist()]


def test_bm25_equals_a_plain_reference(built, asked):
    pytest.importorskip("bm25s")
    _, network, _, train, _, test = built("BM25", "asked", **CONTEXT)
    dataset = train._dataset
    batch, *_ = next(iter(test))
    scores = network.score(batch)
    for row, query in enumerate(queries_of(dataset, batch)):
        expected = reference_bm25(asked, query)
        wanted = [expected[token] for token in dataset.field2id_token["item_id"][1:]]
        assert scores[row, 1:].tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-6)


def test_nearest_text_ranks_by_cosine(built, asked):
    _, network, _, train, _, test = built("NearestText", "asked", **CONTEXT)
    dataset = train._dataset
    batch, *_ = next(iter(test))
    items = dataset.item_content["text"].values
    contexts = dataset.context_inputs.content["text"].values[batch["context_content"]]
    expected = torch.cosine_similarity(contexts[:, None], items[None, 1:], dim=2)
    assert torch.allclose(network.score(batch)[:, 1:] - 1, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["BM25", "NearestText"])
def test_queries_find_what_they_name(asked, settings, model):
    if model == "BM25":
        pytest.importorskip("bm25s")
    (found,) = run([model], "asked", config_dict={**settings, **CONTEXT})
    assert found.test["recall@3"] > 0.5  # 3 of 12 by chance


@pytest.mark.parametrize("model", ["BM25", "NearestText"])
def test_without_context_they_say_what_is_missing(built, asked, model):
    with pytest.raises(DataError, match=rf"^{model} compares .* 'asked' has no context_fields"):
        built(model, "asked", text_encoder="hashing")
