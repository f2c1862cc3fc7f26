"""``llm-interest serve``: a trained model behind HTTP."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields

from recbole_llm_interest.cli.arguments import parse_arguments
from recbole_llm_interest.cli.common import exit_code, show, show_json
from recbole_llm_interest.cli.model_checks import check_serving
from recbole_llm_interest.cli.parsers import serve_parser
from recbole_llm_interest.io.escaping import one_line
from recbole_llm_interest.serving.options import ServeOptions

#: what the command ends with if its processes could not start
_FAILED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0 after SIGTERM or SIGINT, 2 for a mistake."""
    parser = serve_parser()
    has_started = True

    def job() -> None:
        nonlocal has_started
        options, settings = parse_arguments(parser, arguments)
        check_serving(options, settings)
        named = {one.name: getattr(options, one.name) for one in fields(ServeOptions) if one.name != "settings"}
        chosen = ServeOptions(settings=settings, **named)
        from recbole_llm_interest.serving.server import run_service  # its packages are an extra

        has_started = run_service(chosen, lambda: _show_place(chosen, options.json))
        if has_started and not options.json:
            show("stopped: every event that was acknowledged is stored")

    code = exit_code(job, kept="every event that was acknowledged is stored")
    return code if has_started else _FAILED


def _show_place(options: ServeOptions, as_json: bool) -> None:
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{host}:{options.port}"
    if as_json:
        show_json({"url": url, "store": options.store})
    else:
        show(f"{url} has a page, and {url}/docs the interface | store: {one_line(options.store)}")


if __name__ == "__main__":
    sys.exit(main())
