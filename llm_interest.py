"""The console script ``llm-interest``: one command with a subcommand for each task.

The module is outside the package on purpose. Importing ``recbole_llm_interest`` patches and imports RecBole and torch,
which takes seconds; help, a misspelt subcommand and an interrupt during that import are answered from here.
"""

from __future__ import annotations

import difflib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Subcommand:
    """A task of the command line.

    Attributes:
        module: the module whose ``main(arguments)`` runs it and returns the exit code.
        summary: one line for ``llm-interest --help``.
    """

    module: str
    summary: str


#: every subcommand by its name
SUBCOMMANDS = {
    "convert": Subcommand("recbole_llm_interest.cli.convert", "make a data set of tables: CSV, JSON lines, Parquet"),
    "join": Subcommand("recbole_llm_interest.cli.join", "make one data set of several"),
    "compare": Subcommand("recbole_llm_interest.cli.compare", "train RecBole models and compare them in one table"),
    "tune": Subcommand("recbole_llm_interest.cli.tune", "search a model's hyperparameters on the validation split"),
    "encode": Subcommand("recbole_llm_interest.cli.encode", "encode the content of a data set into the feature cache"),
    "adapt": Subcommand("recbole_llm_interest.cli.adapt", "train an adapter of an encoder on a data set's own events"),
    "doctor": Subcommand("recbole_llm_interest.cli.doctor", "check which encoders and file formats work here"),
    "recommend": Subcommand("recbole_llm_interest.cli.recommend", "recommend items to a user with a trained model"),
    "follow": Subcommand("recbole_llm_interest.cli.follow", "read events as they come, and learn from them"),
    "serve": Subcommand("recbole_llm_interest.cli.serve", "answer by HTTP: events in, recommendations out"),
    "mcp": Subcommand("recbole_llm_interest.cli.mcp", "give a language model tools that call a service"),
    "report": Subcommand("recbole_llm_interest.cli.report", "write an HTML report on a trained model or a comparison"),
    "export": Subcommand("recbole_llm_interest.cli.export", "write a trained model as a folder and as programs"),
    "embed": Subcommand("recbole_llm_interest.cli.embed", "write representations for RecBole's other models"),
    "forget": Subcommand("recbole_llm_interest.cli.forget", "delete users or items from everything that is stored"),
    "migrate": Subcommand("recbole_llm_interest.cli.migrate", "write former checkpoints in the present format"),
    "settings": Subcommand("recbole_llm_interest.cli.settings", "list every setting with its default and meaning"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand that the first argument names.

    Args:
        arguments: the words of the command line; None for those of the process.

    Returns:
        The exit code: the subcommand's, or 2 where the first argument names none.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in (["-h"], ["--help"]):
        print(_help())
        return 0
    if not words or words[0] not in SUBCOMMANDS:
        print(f"error: command line: {_mistake(words)}", file=sys.stderr)
        return 2
    sys.argv = [f"llm-interest {words[0]}", *words[1:]]  # the name under which the subcommand's help refers to itself
    return run(words[0])


def run(name: str) -> int:
    """Run a subcommand on the arguments of the process: first its help and mistakes, without RecBole and torch.

    Returns:
        The subcommand's exit code; 130 if its import is interrupted, 141 if what reads its output ends first.
    """
    words = sys.argv[1:]
    try:
        if code := importlib.import_module("recbole_llm_interest.cli.preflight").preflight(name, words):
            return int(code)
        module = importlib.import_module(SUBCOMMANDS[name].module)
    except KeyboardInterrupt:
        print("\ninterrupted: nothing was started", file=sys.stderr)
        return 128 + signal.SIGINT
    try:
        code = int(module.main(words))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it exits
        return 128 + signal.SIGPIPE
    return code


def _help() -> str:
    width = max(map(len, SUBCOMMANDS))
    lines = [f"  {name:{width}}  {subcommand.summary}" for name, subcommand in SUBCOMMANDS.items()]
    return "\n".join(
        [
            "usage: llm-interest SUBCOMMAND [OPTION ...]",
            "",
            "LLMInterest, a content-aware sequential recommender for RecBole.",
            "",
            "subcommands:",
            *lines,
            "",
            "llm-interest SUBCOMMAND --help lists the options of one.",
        ]
    )


def _mistake(words: Sequence[str]) -> str:
    known = ", ".join(SUBCOMMANDS)
    if not words:
        return f"a subcommand is missing: give one of {known}"
    nearest = difflib.get_close_matches(words[0], SUBCOMMANDS, n=1, cutoff=0.6)
    suggestion = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"unknown subcommand {words[0]!r}: {suggestion}known are {known}"


if __name__ == "__main__":
    sys.exit(main())
