"""The commands, programs and links of the documentation work."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import datasets
import pandas as pd
import polars
import pyarrow
import pytest
from conftest import REPOSITORY, SUBJECTS

DOCUMENTS = [
    path
    for folder in (REPOSITORY, REPOSITORY / "docs", REPOSITORY / "docs" / "api", REPOSITORY / "benchmarks",
                   REPOSITORY / "data")
    for path in sorted(folder.glob("*.md"))
]  # fmt: skip


def program_with(word, document="README.md"):
    """The Python example of a document that has this word in it."""
    text = (REPOSITORY / document).read_text()
    (program,) = [program for program in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if word in program]
    return program


@pytest.mark.slow
def test_chinese_quick_start(here):
    """Its commands and its program, from the tables to what a newcomer is recommended, with fewer epochs."""
    text = (REPOSITORY / "docs" / "zh" / "quickstart.md").read_text()
    commands = re.findall(r"^(?:python data|llm-interest [cr]).*", text, re.MULTILINE)
    for command in commands:
        word, first, *words = shlex.split(command)
        start = [str(REPOSITORY / first)] if word == "python" else [str(REPOSITORY / "llm_interest.py"), first]
        if first == "compare":
            words = ["--model=LLMInterest", *words[1:], "--epochs=15", "--show_progress=False"]
        if first == "report":
            (checkpoint,) = (here / "saved").glob("*.safetensors")
            words = [f"--checkpoint={checkpoint}"]
        done = subprocess.run([sys.executable, *start, *words], capture_output=True, text=True, cwd=here)
        assert done.returncode == 0, done.stderr
    program = program_with("用户17", "docs/zh/quickstart.md")
    live = subprocess.run([sys.executable, "-c", program, str(checkpoint)], capture_output=True, text=True, cwd=here)
    assert live.returncode == 0, live.stderr
    assert re.findall(r"^1 +sku\d{3}", live.stdout, re.MULTILINE)
    assert "share=1.00" in live.stdout  # groups of items are named by their category, which all their items have


@pytest.mark.slow
def test_ada_still_wants_technology(here, feature_cache):
    """The worked example, from making the data to the answer; she read technology, history, finance."""
    subprocess.run([sys.executable, str(REPOSITORY / "data" / "make_daily.py"), "data"], check=True, cwd=here)
    command = [sys.executable, str(REPOSITORY / "run_recbole.py"), "--dataset=daily", "--data_path=data",
               f"--feature_cache={feature_cache}"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, cwd=here)
    (checkpoint,) = (here / "saved").glob("*.safetensors")
    ada = program_with("ada", "docs/getting_started.md")
    done = subprocess.run([sys.executable, "-c", ada, str(checkpoint)], capture_output=True, text=True, cwd=here)
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
    program = program_with("compare", "docs/command_line.md")
    quicker = program.replace("epochs=20", f"epochs=1, feature_cache={str(feature_cache)!r}")
    assert quicker != program
    done = subprocess.run([sys.executable, "-c", quicker], capture_output=True, text=True, cwd=here)
    assert done.returncode == 0, done.stderr
    assert "| LLMInterest |" in done.stdout
    tokens = re.findall(r"'\d+'", done.stdout.splitlines()[-1])
    assert len(tokens) == 5


@pytest.mark.parametrize(
    "target",
    [
        "help", "install", "run", "daily", "examples", "check", "test", "lint", "format", "docs", "settings", "bench",
        "clean",
    ],
)  # fmt: skip
def test_make_has_the_target(target):
    assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "benchmarks" / "results").glob("*.json")), ids=lambda path: path.stem
)
def test_published_results_are_small_and_name_no_folder_of_a_machine(path):
    """Tables keep ranks of single events, and where checkpoints lie; neither is for publication."""
    text = path.read_text()
    assert len(text) < 500_000
    assert not re.search(r'"/\w+/', text)


def test_readme_is_short():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 150


def slug(heading):
    """The anchor of a heading, as the site and code hosts make it."""
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(document):
    for target, fragment in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", document.read_text()):
        if target.startswith("https://"):
            continue
        file = (document.parent / target).resolve() if target else document
        assert file.exists(), f"{document.name}: {target}"
        if fragment:
            headings = re.findall(r"^#+ (.*)", file.read_text(), re.MULTILINE)
            assert fragment in map(slug, headings), f"{document.name}: {target}#{fragment}"


def test_pandas_lines_write_a_data_set(here, capsys):
    program = program_with("k_core=5", "docs/your_data.md")
    events = pd.DataFrame({"user": [i // 5 for i in range(25)], "item": ["abcde"[i % 5] for i in range(25)]})
    tables = {
        "events": events.assign(time=pd.date_range("2024-01-01", periods=25)),
        "items": pd.DataFrame({"item": list("abcde"), "title": SUBJECTS[:5]}),
        "users": pd.DataFrame({"user": range(5), "age": range(20, 25)}),
    }
    exec(program, tables)
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "llm-interest compare --model=LLMInterest,GRU4Rec --dataset=mine --data_path=data"
    assert (
        (here / "data/mine/mine.inter").read_text().startswith("user_id:token\titem_id:token\ttimestamp:float\n0\ta\t")
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow", "datasets"])
def test_ten_lines_lead_from_a_table_to_recommendations(here, feature_cache, capsys, monkeypatch, kind):
    program = program_with("orders.csv", "docs/your_data.md")
    assert len([line for line in program.splitlines() if line]) <= 10
    rows = [(f"c{n // 6}", f"a{(n // 6 + n) % 8}", f"2024-01-{1 + n % 6:02}") for n in range(120)]
    orders = pd.DataFrame(rows, columns=["customer", "article", "date"])
    made = {
        "pandas": lambda: orders,
        "polars": lambda: polars.from_pandas(orders),
        "arrow": lambda: pyarrow.Table.from_pandas(orders),
        "datasets": lambda: datasets.Dataset.from_pandas(orders),
    }
    read = 'pd.read_csv("orders.csv")'
    first = {"arrow": 'orders["customer"][0].as_py()'}.get(kind, 'orders["customer"][0]')
    quicker = program.replace(read, "given").replace('orders["customer"][0]', first)
    settings = "epochs=1, metrics=['NDCG'], topk=[3], valid_metric='NDCG@3', show_progress=False"
    quicker = quicker.replace("epochs=20", f"{settings}, feature_cache={str(feature_cache)!r}")
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    exec(quicker, {"given": made[kind]()})
    assert "customer" not in capsys.readouterr().out
    best = polars.read_parquet("best.parquet")
    assert (best["user"].n_unique(), len(best)) == (20, 100)


@pytest.mark.slow
def test_documentation_builds_without_warnings(here):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", str(REPOSITORY / "mkdocs.yml")]
    done = subprocess.run([*command, "-d", str(here / "site")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in (here / "site").rglob("*.html"):
        loaded = re.findall(
            r"""<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="(https?:[^"]*)""", page.read_text()
        )
        assert not loaded, f"{page.name} loads {loaded}"
    assert "full_sort_predict" in (here / "site/api/model.html").read_text()


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
