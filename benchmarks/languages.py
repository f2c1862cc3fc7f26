"""What two text encoders make of titles in several languages: cosines of pairs, CPU time, and pairs found again.

python benchmarks/languages.py

The pairs to be found again are those of titles-zh-en.tsv: a hundred titles in Chinese and English, written by hand for
this purpose, of goods, books, films, news, instructions and questions to a shop.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from figure import device, seconds
from numpy.typing import NDArray
from tabulate import tabulate

from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.content.encoders import Encoder, create_encoder
from recbole_llm_interest.settings import ContentSettings
from recbole_llm_interest.training.environment_info import environment_info

#: two titles, and whether they mean the same
PAIRS = (
    ("女式跑步鞋", "running shoes for women", True),
    ("女式跑步鞋", "番茄鸡蛋汤", False),
    ("流浪地球 科幻电影", "The Wandering Earth, a science fiction film", True),
    ("Zapatos de mujer para correr", "running shoes for women", True),
    ("Zapatos de mujer para correr", "sopa de tomate", False),
)
ENCODERS = ("sentence-transformers/all-MiniLM-L6-v2", "multilingual")


def unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1, ``[T, D]``."""
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def encode(encoder: Encoder, titles: Sequence[str]) -> NDArray[np.float32]:
    """Features of titles, of length 1, ``[T, D]``."""
    return unit(encoder.encode([encoder.load(title) for title in titles]))


def found_first(encoder: Encoder) -> list[float]:
    """Share of the pairs whose nearest title of the other language is their own.

    From Chinese, from English, and both again with the mean of all titles taken off, as every conditioning but ``none``
    does.
    """
    lines = Path(__file__).with_name("titles-zh-en.tsv").read_text("utf-8").splitlines()
    features = encode(encoder, [title for line in lines for title in line.split("\t")])
    shares = []
    for rows in (features, unit(features - features.mean(axis=0))):
        cosines = rows[::2] @ rows[1::2].T
        shares += [float((side.argmax(axis=1) == np.arange(len(lines))).mean()) for side in (cosines, cosines.T)]
    return shares


def main() -> None:
    """Print both tables, and then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20, help="how often the titles are encoded for the time")
    repeats = parser.parse_args().repeats
    titles = [title for first, second, _ in PAIRS for title in (first, second)]
    cosines, milliseconds, found = [], {}, {}
    for name in ENCODERS:
        encoder = create_encoder("text", ContentSettings(text_encoder=name))
        encoder.prepare()
        features = encode(encoder, titles)
        cosines.append([float(first @ second) for first, second in zip(features[::2], features[1::2], strict=True)])
        with seconds() as taken:
            for title in titles * repeats:
                encoder.encode([encoder.load(title)])
        milliseconds[name] = round(1000 * taken[1] / (repeats * len(titles)), 1)
        found[name] = found_first(encoder)
    rows = [
        [first, second, "yes" if is_same else "no", *(f"{value:.2f}" for value in values)]
        for (first, second, is_same), *values in zip(PAIRS, *cosines, strict=True)
    ]
    print(tabulate(rows, ["title", "title", "same meaning", *ENCODERS], tablefmt="github", disable_numparse=True), "\n")
    columns = ["pairs found first by", "from Chinese", "from English", "centred, from Chinese", "centred, from English"]
    print(tabulate([[name, *shares] for name, shares in found.items()], columns, tablefmt="github", floatfmt=".2f"))
    figure = {"figure": "CPU milliseconds a title", "ours": milliseconds, "pairs found first": found}
    print(json.dumps(figure | environment_info(device())))


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing was changed"))
