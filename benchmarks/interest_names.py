"""How true the names of interests are: the share of each group's items that carry its name.

The recommender's shares are checked by another count: a name counts where it is one of the item's categories, or where
the item's text has it between two characters that belong to no word. It is an error if fewer items carry it than said.

    python benchmarks/interest_names.py --checkpoint=saved/….safetensors
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys

from figure import device
from tabulate import tabulate

from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.recommender.catalog import Catalog
from recbole_llm_interest.training.environment_info import environment_info


def carries(items: Catalog, item: str, name: str) -> bool:
    """Whether one of the item's categories is the name, or its text has it."""
    words = rf"(?<!\w){re.escape(name)}(?!\w)"
    return name in items.categories.get(item, ()) or bool(re.search(words, items.texts.get(item, ""), re.IGNORECASE))


def main() -> None:
    """Print the groups, the largest first, and then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data_path", help="folder of data sets; by default that of training")
    parser.add_argument("--feature_cache", help="folder of encoded features; by default that of training")
    options = vars(parser.parse_args())
    recommender = Recommender.load(options.pop("checkpoint"), **{key: path for key, path in options.items() if path})
    items, groups = recommender.items, recommender.interest_map
    members: list[list[str]] = [[] for _ in groups.names]
    for row, group in enumerate(groups.group(items.representations).tolist()):
        if row:
            members[group].append(items.tokens[row])
    rows, counted = [], {}
    for group in sorted(range(len(members)), key=lambda group: -len(members[group])):
        name, share = groups.names[group], groups.shares[group]
        if share is not None:
            counted[name] = sum(carries(items, item, name) for item in members[group]) / len(members[group])
            if counted[name] < share - 1e-9:
                raise DataError(
                    f"{name!r} is said to be true of {share:.3f} of the items, and is of {counted[name]:.3f}"
                )
        titles = [recommender.label(items.tokens[row]) for row in groups.typical[group]]
        shown = "-" if share is None else f"{share:.2f}"
        rows.append([name if share is not None else "(titles)", shown, len(members[group]), "; ".join(titles)])
    print(tabulate(rows, ["name", "share", "items", "typical items"], tablefmt="github", disable_numparse=True))
    shares = [share for share in groups.shares if share is not None]
    named = sum(len(of) for of, share in zip(members, groups.shares, strict=True) if share is not None)
    figure = {
        "figure": "share of an interest's items that carry its name",
        "groups": len(members),
        "named": len(shares),
        "least": round(min(shares, default=0.0), 3),
        "median": round(statistics.median(shares), 3) if shares else None,
        "items_in_named_groups": round(named / len(items), 3),
        **environment_info(device()),
    }
    print(json.dumps(figure))


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing was changed"))
