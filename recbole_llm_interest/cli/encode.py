"""``python -m recbole_llm_interest.content.encode --dataset=…``: encodes a data set's content as a job of its own.

Several processes or GPUs share the work under torch's launcher, ``torchrun --nproc-per-node=4 -m
recbole_llm_interest.cli.encode …``. This is a command, not a room of ``content/``: it knows RecBole's settings.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import torch.distributed
from recbole.config import Config
from tabulate import tabulate

from recbole_llm_interest.cli.common import exit_code, parse_arguments, settings_parser
from recbole_llm_interest.content.pipeline import Share, Summary, collect_rows
from recbole_llm_interest.data.dataset import catalogue_from_config, feature_cache, read_interaction_tokens
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.settings import ContentSettings, read_settings
from recbole_llm_interest.training.config import configure

_REFUSALS_SHOWN = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = settings_parser(
        "python -m recbole_llm_interest.content.encode",
        "Encode the content of a data set's items and users. Any setting: --key=value.",
    )
    parser.add_argument("--json", action="store_true", help="end with the summary as one JSON object in one line")

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        config = configure("LLMInterest", options.dataset, options.config_files, overrides)
        summaries = encode_dataset(config)
        if summaries is None:
            return  # another process of torchrun's speaks for all
        settings = read_settings(ContentSettings, config)
        summaries = [summary.shown(settings) for summary in summaries]
        cache = feature_cache(config, settings)
        _print(summaries, config["dataset"], cache, options.json)
        lacking = [line for summary in summaries if summary.is_lacking for line in summary.lines()]
        if lacking and settings.strict_content:
            raise DataError("; ".join(lacking))

    return exit_code(job, kept="what was encoded is kept; the same command goes on from there")


def encode_dataset(config: Config) -> list[Summary] | None:
    """Encode what the store lacks of every item and user, of the catalogue or of the interactions.

    Under ``torchrun`` each process does its share, and the first one's summaries are those of all; the others return
    None.

    Raises:
        LLMInterestError: the content or an encoder cannot be had, or features cannot be written.
    """
    settings = read_settings(ContentSettings, config)
    cache = feature_cache(config, settings)
    share = None
    if torch.distributed.is_torchelastic_launched():
        # They wait for the slowest at the end, however long that takes.
        torch.distributed.init_process_group("gloo", timeout=timedelta(days=30))
        share = Share(torch.distributed.get_rank(), torch.distributed.get_world_size())
        if settings.encoder_device is None and torch.cuda.is_available():
            settings = replace(settings, encoder_device=f"cuda:{os.environ['LOCAL_RANK']}")
    summaries = []
    for kind in ("item", "user"):
        catalogue = catalogue_from_config(config, kind, settings)
        tokens = list(dict.fromkeys([*catalogue.tokens, *read_interaction_tokens(config, kind)]))
        summaries += [summary for _, _, summary in collect_rows(catalogue, tokens, cache, settings, share)]
    return summaries if share is None else _gathered(summaries, share)


def _gathered(summaries: list[Summary], share: Share) -> list[Summary] | None:
    everyone: list[list[Summary]] | None = [[]] * share.world_size if share.rank == 0 else None
    torch.distributed.gather_object(summaries, everyone)
    torch.distributed.destroy_process_group()
    if everyone is None:
        return None
    together = []
    for parts in zip(*everyone, strict=True):
        refused = {token: reason for part in parts for token, reason in part.refused.items()}
        seconds = max(part.seconds for part in parts)
        encoded = sum(part.encoded for part in parts)
        # Not what the processes met in the store: another may have put it there a moment before.
        cached = parts[0].tokens - encoded - len(parts[0].missing) - len(refused)
        together.append(replace(parts[0], encoded=encoded, cached=cached, refused=refused, seconds=seconds))
    return together


def _print(summaries: Sequence[Summary], dataset: str, cache: Path, as_json: bool) -> None:
    rows = [
        {
            "content": f"{summary.kind}s' {summary.modality}",
            "by": summary.source,
            "encoded": summary.encoded,
            "cached": summary.cached,
            "missing": len(summary.missing),
            "refused": len(summary.refused),
            "seconds": f"{summary.seconds:.1f}",
            "a second": f"{summary.encoded / summary.seconds:.0f}" if summary.encoded else "",
        }
        for summary in summaries
    ]
    print(tabulate(rows, headers="keys", tablefmt="github"))
    for summary in summaries:
        for number, (token, reason) in enumerate(summary.refused.items()):
            if number == _REFUSALS_SHOWN:
                print(f"… and {len(summary.refused) - number} more; --json names them all")
                break
            print(f"refused: {summary.kind} {token!r}: {summary.modality} {reason}")
    print(f"\nfeatures of {dataset}: {cache}")
    if as_json:
        print(json.dumps({"dataset": dataset, "features": str(cache), "summaries": [*map(asdict, summaries)]}))


if __name__ == "__main__":
    sys.exit(main())
