"""Live use of a large catalogue: what an event and its answer cost, beside stock SASRec asked through RecBole.

The catalogue is made here, and so are the models' weights: time does not depend on what they have learnt. Items are
``clustered`` as learnt ones are: 2,000 topics of unlike sizes (size falls with rank ** -0.8), spread about their
topic's centre, with a spectrum that falls as that of learnt vectors does; or ``uniform`` on the sphere, which is the
worst case for any index. The interest lies by the last item, turned away from it by about 45 degrees by the tracker.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, init_seed
from recbole.utils.case_study import full_sort_topk
from torch import Tensor
from tqdm import tqdm

from recbole_llm_interest.recommender import Recommender, UserState, join
from recbole_llm_interest.recommender.trained import Trained

USERS, EVENTS, LENGTH = 400, 60, 50
TOPICS = 2000
LENGTHS = (10, 100, 1000, 10_000)
K, RECALL = 10, 0.95


def write_catalogue(folder: Path, items: int) -> list[list[str]]:
    """A data set in RecBole's form: a catalogue, and some users' events, which are returned."""
    chance = np.random.default_rng(0)
    events = [[f"i{n}" for n in chance.integers(items, size=EVENTS)] for _ in range(USERS)]
    (folder / "large").mkdir()
    lines = ["item_id:token", *(f"i{n}" for n in range(items))]
    (folder / "large" / "large.item").write_text("\n".join(lines) + "\n")
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user, history in enumerate(events):
        lines += [f"u{user}\t{item}\t{1e9 + when}" for when, item in enumerate(history)]
    (folder / "large" / "large.inter").write_text("\n".join(lines) + "\n")
    return events


def prepared(model_name: str, folder: Path, options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Model, data set and test data, as RecBole makes them."""
    settings: dict[str, Any] = {
        "data_path": str(folder),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id"]},
        "MAX_ITEM_LIST_LENGTH": LENGTH,
        "show_progress": False,
        "checkpoint_dir": str(folder),
        "train_neg_sample_args": None,
        "loss_type": "CE",
    }
    if model_name == "LLMInterest":
        settings |= {"embedding_size": options.width, "last_item_skip": True}
    else:
        settings |= {"hidden_size": options.width, "inner_size": 2 * options.width}
    config = Config(model_name, "large", config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, _, test = data_preparation(config, dataset)
    return get_model(model_name)(config, train._dataset).eval(), dataset, test


def vectors(kind: str, count: int, width: int) -> Tensor:
    """Unit vectors of items, ``[count, width]``."""
    torch.manual_seed(1)
    if kind == "uniform":
        return F.normalize(torch.randn(count, width), dim=-1)
    spectrum = torch.arange(1, width + 1).float() ** -0.5
    topics = torch.randn(TOPICS, width) * spectrum
    topic = torch.multinomial(torch.arange(1, TOPICS + 1).float() ** -0.8, count, replacement=True)
    made = torch.randn(count, width) * (0.7 * spectrum)
    return F.normalize(made.add_(topics[topic]), dim=-1)


def served(kind: str, folder: Path, options: argparse.Namespace) -> Recommender:
    """A recommender over the catalogue, with these vectors."""
    model, dataset, _ = prepared("LLMInterest", folder, options)
    with torch.no_grad():
        fusion, tracker = model.item_encoder, model.tracker
        fusion.id_embedding.weight.copy_(vectors(kind, dataset.item_num, options.width))
        fusion.set_present(torch.ones_like(fusion.get_buffer("present")))
        torch.nn.init.eye_(tracker.skip.weight)
        torch.nn.init.normal_(model.history_bias.repeat.bias, std=0.05)
        hidden, _ = tracker.encoder(fusion(torch.arange(1, 1001))[:, None], tracker.neutral_state(1000).carried)
        tracker.output.weight.div_(tracker.output(hidden).norm(dim=-1).mean())
        tracker.output.bias.zero_()
    tokens = [str(token) for token in dataset.field2id_token["item_id"]]
    users = {str(token): row for row, token in enumerate(dataset.field2id_token["user_id"]) if row}
    return Recommender(Trained(model, tokens, users, LENGTH, {}, {}, None, None, _no_events, _no_events))


def _no_events(users: Sequence[str]) -> list[tuple[list[str], list[float]]]:
    return [([], []) for _ in users]


@dataclass
class Timer:
    """Times one side, in milliseconds of the clock and of the processor."""

    work: Callable[[], object]

    def __post_init__(self) -> None:
        self.times: list[float] = []
        self.of_processor: list[float] = []

    def run(self) -> None:
        start, of_processor = time.perf_counter(), time.process_time()
        self.work()
        self.of_processor.append(1000 * (time.process_time() - of_processor))
        self.times.append(1000 * (time.perf_counter() - start))

    @property
    def figure(self) -> dict[str, float]:
        low, median, high = (round(float(share), 3) for share in np.percentile(self.times, [10, 50, 90]))
        processor = round(statistics.median(self.of_processor), 3)
        return {"median_ms": median, "p10_ms": low, "p90_ms": high, "processor_ms": processor}


def cost_by_length(recommender: Recommender, repeats: int) -> dict[str, float]:
    """Milliseconds of an update, by the length of the history, measured in turns; medians."""
    chance = np.random.default_rng(1)
    tokens = recommender.items.tokens
    states = {
        length: recommender.start(history=[tokens[row] for row in chance.integers(1, len(tokens), size=length)])
        for length in LENGTHS
    }
    times: dict[int, list[float]] = {length: [] for length in LENGTHS}
    for _ in range(repeats):
        for length, state in states.items():
            item = tokens[chance.integers(1, len(tokens))]
            start = time.perf_counter()
            states[length] = recommender.update(state, item)
            times[length].append(1000 * (time.perf_counter() - start))
    return {str(length): round(statistics.median(measured), 3) for length, measured in times.items()}


def cost_by_batch(recommender: Recommender, events: list[list[str]], repeats: int) -> dict[str, float]:
    """Updates a second of 1,000 users at once, from one state or from one a user, and of one after the other."""
    users = [events[n % USERS] for n in range(1000)]
    together = recommender.start(history=[line[:10] for line in users])
    apart = [together[row] for row in range(1000)]
    items = [line[10] for line in users]

    def one_by_one() -> None:
        for state, item in zip(apart[:200], items[:200], strict=True):
            recommender.update(state, item)

    def gathered() -> None:
        moved = recommender.update(join(apart), items)
        for row in range(1000):
            moved[row]

    sides = {
        "batched": Timer(lambda: recommender.update(together, items)),
        "one_by_one": Timer(one_by_one),
        "batched_from_single_states": Timer(gathered),
    }
    for _ in range(repeats):
        for side in sides.values():
            side.run()
    rate = {name: 1e6 / statistics.median(side.times) for name, side in sides.items()}
    rate["one_by_one"] /= 5  # of the 1,000, 200 are timed
    figures = {f"{name}_a_second": round(value) for name, value in rate.items()}
    return figures | {"ratio": round(rate["batched"] / rate["one_by_one"], 1)}


def with_index(recommender: Recommender, events: list[list[str]]) -> dict[str, float]:
    """Build an index, and the recall that it has on other users than it was set by."""
    states = recommender.start(history=[line[:-1] for line in events])
    half = torch.arange(USERS // 2)
    start = time.perf_counter()
    recommender.build_index(states.select(half), recall=RECALL, k=K)
    seconds = time.perf_counter() - start
    others = states.select(half + USERS // 2)
    exact, found = (recommender.recommend(others, K, exact=exact) for exact in (True, False))
    recall = np.mean([
        len({item for item, _ in ours} & {item for item, _ in theirs}) / K
        for ours, theirs in zip(found, exact, strict=True)
    ])  # fmt: skip
    return {f"recall@{K}": round(float(recall), 4), "seconds_to_build": round(seconds, 1)}


def asked_of_ours(
    recommender: Recommender, states: list[UserState], last: list[str], exact: bool
) -> Callable[[], object]:
    """One event of the next user, and the best items after it."""
    turn = iter(range(10**9))

    def ask() -> object:
        user = next(turn) % len(states)
        return recommender.recommend(recommender.update(states[user], last[user]), K, exact=exact)

    return ask


def asked_of_recbole(folder: Path, options: argparse.Namespace) -> Callable[[], object]:
    """The best items of the next user by stock SASRec, as RecBole's case study gives them."""
    model, dataset, test = prepared("SASRec", folder, options)
    users = dataset.token2id("user_id", [f"u{n}" for n in range(USERS)])
    turn = iter(range(10**9))
    return lambda: full_sort_topk([users[next(turn) % USERS]], model, test, K)


def main() -> None:
    """Measure, and print the figures in words and then as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kinds", default="clustered,uniform", help="of catalogues")
    options = parser.parse_args()
    sys.argv = sys.argv[:1]  # RecBole would read it once more
    torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)
    figure: dict[str, Any] = {
        "figure": f"update and top-{K} of {options.items} items x {options.width}, and stock SASRec / LLMInterest",
        "repeats": options.repeats,
        "threads": options.threads,
        "torch": torch.__version__,
    }

    def note(key: str, value: Any) -> None:
        figure[key] = value
        print(f"{key}: {value}", flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        events = write_catalogue(folder, options.items)
        kinds = options.kinds.split(",")
        for kind in kinds:
            recommender = served(kind, folder, options)
            if kind == kinds[0]:
                note("update_ms_by_length", cost_by_length(recommender, 4 * options.repeats))
                note("updates_of_1000_users", cost_by_batch(recommender, events, max(options.repeats // 10, 3)))
            note(f"index, {kind}", with_index(recommender, events))
            states = recommender.start(history=[line[:-1] for line in events])
            apart, last = [states[row] for row in range(USERS)], [line[-1] for line in events]
            sides = {
                f"exact, {kind}": Timer(asked_of_ours(recommender, apart, last, exact=True)),
                f"approximate, {kind}": Timer(asked_of_ours(recommender, apart, last, exact=False)),
            }
            if kind == kinds[0]:
                sides["SASRec by full_sort_topk"] = Timer(asked_of_recbole(folder, options))
            for _ in tqdm(range(options.repeats), desc=f"asking, {kind}"):
                for side in sides.values():
                    side.run()
            for side, timer in sides.items():
                note(side, timer.figure)
            del recommender, states, apart, sides
    ours = figure[f"exact, {kinds[0]}"]["median_ms"], figure[f"approximate, {kinds[0]}"]["median_ms"]
    theirs = figure["SASRec by full_sort_topk"]["median_ms"]
    note("ratio", {"exact": round(theirs / ours[0], 1), "approximate": round(theirs / ours[1], 1)})
    note("peak_gb", round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2))
    print(json.dumps(figure))


if __name__ == "__main__":
    main()
