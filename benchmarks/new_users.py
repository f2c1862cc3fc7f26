"""What a profile is worth before the first event, for users whom training never saw: those that hold_out.py left out.

Each user gets recommendations three times: by their own profile, by that of another new user, and without a profile.
The baseline is the items that the other users chose most often. Profiles are read from the data set's
``content/users.jsonl``.

    python benchmarks/hold_out.py --what=users --dataset=ml-1m-mm --data_path=… --output=data
    python run_recbole.py --model=LLMInterest --dataset=ml-1m-mm-new-users --data_path=data
    python benchmarks/new_users.py --checkpoint=saved/….safetensors --dataset=ml-1m-mm-new-users --data_path=data
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from figure import device
from hold_out import read_events
from tabulate import tabulate

from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.evaluation.significance import paired_p_values
from recbole_llm_interest.recommender import Recommender, UserState, join
from recbole_llm_interest.training.environment_info import environment_info

K = 10
OWN = "own profile"
OTHERS = ANOTHER, NONE, POPULAR = "somebody else's", "nothing known", "most popular items"


def histories(path: Path) -> dict[str, list[str]]:
    """The items of each user in the order in which they were chosen."""
    events = read_events(path)
    return {str(user): list(items) for user, items in events.in_order().groupby(events.user)[events.item]}


def profiles(path: Path) -> dict[str, dict[str, str]]:
    """What is known of each user."""
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return {str(row.pop("user_id")): row for row in rows}


def states(recommender: Recommender, profiles_of_users: Sequence[Mapping[str, str]]) -> UserState:
    """Everybody before the first event; each of a few different profiles is encoded once."""
    different = list({json.dumps(profile): profile for profile in profiles_of_users}.items())
    place = {name: number for number, (name, _) in enumerate(different)}
    known = join([recommender.start(profile=profile) for _, profile in different])
    return known.select(torch.tensor([place[json.dumps(profile)] for profile in profiles_of_users]))


def scores(found: Sequence[Sequence[str]], chosen: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """Of each user: whether the first choice was found, how far up, and what share of the first ten choices."""
    positions = [
        ranked.index(items[0]) if items[0] in ranked else None for ranked, items in zip(found, chosen, strict=True)
    ]
    return {
        f"recall@{K}": np.array([position is not None for position in positions], dtype=float),
        f"ndcg@{K}": np.array([0.0 if position is None else 1 / math.log2(position + 2) for position in positions]),
        f"of the first {K} events": np.array(
            [len({*ranked} & {*items[:K]}) / len({*items[:K]}) for ranked, items in zip(found, chosen, strict=True)]
        ),
    }


def main() -> None:
    """Print the table, and then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--dataset", required=True, help="one that hold_out.py made")
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--feature_cache", help="folder of encoded features; by default beside the checkpoint")
    parser.add_argument("--seed", type=int, default=1, help="of whose profile somebody else's is")
    options = parser.parse_args()
    folder = options.data_path / options.dataset
    for path in (folder / "content" / "users.jsonl", folder / "held_out.tsv"):
        if not path.is_file():
            raise DataError(f"{path} does not exist: hold_out.py --what=users makes a data set with new users")
    settings = {"data_path": str(options.data_path), "feature_cache": options.feature_cache}
    recommender = Recommender.load(options.checkpoint, **{key: value for key, value in settings.items() if value})
    known = profiles(folder / "content" / "users.jsonl")
    held_out = {user: items for user, items in histories(folder / "held_out.tsv").items() if user in known}
    chosen = list(held_out.values())
    own = [known[user] for user in held_out]
    in_a_ring = np.random.default_rng(options.seed).permutation(len(own))
    another = [own[place] for place in np.roll(in_a_ring, 1)[in_a_ring.argsort()]]
    events = read_events(folder / f"{options.dataset}.inter")
    popular = list(events.table[events.item].value_counts().index[:K])

    unknown = recommender.start().select(torch.zeros(len(own), dtype=torch.long))
    user_states = {OWN: states(recommender, own), ANOTHER: states(recommender, another), NONE: unknown}
    found = {
        name: [[one.item for one in ranked] for ranked in recommender.recommend(state, K)]
        for name, state in user_states.items()
    } | {POPULAR: [popular] * len(own)}
    result = {name: scores(ranked, chosen) for name, ranked in found.items()}
    metrics = list(result[OWN])
    p = {
        metric: dict(zip(OTHERS, paired_p_values(values, [result[name][metric] for name in OTHERS]), strict=True))
        for metric, values in result[OWN].items()
    }
    table = [
        {
            "what is known": name,
            **{metric: f"{result[name][metric].mean():.4f}" for metric in metrics},
            **{f"p, {metric}": "-" if name == OWN else f"{p[metric][name]:.2g}" for metric in metrics},
        }
        for name in result
    ]
    print(tabulate(table, headers="keys", tablefmt="github", disable_numparse=True))
    figure = {
        "figure": f"users that training never saw, {options.dataset}",
        "users": len(own),
        "metrics": {
            name: {metric: round(float(values.mean()), 4) for metric, values in of_users.items()}
            for name, of_users in result.items()
        },
        "p_holm": {metric: {name: float(f"{value:.2g}") for name, value in of.items()} for metric, of in p.items()},
        **environment_info(device()),
    }
    print(json.dumps(figure))


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing was changed"))
