"""``llm-interest follow``: reads events as they come, updates users, and trains new weights on a schedule."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from recbole_llm_interest.cli.arguments import parse_arguments
from recbole_llm_interest.cli.common import exit_code, show, show_json
from recbole_llm_interest.cli.model_checks import check_following
from recbole_llm_interest.cli.parsers import follow_parser
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.io.event_store import STANDARD_INPUT
from recbole_llm_interest.io.redis_streams import RedisAddress
from recbole_llm_interest.stream.follower import Follower, FollowOptions
from recbole_llm_interest.stream.rolling_evaluation import EvaluationWindow
from recbole_llm_interest.stream.sources import EventSource, GrowingFile, StandardInput


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = follow_parser()

    def job() -> None:
        options, settings = parse_arguments(parser, arguments)
        check_following(options, settings)
        torch.set_num_threads(1)  # batches are small, and new weights are trained beside
        chosen = FollowOptions(options.batch, options.evaluate, options.window, options.key, options.refresh_every)
        on_window = (lambda _: None) if options.json else _show_window
        following = Follower.opened(
            Path(options.checkpoint), Path(options.output), chosen, settings, on_window=on_window
        )
        with following as follower:
            found = follower.run(_source(options))
        if options.json:
            show_json(found)
        else:
            _print(found)

    return exit_code(job, kept="what was counted is stored, and the same command goes on behind it")


def _source(options: argparse.Namespace) -> EventSource:
    if options.events == STANDARD_INPUT:
        return StandardInput(sys.stdin.fileno())
    if RedisAddress.is_one(options.events):
        from recbole_llm_interest.stream.redis_source import RedisStream  # its package is an extra

        return RedisStream(RedisAddress.parse(options.events), options.until_end)
    return GrowingFile(Path(options.events), options.until_end)


def _show_window(window: EvaluationWindow) -> None:
    with tqdm.external_write_mode():
        show(f"{window.events:,} evaluated: NDCG@10 {window.ndcg:.4f}, recall@10 {window.recall:.4f}")


def _print(found: dict[str, Any]) -> None:
    counted = ", ".join(f"{found[name]:,} {name.replace('_', ' ')}" for name in ("events", "refused", "repeated"))
    unknown = f", {found['unknown_items']:,} of items that the model does not know" if found["unknown_items"] else ""
    rate = f", {found['events'] / found['seconds']:,.0f} a second" if found["events"] else ""
    refreshes = f"{found['refreshes']} refresh{'' if found['refreshes'] == 1 else 'es'}"
    show(f"{counted}{unknown}{rate}; {refreshes}")
    if found["evaluated"]:
        evaluated = f"{found['evaluated']:,} evaluated before they were read"
        show(f"{evaluated}: NDCG@10 {found['ndcg@10']:.4f}, recall@10 {found['recall@10']:.4f}")
    show(f"model: {one_line(found['checkpoint'])} | files: {', '.join(map(one_line, found['files']))}")


if __name__ == "__main__":
    sys.exit(main())
