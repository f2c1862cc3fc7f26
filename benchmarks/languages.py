"""What two text encoders make of titles in several languages: cosines of pairs, and the CPU time of a title.

python benchmarks/languages.py
"""

from __future__ import annotations

import argparse
import json
import sys

from figure import device, seconds
from tabulate import tabulate

from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.content.encoders import create_encoder
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


def main() -> None:
    """Print the cosines, and then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20, help="how often the titles are encoded for the time")
    repeats = parser.parse_args().repeats
    titles = [title for first, second, _ in PAIRS for title in (first, second)]
    cosines, milliseconds = [], {}
    for name in ENCODERS:
        encoder = create_encoder("text", ContentSettings(text_encoder=name))
        encoder.prepare()
        features = encoder.encode([encoder.load(title) for title in titles])
        features /= (features**2).sum(axis=1, keepdims=True) ** 0.5
        cosines.append([float(first @ second) for first, second in zip(features[::2], features[1::2], strict=True)])
        with seconds() as taken:
            for title in titles * repeats:
                encoder.encode([encoder.load(title)])
        milliseconds[name] = round(1000 * taken[1] / (repeats * len(titles)), 1)
    rows = [
        [first, second, "yes" if is_same else "no", *(f"{value:.2f}" for value in values)]
        for (first, second, is_same), *values in zip(PAIRS, *cosines, strict=True)
    ]
    print(tabulate(rows, ["title", "title", "same meaning", *ENCODERS], tablefmt="github", disable_numparse=True))
    print(json.dumps({"figure": "CPU milliseconds a title", "ours": milliseconds, **environment_info(device())}))


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing was changed"))
