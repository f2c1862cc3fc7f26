"""Work that a Ray cluster shares: two nodes, which are two raylets of one core, and workers that are killed."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY, SUBJECTS, write_dataset
from squarer import Squarer

from recbole_llm_interest.cli.encode import main as encode
from recbole_llm_interest.cli.recommend import main as recommend
from recbole_llm_interest.cli.tune import main as tune
from recbole_llm_interest.cluster import open_executor
from recbole_llm_interest.errors import DataError, ProcessError
from recbole_llm_interest.recommender import Recommender

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with one core each."""
    from recbole_llm_interest.cluster import ray_actors  # noqa: F401  (imports ray without its warning)

    cluster_utils = pytest.importorskip("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (REPOSITORY, Path(__file__).parent))))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = cluster_utils.Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        cluster.add_node(num_cpus=1)
        yield cluster
        cluster.shutdown()


@pytest.fixture
def address(cluster):
    """Of the cluster's head node."""
    return cluster.address


def squares(address, tmp_path, tasks, **options):
    with open_executor(address) as executor:
        return list(executor.map(functools.partial(Squarer, tmp_path, **options), tasks, uses_gpu=False, ahead=1))


def test_workers_of_both_nodes_share_the_tasks(address, tmp_path):
    results = squares(address, tmp_path, range(40))
    assert sorted(square for square, _ in results) == [n * n for n in range(40)]
    assert len({process for _, process in results}) == 2
    assert {process for _, process in squares(None, tmp_path, range(4))} == {os.getpid()}


@pytest.mark.parametrize("deadly", [(0,), (5, 6), (38, 39)])
def test_tasks_of_killed_workers_are_done_by_others(address, tmp_path, deadly):
    results = squares(address, tmp_path, range(40), deadly=deadly, deaths=len(deadly))
    assert sorted(square for square, _ in results) == [n * n for n in range(40)]
    assert len(list(tmp_path.iterdir())) == len(deadly)


def test_tasks_of_a_lost_node_are_done_by_others(cluster, tmp_path):
    node = cluster.add_node(num_cpus=1)
    with open_executor(cluster.address) as executor:
        results = executor.map(functools.partial(Squarer, tmp_path), range(60), uses_gpu=False, ahead=1)
        squared = [next(results)[0] for _ in range(12)]
        cluster.remove_node(node)
        squared += [square for square, _ in results]
    assert sorted(squared) == [n * n for n in range(60)]


def test_task_that_kills_every_worker_is_an_error(address, tmp_path):
    with pytest.raises(ProcessError, match="3 workers of the cluster were lost with the same task"):
        squares(address, tmp_path, range(10), deadly=(4,), deaths=1000)


def test_error_of_a_task_is_raised_as_it_is(address, tmp_path):
    with pytest.raises(DataError, match="-3 is negative"):
        squares(address, tmp_path, [1, 2, -3])


def test_no_tasks_need_no_worker(address, tmp_path):
    assert squares(address, tmp_path, []) == []


def test_two_nodes_encode_what_one_process_does_even_if_a_worker_is_killed():
    """With the real sentence encoder: every feature is the same to the bit."""
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "benchmarks" / "ray_encoding.py"), "--texts=2000"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    figure = json.loads(done.stdout.splitlines()[-1])
    assert figure["workers_killed"] == 1
    assert figure["missing_with_a_worker_killed"] == 0
    assert (figure["largest_difference"], figure["largest_difference_with_a_worker_killed"]) == (0, 0)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_interrupted_command_keeps_its_shards_and_leaves_no_worker(here, number, code):
    titles = {f"i{n}": f"{SUBJECTS[n % 8]} {n}" for n in range(2000)}
    write_dataset(here / "data", "many", [("u", "i0", 1.0)], titles)
    words = ["--dataset=many", "--data_path=data", "--feature_cache=features", "--json", "--ray=local"]
    command = [sys.executable, "-m", "recbole_llm_interest.cli.encode", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not list(here.rglob("*.safetensors")):
        assert process.poll() is None
        time.sleep(0.02)
    workers = [int(path.name) for path in Path("/proc").glob("[0-9]*") if _is_worker_in(path, here)]
    assert workers
    process.send_signal(number)
    assert process.wait(60) == code, process.stderr.read()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])["summaries"][0]
    assert summary["encoded"] + summary["cached"] == 2000
    assert summary["cached"] >= 512
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def _is_worker_in(process, folder):
    try:
        return (process / "cmdline").read_bytes().startswith(b"ray::_Actor") and (process / "cwd").readlink() == folder
    except OSError:
        return False


def test_images_are_read_by_the_workers(address, here, tmp_path, capsys):
    """All three modalities of ``daily``; what cannot be used is listed as by one process."""
    subprocess.run([sys.executable, str(REPOSITORY / "data" / "make_daily.py"), "data"], check=True)
    (here / "data" / "daily" / "content" / "images" / "history-1.png").write_bytes(b"no image")
    words = ["--dataset=daily", "--data_path=data", "--text_encoder=hashing", "--image_encoder=color_hist", "--json"]
    summaries = []
    for more in (["--feature_cache=alone"], ["--feature_cache=together", f"--ray={address}"]):
        assert encode([*words, *more]) == 0
        record = json.loads(capsys.readouterr().out.splitlines()[-1])
        summaries.append([{**one, "seconds": 0} for one in record["summaries"]])
    assert summaries[0] == summaries[1]
    assert "history-1" in summaries[0][1]["refused"]


def test_parallel_search_has_the_trials_of_a_sequential_one(address, settings, here):
    (here / "space.hyper").write_text("learning_rate choice [0.00001,0.003,0.03]\nhidden_size choice [8,16]\n")
    words = [f"--{key}={value}" for key, value in {**settings, "loss_type": "CE", "train_neg_sample_args": "~"}.items()]
    command = ["--model=GRU4Rec", "--dataset=cycle", "--space=space.hyper", *words]
    for algorithm in ("random", "exhaustive"):
        for name, more in (("alone", []), ("together", [f"--ray={address}"])):
            search = [f"--algorithm={algorithm}", "--trials=4", f"--output={algorithm}-{name}.yaml"]
            assert tune([*command, *search, *more]) == 0
        for suffix in ("yaml", "json"):
            alone, together = ((here / f"{algorithm}-{name}.{suffix}").read_text() for name in ("alone", "together"))
            assert together == alone


def test_objective_function_of_recbole_is_tuned_by_ray(address, settings, here):
    """The program of docs/cluster.md; without the hook its workers fail. Trials that start together keep apart."""
    own = {"loss_type": "CE", "train_neg_sample_args": None, "epochs": 8}
    (here / "search.yaml").write_text(yaml.safe_dump({**settings, **own, "model": "GRU4Rec", "dataset": "cycle"}))
    program = (REPOSITORY / "docs" / "cluster.md").read_text().partition("```python\n")[2].partition("```")[0]
    program = program.replace("/data/search.yaml", str(here / "search.yaml")).replace("0.001, 0.003", "0.00001, 0.03")
    program = program.replace("ray.init(", f"ray.init({address!r}, log_to_driver=False, ")
    program = program.replace("tune.run(", f"tune.run(local_dir={str(here)!r}, verbose=0, run_or_experiment=")
    program += "print([float(trial.metric_analysis['recall@3']['last']) for trial in result.trials])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=here)
    assert done.returncode == 0, done.stderr
    slow, fast = json.loads(done.stdout.splitlines()[-1])
    assert fast > slow


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--ray=127.0.0.1:1", "no cluster answers there"),
        ("--ray=somewhere", "give local, auto, or HOST:PORT"),
    ],
)
def test_place_without_a_cluster_is_one_line_and_exit_2(settings, capsys, monkeypatch, tmp_path, word, message):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    words = ["--dataset=cycle", f"--data_path={settings['data_path']}", "--text_encoder=hashing"]
    assert encode([*words, word]) == 2
    (error,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert error.startswith("error: --ray=")
    assert message in error


def test_search_that_chooses_by_earlier_trials_is_not_parallel(settings, capsys):
    words = [f"--{key}={value}" for key, value in settings.items()]
    assert tune(["--model=GRU4Rec", "--dataset=cycle", "--algorithm=bayes", "--ray=local", *words]) == 2
    assert "error: --algorithm=bayes chooses a trial by the last ones" in capsys.readouterr().err


def test_encoder_device_is_chosen_by_ray(settings, capsys):
    words = ["--dataset=cycle", f"--data_path={settings['data_path']}", "--encoder_device=cpu:0", "--ray=local"]
    assert encode(words) == 2
    assert "error: encoder_device=cpu:0: with --ray give cpu, cuda, or nothing" in capsys.readouterr().err


def test_two_nodes_recommend_what_one_process_does(address, shop, here, monkeypatch):
    """One part a user and half of them written before: the file is the same to the byte."""
    from recbole_llm_interest.recommender import recommend_all as module

    monkeypatch.setattr(module, "_PART_USERS", 5)
    checkpoint, places = shop()
    load = functools.partial(Recommender.load, checkpoint, **places)
    recommender = load()
    module.recommend_all(recommender, here / "alone.csv", k=3)
    with open_executor(address) as executor:
        made = module.write_all(recommender, here / "shared.csv", k=3, executor=executor, load=load)
    assert made.users == 24
    assert (here / "shared.csv").read_bytes() == (here / "alone.csv").read_bytes()


def test_command_recommends_to_all_by_ray(address, shop, here, capsys):
    checkpoint, places = shop()
    words = [f"--checkpoint={checkpoint}", "--all", "--k=3", *(f"--{name}={value}" for name, value in places.items())]
    assert recommend([*words, "--output=alone.jsonl"]) == 0
    assert recommend([*words, "--output=shared.jsonl", f"--ray={address}"]) == 0
    assert (here / "shared.jsonl").read_bytes() == (here / "alone.jsonl").read_bytes()
    assert recommend([*words[:1], "--user=u1", "--ray=local"]) == 2
    assert "--ray is for every user: give --all too" in capsys.readouterr().err
