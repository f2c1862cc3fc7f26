"""What is wrong with a command line, as far as that can be known without RecBole and torch: it is said at once."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_llm_interest.cli.arguments import parse_arguments
from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.cli.parsers import PARSERS
from recbole_llm_interest.settings import check_given_keys, check_keys

#: commands that take no settings
_WITHOUT_SETTINGS = {"doctor", "migrate", "settings"}


def preflight(name: str, words: Sequence[str]) -> int:
    """Print the help of a command, or what is wrong with its words.

    Args:
        name: of the command.
        words: its options and settings.

    Returns:
        The exit code: 0, 2 for a mistake, 130 when interrupted.

    Raises:
        SystemExit: the help was printed.
    """
    return exit_code(lambda: _check(name, words), kept="nothing was started")


def _check(name: str, words: Sequence[str]) -> None:
    if name not in PARSERS:  # the command itself is as quick
        return
    parser = PARSERS[name]()
    if name in _WITHOUT_SETTINGS:
        parser.parse_args(words)
        return
    options, overrides = parse_arguments(parser, words)
    (check_given_keys if "config_files" in options else check_keys)(overrides, vars(options))
    # imported here because reading data needs pandas, which a misspelt option should not wait for
    from recbole_llm_interest.cli.early_checks import CHECKS

    CHECKS[name](options, overrides)
