"""How true the names of interests are: the share of each group's items that carry its name.

The recommender's shares are checked by another count: a name counts where it is one of the item's categories, or where
the item's text has it between two characters that belong to no word. It is an error if fewer items carry it than said.

    python benchmarks/interest_names.py --checkpoint=saved/….safetensors

With --language_model=smollm2, the names that it writes are shown as well, and for 200 items drawn at random it is
counted how many have the name of their group among their categories, and how many all attributes of the written name.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import sys
from collections.abc import Sequence

from figure import device
from tabulate import tabulate

from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.recommender.catalog import Catalog
from recbole_llm_interest.recommender.interests import Interest, InterestMap
from recbole_llm_interest.recommender.language_model import LanguageModel
from recbole_llm_interest.recommender.writer import Writer
from recbole_llm_interest.training.environment_info import environment_info

#: items that are drawn for the share of written names
_DRAWN = 200


def carries(items: Catalog, item: str, name: str) -> bool:
    """Whether one of the item's categories is the name, or its text has it."""
    words = rf"(?<!\w){re.escape(name)}(?!\w)"
    return name in items.categories.get(item, ()) or bool(re.search(words, items.texts.get(item, ""), re.IGNORECASE))


def written_names(groups: InterestMap, model: str) -> list[str]:
    """The names that a language model writes for the groups."""
    writer = Writer(LanguageModel(model))
    parts = zip(groups.names, groups.shares, groups.attributes, strict=True)
    return [writer.name(Interest(name, 0.0, (), share, attributes)).text for name, share, attributes in parts]


def of_drawn_items(items: Catalog, groups: InterestMap, group_of: Sequence[int]) -> dict[str, float]:
    """Share of 200 items in whose categories their group's name is, and all attributes of its written name."""
    drawn = random.Random(0).sample(range(1, len(group_of)), min(_DRAWN, len(group_of) - 1))

    def share(of_groups: Sequence[Sequence[str]]) -> float:
        wanted = [(set(of_groups[group_of[row]]), set(items.categories.get(items.tokens[row], ()))) for row in drawn]
        return statistics.mean(bool(names) and names <= categories for names, categories in wanted)

    return {"drawn_named": share([[name] for name in groups.names]), "drawn_written": share(groups.attributes)}


def main() -> None:
    """Print the groups, the largest first, and then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data_path", help="folder of data sets; by default that of training")
    parser.add_argument("--feature_cache", help="folder of encoded features; by default that of training")
    parser.add_argument("--language_model", help="'smollm2', or a folder or GGUF file, that writes names")
    options = vars(parser.parse_args())
    language_model = options.pop("language_model")
    recommender = Recommender.load(options.pop("checkpoint"), **{key: path for key, path in options.items() if path})
    items, groups = recommender.items, recommender.interest_map
    members: list[list[str]] = [[] for _ in groups.names]
    group_of = groups.group(items.representations).tolist()
    for row, group in enumerate(group_of):
        if row:
            members[group].append(items.tokens[row])
    written = written_names(groups, language_model) if language_model else ["-"] * len(members)
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
        shown_name = name if share is not None else "(titles)"
        rows.append([shown_name, shown, len(members[group]), written[group], "; ".join(titles)])
    columns = ["name", "share", "items", "written name", "typical items"]
    print(tabulate(rows, columns, tablefmt="github", disable_numparse=True))
    shares = [share for share in groups.shares if share is not None]
    named = sum(len(of) for of, share in zip(members, groups.shares, strict=True) if share is not None)
    figure = {
        "figure": "share of an interest's items that carry its name",
        "groups": len(members),
        "named": len(shares),
        "least": round(min(shares, default=0.0), 3),
        "median": round(statistics.median(shares), 3) if shares else None,
        "items_in_named_groups": round(named / len(items), 3),
        **(of_drawn_items(items, groups, group_of) if language_model else {}),
        **environment_info(device()),
    }
    print(json.dumps(figure))


if __name__ == "__main__":
    sys.exit(exit_code(main, kept="nothing was changed"))
