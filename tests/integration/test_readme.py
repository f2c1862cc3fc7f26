"""What the README and benchmarks/README.md promise is there and runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()


def program_with(word):
    """The README's Python example that has this word in it."""
    (program,) = [text for text in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if word in text]
    return program


@pytest.mark.slow
def test_ada_still_wants_technology(here, feature_cache):
    """The worked example, from making the data to the answer; she read technology, history, finance."""
    subprocess.run([sys.executable, str(REPOSITORY / "data" / "make_daily.py"), "data"], check=True, cwd=here)
    command = [sys.executable, str(REPOSITORY / "run_recbole.py"), "--dataset=daily", "--data_path=data",
               f"--feature_cache={feature_cache}"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, cwd=here)
    (checkpoint,) = (here / "saved").glob("*.pth")
    done = subprocess.run([sys.executable, "-c", program_with("ada"), str(checkpoint)], capture_output=True, text=True,
                          cwd=here)  # fmt: skip
    assert done.returncode == 0, done.stderr
    wanted = re.search(r"she read technology-\d history-\d finance-\d and now wants (.*)", done.stdout)[1].split()
    assert all(item.startswith("technology-") for item in wanted)
    assert "'audio': " in done.stdout.splitlines()[-1]
    live = subprocess.run([sys.executable, "-c", program_with("Recommender"), str(checkpoint)], capture_output=True,
                          text=True, cwd=here)  # fmt: skip
    assert live.returncode == 0, live.stderr
    best, _, ahead, why = live.stdout.splitlines()
    assert best.startswith("technology-")
    assert [item.split("-")[0] for item in ahead.split()[:3]] == ["technology", "history", "finance"]
    assert "audio 0." in why
    assert (here / "reader.safetensors").is_file()


def test_live_use_takes_ten_lines():
    assert len([line for line in program_with("Recommender").splitlines() if line]) == 10


@pytest.mark.slow
def test_python_example_runs(here, feature_cache):
    program = program_with("results")
    quicker = program.replace('"epochs": 20', f'"epochs": 1, "feature_cache": {str(feature_cache)!r}')
    assert quicker != program
    done = subprocess.run([sys.executable, "-c", quicker], capture_output=True, text=True, cwd=here)
    assert done.returncode == 0, done.stderr
    assert "| LLMInterest |" in done.stdout
    tokens = re.findall(r"'\d+'", done.stdout.splitlines()[-1])
    assert len(tokens) == 5


@pytest.mark.parametrize("target", ["install", "run", "daily", "examples", "test", "bench"])
def test_make_has_the_target(target):
    assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)


def test_links_lead_somewhere():
    for document in (
        REPOSITORY / "README.md",
        REPOSITORY / "benchmarks" / "README.md",
        REPOSITORY / "docs" / "export.md",
        REPOSITORY / "docs" / "live.md",
        REPOSITORY / "docs" / "examples.md",
    ):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            assert target.startswith("https://") or (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.slow
def test_epoch_benchmark_ends_in_one_line_of_json(here, feature_cache):
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "epoch_time.py"), "--repeats=1", "--batches=1"]
    command.append(f"--feature_cache={feature_cache}")
    done = subprocess.run(command, capture_output=True, text=True, cwd=here)
    assert done.returncode == 0, done.stderr
    figure = json.loads(done.stdout.splitlines()[-1])
    assert {"figure", "our_seconds", "baseline_seconds", "ratio", "repeats", "spread"} <= set(figure)
    assert figure["ratio"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["evaluation.py", "--items=300", "--users=64", "--repeats=2"],
        ["preparation.py", "--length=20", "--repeats=1"],
        ["scale.py", "--users=50", "--items=40", "--events=1000", "--steps=2", "--eval_users=20", "--feature_size=8",
         "--temperature=0.1"],
    ],
)  # fmt: skip
def test_benchmark_ends_in_one_line_of_json(here, command):
    script = REPOSITORY / "benchmarks" / command[0]
    done = subprocess.run([sys.executable, str(script), *command[1:]], capture_output=True, text=True, cwd=here)
    assert done.returncode == 0, done.stderr
    figure = json.loads(done.stdout.splitlines()[-1])
    assert {"figure", "unit", "baseline", "ours", "ratio", "repeats", "spread", "commit", "device"} <= set(figure)
    assert min(figure["spread"]) > 0
    if command[0] == "scale.py":
        assert figure["settings"] == {"temperature": 0.1}
