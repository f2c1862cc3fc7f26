"""YAML files: the content with the keys as written; invalid files are in ``tests/robustness``."""

from __future__ import annotations

import pytest

from recbole_llm_interest.errors import SettingsError
from recbole_llm_interest.io.pseudonyms import pseudonym
from recbole_llm_interest.io.yaml_files import MAX_VALUES, read_yaml


def test_duplicate_keys_are_returned(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("epochs: 5\nseed: 1\nepochs: 6\n")
    assert read_yaml(path, "config file") == ({"epochs": 6, "seed": 1}, ["epochs", "seed", "epochs"])


def test_aliases_count_as_what_they_stand_for(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(f"a: &a [{', '.join(['1'] * 98)}]\nb: [{', '.join(['*a'] * (MAX_VALUES // 99 - 2))}]\n")
    assert len(read_yaml(path, "config file")[0]["b"]) == MAX_VALUES // 99 - 2
    path.write_text(f"a: &a [{', '.join(['1'] * 98)}]\nb: [{', '.join(['*a'] * (MAX_VALUES // 99 + 1))}]\n")
    with pytest.raises(SettingsError, match=r"config file .* holds more than 10,000 values"):
        read_yaml(path, "config file")


def test_pseudonyms_differ_and_do_not_contain_the_id():
    names = {pseudonym(user) for user in ("zoe", "bob", "zoe", "\udc80")}
    assert len(names) == 3
    assert not any("zoe" in name or "bob" in name for name in names)
