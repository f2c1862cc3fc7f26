"""``llm-interest embed``: representations of items and users for RecBole's other models."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_llm_interest.cli.arguments import parse_arguments
from recbole_llm_interest.cli.common import exit_code, show, show_json
from recbole_llm_interest.cli.model_checks import check_embedding
from recbole_llm_interest.cli.parsers import embed_parser
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.recommender.embeddings import LOADING, write_embeddings


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 2 for a mistake, 130 when interrupted, 143 when terminated."""
    parser = embed_parser()

    def job() -> None:
        options, overrides = parse_arguments(parser, arguments)
        check_embedding(options, overrides)
        recommender = Recommender.load(options.checkpoint, **overrides)
        files = write_embeddings(recommender, Path(options.output), history=options.history, steps=options.steps)
        if options.json:
            show_json({"files": files})
            return
        show(f"items: {one_line(files[0])} | users: {one_line(files[1])}\n\nRecBole loads them with:\n{LOADING}")

    return exit_code(job, kept="former files are complete, or the new ones are")


if __name__ == "__main__":
    sys.exit(main())
