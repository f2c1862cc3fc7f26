"""``llm-interest mcp``: the calls of a service that runs, as tools of a language model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_llm_interest.cli.arguments import parse_arguments
from recbole_llm_interest.cli.common import exit_code
from recbole_llm_interest.cli.model_checks import API_KEY, check_tools
from recbole_llm_interest.cli.parsers import mcp_parser
from recbole_llm_interest.io.opening import read_text


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0 when the client ends, 2 for a mistake, 130 when interrupted."""
    parser = mcp_parser()

    def job() -> None:
        options, settings = parse_arguments(parser, arguments)
        check_tools(options, settings)
        from recbole_llm_interest.serving.mcp_server import ServiceCalls, tool_server  # its package is an extra

        key = None if options.api_key_file is None else read_text(Path(options.api_key_file), API_KEY).strip()
        tool_server(ServiceCalls(options.url, key)).run()

    return exit_code(job, kept="nothing is stored here")


if __name__ == "__main__":
    sys.exit(main())
