"""Renders the settings as RecBole's YAML file, as a page of the documentation and as help of the command line.

The values of a setting that names implementations come from its registry, in order of registration. So the whole
package has to be imported before.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from recbole_llm_interest.settings.baselines import BASELINE_SETTINGS, BaselineRecBoleSettings
from recbole_llm_interest.settings.groups import ALL_SETTINGS, RecBoleSettings
from recbole_llm_interest.settings.registry import REGISTRIES

#: RecBole's names of JSON's types
_TYPES = {
    "array": "list",
    "boolean": "bool",
    "integer": "int",
    "number": "float",
    "object": "dict",
    "string": "str",
}
#: column of the comments in the YAML file
_COMMENT_COLUMN = 36
_HELP_WIDTH = 80
_YAML_HEADER = "# Generated from recbole_llm_interest/settings/{module}.py by `make settings`: do not edit.\n"
_MARKDOWN_HEADER = """\
<!-- Generated from recbole_llm_interest/settings/groups.py by `make settings`: do not edit. -->

# Settings

Settings are flat keys of RecBole's configuration. Give them on the command line (`--temperature=0.1` or
`--temperature 0.1`, a list as `--modalities=text,image`), in Python (`compare("daily", temperature=0.1)`) or in a YAML
file (`--config_files=mine.yaml`). The command line and Python take precedence over YAML files, a later file over an
earlier one, and YAML files over the defaults. RecBole's own functions also read the command line of the program that
calls them, which takes precedence over their `config_dict`.

`model` and `dataset` in a YAML file follow the same order, and `model` may be a list; rows of `--rows` name
their own models. `~` means no value. An unknown key is an error. RecBole's own settings, such as `epochs`, work as
RecBole documents them; `train_batch_size` counts targets, as it does for RecBole's models.

The column *Values* shows the type of a setting and its possible values, or the range of a number: `(0, 1]` excludes 0
and includes 1. The values of a list are its possible elements.
"""
_HELP_HEADER = """\
settings of the plug-in, with their defaults; RecBole's own are accepted, too.
--key=value and --key value are the same. ~ means no value. The values of a list
are separated by commas, as in --modalities=text,image; [] is an empty list.
"""


@dataclass(frozen=True)
class SettingDescription:
    """What the files and the help say about a setting.

    Attributes:
        name: its key.
        type: ``bool``, ``int``, ``float``, ``str``, ``list`` or ``dict``.
        values: the possible values; empty if they are not listed.
        interval: the range of a number, such as ``(0, 1]``; empty if it has none.
        default: as in YAML.
        meaning: one line.
    """

    name: str
    type: str
    values: tuple[str, ...]
    interval: str
    default: str
    meaning: str


#: the groups of LLMInterest's settings, and those of every model's
_OWN = (*ALL_SETTINGS, RecBoleSettings)
_EVERY = (*_OWN, *(group for groups in BASELINE_SETTINGS.values() for group in groups), BaselineRecBoleSettings)


def settings_by_section(groups: Sequence[type[Any]] = _EVERY) -> dict[str, list[SettingDescription]]:
    """Return settings by their section's heading, RecBole's own last.

    Args:
        groups: that declare them.
    """
    sections: dict[str, list[SettingDescription]] = {}
    section = ""
    for group in groups:
        for name, schema in TypeAdapter(group).json_schema()["properties"].items():
            section = schema.get("section", section)
            sections.setdefault(section, []).append(_describe(name, schema))
    return sections


def settings_yaml() -> str:
    """Return the text of ``properties/model/LLMInterest.yaml``."""
    return _yaml(_OWN, "groups")


def baseline_yaml(model: str) -> str:
    """Return the text of a baseline's file in ``properties/model``.

    Args:
        model: its name.
    """
    return _yaml((*BASELINE_SETTINGS[model], BaselineRecBoleSettings), "baselines")


def settings_markdown() -> str:
    """Return the text of ``docs/settings.md``."""
    return "\n".join([_MARKDOWN_HEADER, *(_markdown_section(*section) for section in settings_by_section().items())])


def settings_help() -> str:
    """Return the list of settings for ``--help``."""
    return "\n".join([_HELP_HEADER, *(_help_section(*section) for section in settings_by_section().items())])


def _yaml(groups: Sequence[type[Any]], module: str) -> str:
    sections = settings_by_section(groups).items()
    return "\n".join([_YAML_HEADER.format(module=module), *(_yaml_section(*section) for section in sections)])


def _yaml_section(section: str, settings: list[SettingDescription]) -> str:
    lines = [f"# {section}"]
    for setting in settings:
        meaning = setting.meaning.replace("`", "'")
        comment = f"({setting.type}) {meaning[0].upper()}{meaning[1:]}."
        if setting.values:
            comment += f" Range in [{', '.join(map(repr, setting.values))}]."
        elif setting.interval:
            comment += f" Range in {setting.interval}."
        entry = f"{setting.name}: {setting.default}"
        lines.append(f"{entry:{_COMMENT_COLUMN - 2}}  # {comment}")
    return "\n".join(lines) + "\n"


def _markdown_section(section: str, settings: list[SettingDescription]) -> str:
    lines = [f"## {section}", "", "| Setting | Values | Default | Meaning |", "|---|---|---|---|"]
    for setting in settings:
        values = ", ".join(f"`{value}`" for value in setting.values) or (setting.interval and f"`{setting.interval}`")
        default = _without_quotes(setting.default)
        cells = (f"`{setting.name}`", f"{setting.type} {values}".strip(), f"`{default}`", setting.meaning)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _help_section(section: str, settings: list[SettingDescription]) -> str:
    lines = [section]
    for setting in settings:
        constraint = f" in {setting.interval}" if setting.interval else ""
        values = f"; values: {', '.join(setting.values)}" if setting.values else ""
        text = f"({setting.type}{constraint}) {setting.meaning}{values}"
        default = _as_words(setting.default) if setting.type == "list" else _without_quotes(setting.default)
        lines.append(f"  --{setting.name}={default}")
        lines += textwrap.wrap(text, _HELP_WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines) + "\n"


def _describe(name: str, schema: Mapping[str, Any]) -> SettingDescription:
    """Return the description of a setting from its JSON schema."""
    value = schema.get("anyOf", [schema])[0]  # an optional setting's schema is any of [schema, null]
    element = value.get("items", value)
    listed = [element["const"]] if "const" in element else element.get("enum", REGISTRIES.get(name, ()))
    return SettingDescription(
        name=name,
        type=_TYPES[value["type"]],
        values=tuple(listed),
        interval=_interval(value),
        default=_as_yaml(schema["default"]),
        meaning=schema["description"],
    )


def _interval(schema: Mapping[str, Any]) -> str:
    """Return the interval between a JSON schema's bounds; empty if it has none."""
    lower = {"[": schema.get("minimum"), "(": schema.get("exclusiveMinimum")}
    upper = {"]": schema.get("maximum"), ")": schema.get("exclusiveMaximum")}
    left = next((f"{bracket}{bound:g}" for bracket, bound in lower.items() if bound is not None), "")
    right = next((f"{bound:g}{bracket}" for bracket, bound in upper.items() if bound is not None), "")
    return f"{left or '(-inf'}, {right or 'inf)'}" if left or right else ""


def _as_yaml(default: Any) -> str:
    """Return a default as RecBole's YAML files write it."""
    if default is None:
        return "~"
    if isinstance(default, list):
        return f"[{', '.join(default)}]"
    return repr(default)


def _as_words(default: str) -> str:
    """Return a list of YAML as the command line has it."""
    return ",".join(default.strip("[]").split(", ")) or default


def _without_quotes(default: str) -> str:
    """Return a default as a command line's words: without the quotes of a string unless it is empty."""
    return default.strip("'") or default
