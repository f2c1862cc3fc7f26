"""``llm-interest doctor``: its checks, and what it prints of them."""

from __future__ import annotations

import sys
from types import MappingProxyType

import pytest

from recbole_llm_interest.cli.checks import run_checks
from recbole_llm_interest.cli.doctor import main
from recbole_llm_interest.content.encoders import AUDIO_ENCODERS


def test_models_of_the_hub_cache_without_weights_are_listed_apart(here, monkeypatch):
    from huggingface_hub import constants

    for name, files in {"a--whole": ["config.json", "model.safetensors"], "a--half": ["config.json"]}.items():
        references, snapshot = (here / f"models--{name}" / folder for folder in ("refs", f"snapshots/{'0' * 40}"))
        references.mkdir(parents=True)
        snapshot.mkdir(parents=True)
        (references / "main").write_text(snapshot.name)
        for file in files:
            (snapshot / file).write_text("{}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(here))
    (state,) = [check.state for check in run_checks() if check.name == "hub cache"]
    assert state.endswith(": a/whole; without weights: a/half")


def test_mistake_is_one_line(capsys):
    assert main(["--everything"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "error: command line: unrecognized arguments: --everything; --help lists the options\n"


def test_checks_state_what_works_here(capsys, monkeypatch):
    assert main([]) == 0
    out = capsys.readouterr().out
    for word in ("torchvision", "all-MiniLM-L6-v2", "open_clip", "soundfile", "hub cache", "CPU cores"):
        assert word in out
    assert "no GPU; " in out or "NVIDIA" in out
    monkeypatch.setitem(sys.modules, "librosa", None)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    assert main([]) == 1
    out = capsys.readouterr().out
    assert "| BROKEN  | text encoder pretrained" in out
    assert "| missing | audio encoder librosa" in out
    assert "audio encoder librosa: pip install librosa" in out


@pytest.mark.parametrize("imports", [False, True])
def test_encoder_from_outside_the_package_is_checked(monkeypatch, imports):
    class Whistle:
        needs_weights = False
        packages = MappingProxyType({"whistle": "no_such_module"})

    monkeypatch.setitem(AUDIO_ENCODERS._members, "whistle", Whistle)
    (check,) = [check for check in run_checks(imports=imports) if check.name == "audio encoder whistle"]
    assert check.mark == "missing"
    assert check.remedy == "pip install whistle"


def test_torchvision_for_another_torch_is_named_without_an_import(monkeypatch):
    versions = {"torchvision": "0.18.0", "torch": "2.13.0+cpu"}
    monkeypatch.setattr("recbole_llm_interest.cli.checks.installed_version", lambda name: versions.get(name, "1"))
    monkeypatch.setattr("importlib.metadata.requires", lambda name: ["numpy", "torch==2.3.0"])
    (check,) = [check for check in run_checks() if check.name == "torchvision"]
    assert (check.mark, check.state) == ("BROKEN", "0.18.0 is for torch 2.3.0")
    assert check.remedy.startswith("install the release for torch 2.13.0")
