"""CONTRIBUTING.md's worked examples work as they are: each adds an implementation from outside the package."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY
from recbole.evaluator import register

from recbole_llm_interest.content.encoders import ENCODERS
from recbole_llm_interest.evaluation.metrics import EVENT_METRICS
from recbole_llm_interest.export.targets import EXPORT_TARGETS
from recbole_llm_interest.settings import REGISTRIES

SECTIONS = (REPOSITORY / "CONTRIBUTING.md").read_text().split("\n### ")[1:]
#: heading -> its Python block
EXAMPLES = {section.splitlines()[0]: re.search(r"```python\n(.*?)```", section, re.DOTALL)[1] for section in SECTIONS}
SETTING = EXAMPLES.pop("A setting")
#: heading -> what the example prints if its implementation was used
PRINTED = {
    "An encoder": "'ndcg@10'",
    "A conditioning of features": "'ndcg@10'",
    "A fusion": "'ndcg@10'",
    "A tracker": "'ndcg@10'",
    "A self-supervised objective": "'smooth'",
    "A metric": "'rootrankmany@10'",
    "An export target": "score.ep 0.0",
}


#: in a checkout with the example's setting
WRITE_AND_READ = """
from recbole_llm_interest.cli.settings import main
from recbole_llm_interest.settings import ModelSettings, read_settings
assert main(["--write"]) == 0
print(read_settings(ModelSettings, {}).item_noise, read_settings(ModelSettings, {"item_noise": 0.5}).item_noise)
"""


@pytest.fixture(scope="module")
def daily(tmp_path_factory):
    """A folder with the data set ``daily``, which the examples train on."""
    folder = tmp_path_factory.mktemp("contributor")
    subprocess.run([sys.executable, str(REPOSITORY / "data" / "make_daily.py"), "data"], check=True, cwd=folder)
    return folder


@pytest.fixture
def _restored_registries(monkeypatch):
    for registry in (*REGISTRIES.values(), *ENCODERS.values(), EVENT_METRICS, EXPORT_TARGETS):
        monkeypatch.setattr(registry, "_members", dict(registry._members))
    for table in ("metrics_dict", "metric_information", "metric_types"):
        for name in ("rootrank", *(f"rootrank{group}" for group in ("unseen", "few", "many", "short", "long"))):
            monkeypatch.setitem(getattr(register, table), name, None)
            monkeypatch.delitem(getattr(register, table), name)


def test_every_kind_has_an_example():
    assert list(EXAMPLES) == list(PRINTED)


@pytest.mark.slow
@pytest.mark.usefixtures("_restored_registries")
@pytest.mark.parametrize("heading", PRINTED)
def test_example_adds_an_implementation_and_trains_with_it(heading, daily, monkeypatch, capsys):
    monkeypatch.chdir(daily)
    monkeypatch.setattr(sys, "argv", ["toy.py"])
    namespace = {"__name__": "toy"}
    exec(compile(EXAMPLES[heading], "toy.py", "exec", dont_inherit=True), namespace)
    result = namespace["result"]
    assert result.epochs == 1
    assert math.isfinite(result.test["ndcg@10"])
    assert PRINTED[heading] in capsys.readouterr().out


@pytest.mark.slow
def test_setting_takes_one_line(here):
    for folder in ("recbole_llm_interest", "properties", "docs"):
        shutil.copytree(REPOSITORY / folder, here / folder, ignore=shutil.ignore_patterns("__pycache__"))
    groups = here / "recbole_llm_interest" / "settings" / "groups.py"
    text = groups.read_text()
    end = text.index("\n\n\n", text.index("class ModelSettings"))
    groups.write_text(f"{text[:end]}\n    {SETTING}{text[end:]}")
    done = subprocess.run([sys.executable, "-c", WRITE_AND_READ], capture_output=True, text=True, cwd=here)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["0.0", "0.5"]
    assert "item_noise: 0.0" in (here / "properties" / "model" / "LLMInterest.yaml").read_text()
    assert "| `item_noise` | float `[0, inf)` | `0.0` |" in (here / "docs" / "settings.md").read_text()
