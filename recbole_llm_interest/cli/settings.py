"""``llm-interest settings``: lists every setting, and writes the files that are generated from their declarations."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import recbole_llm_interest.training.tracking  # noqa: F401  (fills all registries, whose names are values of settings)
from recbole_llm_interest.cli.common import bare_parser, exit_code, show
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.files import write_text
from recbole_llm_interest.settings import BASELINE_SETTINGS, PROPERTIES
from recbole_llm_interest.settings.rendering import baseline_yaml, settings_help, settings_markdown, settings_yaml


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0, 2 for an error, 130 after an interrupt.
    """
    parser = bare_parser("python -m recbole_llm_interest.cli.settings", "List every setting of the plug-in.")
    parser.add_argument(
        "--write", action="store_true", help="write the generated files of a checkout of the source instead"
    )

    def job() -> None:
        options = parser.parse_args(arguments)
        if not options.write:
            show(settings_help())
            return
        for path, text in generated_files().items():
            write_text(path, text, "check the permissions of the checkout")
            show(f"written: {path}")

    return exit_code(job, kept="the files are unchanged or complete")


def generated_files() -> Mapping[Path, str]:
    """Return the text of each file that is generated from the settings, by its path.

    Raises:
        SettingsError: the package is installed, not a checkout of the source.
    """
    docs = PROPERTIES.parent / "docs"
    if not docs.is_dir():
        raise SettingsError(f"there is no folder {docs}: --write needs a checkout of the source")
    models = PROPERTIES / "model"
    baselines = {models / f"{name}.yaml": baseline_yaml(name) for name in BASELINE_SETTINGS}
    return {models / "LLMInterest.yaml": settings_yaml(), **baselines, docs / "settings.md": settings_markdown()}


if __name__ == "__main__":
    sys.exit(main())
