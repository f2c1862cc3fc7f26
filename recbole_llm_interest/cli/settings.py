"""``llm-interest settings``: lists every setting, and writes the files that are generated from their declarations."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recbole_llm_interest.cli.arguments import settings_text
from recbole_llm_interest.cli.common import exit_code, show, show_json
from recbole_llm_interest.cli.parsers import settings_parser
from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.files import write_text
from recbole_llm_interest.settings import BASELINE_SETTINGS, PROPERTIES
from recbole_llm_interest.settings.listed_names import METRICS_FILE
from recbole_llm_interest.settings.rendering import (
    baseline_yaml,
    settings_by_section,
    settings_help,
    settings_markdown,
    settings_yaml,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0, 2 for an error, 130 after an interrupt.
    """
    parser = settings_parser()

    def job() -> None:
        options = parser.parse_args(arguments)
        if options.write:
            _write(as_json=options.json)
        elif options.json:
            show_json({"settings": _as_records()})
        else:
            show(settings_text())

    return exit_code(job, kept="the files are unchanged or complete")


def _write(*, as_json: bool) -> None:
    texts = generated_files()
    for path, text in texts.items():
        write_text(path, text, "check the permissions of the checkout")
        if not as_json:
            show(f"written: {path}")
    if as_json:
        show_json({"written": [*texts]})


def _fill_registries() -> None:
    """Import the modules that register what settings name, beside those of the model."""
    import recbole_llm_interest.content.adapters
    import recbole_llm_interest.training.tracking  # noqa: F401


def _as_records() -> list[dict[str, Any]]:
    """What is known of each setting, with its section, in their order."""
    _fill_registries()
    return [
        {"section": section, **asdict(setting)}
        for section, settings in settings_by_section().items()
        for setting in settings
    ]


def generated_files() -> Mapping[Path, str]:
    """Return the text of each file that is generated from the settings, by its path.

    Raises:
        SettingsError: the package is installed, not a checkout of the source.
    """
    from recbole.evaluator import register

    _fill_registries()
    docs = PROPERTIES.parent / "docs"
    if not docs.is_dir():
        raise SettingsError(f"there is no folder {docs}: --write needs a checkout of the source")
    models = PROPERTIES / "model"
    baselines = {models / f"{name}.yaml": baseline_yaml(name) for name in BASELINE_SETTINGS}
    texts = {PROPERTIES / "settings.txt": settings_help(), docs / "settings.md": settings_markdown()}
    metrics = sorted(metric.__name__ for metric in register.metrics_dict.values())
    texts[PROPERTIES / METRICS_FILE] = "".join(f"{name}\n" for name in metrics)
    return {models / "LLMInterest.yaml": settings_yaml(), **baselines, **texts}


if __name__ == "__main__":
    sys.exit(main())
