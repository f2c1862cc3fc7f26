"""How much of HR@10 is left when modalities are taken away after training, for half or all of the items and users.

    python benchmarks/missing_modalities.py --checkpoint=saved/LLMInterest-….safetensors

The checkpoint is one of LLMInterest's; its data set has to lie where it was when it was trained.
"""

from __future__ import annotations

import argparse
import json
import sys

import recbole_llm_interest  # noqa: F401  (RecBole's quick_start can be imported only when it is patched)

# isort: split
import torch
from recbole.quick_start import load_data_and_model
from recbole.utils import get_trainer
from tabulate import tabulate

from recbole_llm_interest.model.entity_encoder import ID


def main() -> None:
    """Evaluate every loss and print the table, and then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--metric", default="recall@10", help="with one item to be found a user, this is HR@10")
    options = parser.parse_args()
    sys.argv = sys.argv[:1]  # RecBole reads the command line too
    config, model, _, train_data, _, test_data = load_data_and_model(options.checkpoint)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.eval_collector.data_collect(train_data)  # what metrics count; RecBole does so as it trains
    fusions = [fusion for fusion in (model.item_encoder, model.user_encoder) if fusion is not None]
    whole = [fusion.get_buffer("present").clone() for fusion in fusions]
    modalities = model.item_encoder.modalities
    user_modalities = model.user_encoder.modalities if model.user_encoder is not None else []
    content = [modality for modality in modalities if modality != ID]
    losses = [
        ("nothing", [], []),
        *((f"items' {modality}", [modality], []) for modality in modalities),
        ("items' content", content, []),
        ("everything of items", modalities, []),
        *((f"users' {modality}", [], [modality]) for modality in user_modalities),
        ("users' content", [], user_modalities),
        ("everything of items and users", modalities, user_modalities),
    ]
    rows = []
    for name, lost, lost_by_users in losses:
        row: dict[str, str | float] = {"taken away": name}
        for share in (0.5, 1.0):
            for fusion, present in zip(fusions, whole, strict=True):
                fusion.set_present(present)
            take_away(model.item_encoder, lost, share)
            if model.user_encoder is not None:
                take_away(model.user_encoder, lost_by_users, share)
            score = trainer.evaluate(test_data, load_best_model=False, show_progress=False)[options.metric]
            row[f"{options.metric}, from {share:.0%}"] = float(score)
        rows.append(row)
    best = rows[0][f"{options.metric}, from 100%"]
    for row in rows:
        row["kept, from 50%"] = round(row[f"{options.metric}, from 50%"] / best, 3)
        row["kept, from 100%"] = round(row[f"{options.metric}, from 100%"] / best, 3)
    print(tabulate(rows, headers="keys", tablefmt="github"))
    print(json.dumps({"figure": f"share of {options.metric} kept", "dataset": config["dataset"], "rows": rows}))


def take_away(fusion: torch.nn.Module, modalities: list[str], share: float) -> None:
    """From a random share of the rows, the same for every modality."""
    chance = torch.Generator().manual_seed(0)
    count = len(fusion.get_buffer("present"))
    chosen = (torch.rand(count, generator=chance) < share).nonzero().view(-1)
    for modality in modalities:
        fusion.drop_modality(modality, chosen)


if __name__ == "__main__":
    main()
