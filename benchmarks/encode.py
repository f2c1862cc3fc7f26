"""Encoding through the package against the bare library: same model, same inputs, same batch size, taking turns.

Text goes through the bundled sentence encoder, images through a CLIP architecture with random weights: what it costs
does not depend on what it has learnt. The package also hashes, checks, stores and lines up what it encodes.

    python benchmarks/encode.py
    python benchmarks/encode.py --what=memory --texts=100000
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import recbole_llm_interest  # noqa: F401  (patches torchvision, so that open_clip can be imported)
from recbole_llm_interest.content.blobs import Blob, MediaFile, Text
from recbole_llm_interest.content.encoders import Encoder
from recbole_llm_interest.content.encoders.bundled import MINILM
from recbole_llm_interest.content.encoders.image import RANDOM, ImageEncoder
from recbole_llm_interest.content.encoders.text import TextEncoder
from recbole_llm_interest.content.encoding_job import EncodingJob
from recbole_llm_interest.content.feature_store import FeatureStore
from recbole_llm_interest.content.summary import EncodingSummary
from recbole_llm_interest.settings import Modality

ARCHITECTURE = "ViT-B-32"
#: the words of the texts: how many there are matters, which does not
WORDS = ["the", "of", "and", "film", "winter", "friends", "home", "summer", "hidden", "two", "long", "way", "find"]


def made_texts(count: int, longest: int) -> list[str]:
    """Distinct texts of 3 to ``longest`` words."""
    chance = np.random.default_rng(0)
    lengths = chance.integers(3, longest + 1, count)
    return [f"{number} " + " ".join(chance.choice(WORDS, length)) for number, length in enumerate(lengths)]


def made_images(count: int, folder: Path) -> list[Path]:
    """Distinct JPEG files of 300 x 400 pixels."""
    from PIL import Image

    chance = np.random.default_rng(0)
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for path in paths:
        noise = chance.integers(0, 256, (8, 6, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((300, 400), Image.Resampling.BICUBIC).save(path)
    return paths


def encode_by_package(blobs: dict[str, Blob], encoder: Encoder, modality: Modality) -> None:
    """Into a new store, so that everything is encoded."""
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder), modality, encoder.fingerprint)
        summary = EncodingSummary("item", modality, encoder.description["name"], len(blobs))
        EncodingJob(blobs, encoder, store, summary).run()
        if summary.encoded != len(blobs):
            raise RuntimeError(f"{summary.encoded} of {len(blobs)} encoded")


def compare(what: str, bare: Callable[[], object], ours: Callable[[], object], count: int, repeats: int) -> None:
    """Time both in turn and print the figure, in words and then as one line of JSON."""
    times: dict[str, list[float]] = {"bare": [], "ours": []}
    for repeat in range(repeats):
        # Who goes first changes, so that neither gets the warmer machine.
        for side, job in [("bare", bare), ("ours", ours)][:: 1 if repeat % 2 else -1]:
            started = time.perf_counter()
            job()
            times[side].append(time.perf_counter() - started)
    ratios = [bare / ours for bare, ours in zip(times["bare"], times["ours"], strict=True)]
    rates = {side: count / statistics.median(seconds) for side, seconds in times.items()}
    figure = {
        "figure": f"encoding throughput, {what}, package / bare library",
        "bare_a_second": round(rates["bare"], 1),
        "ours_a_second": round(rates["ours"], 1),
        "ratio": round(statistics.median(ratios), 3),
        "repeats": repeats,
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "inputs": count,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    print(f"{what}: {rates['ours']:.1f} a second, bare library {rates['bare']:.1f}; ratio {figure['ratio']}")
    print(json.dumps(figure))


def compare_text(options: argparse.Namespace) -> None:
    """Against ``SentenceTransformer.encode``."""
    from sentence_transformers import SentenceTransformer

    texts = made_texts(options.texts, longest=40)
    encoder = TextEncoder(MINILM.name)
    bare = SentenceTransformer(str(encoder.folder))
    encoder.encode(texts[:64])
    bare.encode(texts[:64])
    blobs: dict[str, Blob] = {str(number): Text(text) for number, text in enumerate(texts)}
    compare(
        f"text, {MINILM.name}",
        lambda: bare.encode(texts, batch_size=encoder.batch_size),
        lambda: encode_by_package(blobs, encoder, "text"),
        len(texts),
        options.repeats,
    )


def compare_images(options: argparse.Namespace) -> None:
    """Against a loop over files: open, preprocess, ``encode_image``."""
    import open_clip
    from PIL import Image

    model, _, preprocess = open_clip.create_model_and_transforms(ARCHITECTURE)
    model.eval()
    encoder = ImageEncoder(ARCHITECTURE, RANDOM)

    def bare() -> None:
        with torch.inference_mode():
            for start in range(0, len(paths), encoder.batch_size):
                batch = [preprocess(Image.open(path)) for path in paths[start : start + encoder.batch_size]]
                model.encode_image(torch.stack(batch), normalize=True)

    with tempfile.TemporaryDirectory() as folder:
        paths = made_images(options.images, Path(folder))
        with paths[0].open("rb") as file:
            encoder.encode([encoder.load(file)])
        blobs: dict[str, Blob] = {path.stem: MediaFile(Path(folder), path.name) for path in paths}
        compare(
            f"images, {ARCHITECTURE} with random weights",
            bare,
            lambda: encode_by_package(blobs, encoder, "image"),
            len(paths),
            options.repeats,
        )


def measure_memory(options: argparse.Namespace) -> None:
    """What encoding many short texts takes on top of the loaded model and the texts."""
    texts = made_texts(options.texts, longest=8)
    blobs: dict[str, Blob] = {str(number): Text(text) for number, text in enumerate(texts)}
    encoder = TextEncoder(MINILM.name)
    encoder.encode(texts[:64])
    peak = before = resident_bytes()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    encode_by_package(blobs, encoder, "text")
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    figure = {
        "figure": "memory above the model, encoding texts",
        "gigabytes": round((peak - before) / 1e9, 3),
        "inputs": len(texts),
        "seconds": round(seconds, 1),
    }
    print(f"{len(texts)} texts: {figure['gigabytes']} GB above the model, {figure['seconds']} s")
    print(json.dumps(figure))


def resident_bytes() -> int:
    """This process' memory, by Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measure what the options name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--what", choices=["throughput", "text", "images", "memory"], default="throughput")
    parser.add_argument("--texts", type=int, default=1500)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.what in ("throughput", "text"):
        compare_text(options)
    if options.what in ("throughput", "images"):
        compare_images(options)
    if options.what == "memory":
        measure_memory(options)


if __name__ == "__main__":
    main()
