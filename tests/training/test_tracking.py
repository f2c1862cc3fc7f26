"""Trackers: what each of them has of a run is what the run's result says; none of them can cost a run its result."""

from __future__ import annotations

import json
import logging
import os
import re
import struct
import subprocess
import sys
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import REPOSITORY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recbole_llm_interest.cli.compare import main
from recbole_llm_interest.errors import DivergedError, SettingsError
from recbole_llm_interest.evaluation.results import read_results
from recbole_llm_interest.io.checkpoints.reading import read_resume_state
from recbole_llm_interest.io.checkpoints.writing import write_state
from recbole_llm_interest.io.variants import Variant
from recbole_llm_interest.settings.portable import portable_settings
from recbole_llm_interest.training.comparison import run
from recbole_llm_interest.training.config import configure
from recbole_llm_interest.training.experiment import validation_curve
from recbole_llm_interest.training.monitor import TrainingMonitor
from recbole_llm_interest.training.tracking import TRACKERS, TrackedRun
from recbole_llm_interest.training.tracking.tensorboard import TensorBoardTracker

#: a variant with a name of its own, another trainer of RecBole's, a general model, and one that counts
ROWS = [
    Variant("ours, two losses", "LLMInterest", {"learning_rate_schedule": "linear"}),
    *(Variant(name, name) for name in ("GRU4Rec", "BPR", "Pop", "RepeatLast")),
]
#: skips a test of a tracker whose package is not installed
NEEDS = {
    "tensorboard": lambda: None,
    "wandb": lambda: pytest.importorskip("wandb"),
    "mlflow": lambda: pytest.importorskip("mlflow"),
}


@dataclass
class Shown:
    """A run as its tracker has it.

    Attributes:
        settings: settings and facts, as text.
        values: pairs of the epoch and the value, by name.
        summary: the last value of the whole run by name.
    """

    name: str
    comparison: str
    id: str
    settings: dict[str, str]
    values: dict[str, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    summary: dict[str, float] = field(default_factory=dict)
    has_finished: bool = True


def shown_by_tensorboard(here: Path) -> list[Shown]:
    found = []
    for folder in sorted({events.parent for events in here.glob("log/*/*/events.out.tfevents.*")}):
        events = EventAccumulator(str(folder))
        events.Reload()
        facts, settings = (events.Tensors(f"{part}/text_summary")[0].tensor_proto for part in ("run", "settings"))
        facts, settings = json.loads(facts.string_val[0]), json.loads(settings.string_val[0])
        shown = Shown(facts.pop("name"), facts.pop("comparison"), folder.name, texts(facts | settings))
        for tag in events.Tags()["scalars"]:
            shown.values[tag] = [(event.step, event.value) for event in events.Scalars(tag)]
            if tag.startswith(("test/", "best/", "cost/")):
                shown.summary[tag] = shown.values.pop(tag)[-1][1]
        found.append(shown)
    return found


def shown_by_mlflow(here: Path) -> list[Shown]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    (experiment,) = [one for one in client.search_experiments() if one.name == "cycle"]
    found = []
    for one in client.search_runs([experiment.experiment_id]):
        tags = {name: value for name, value in one.data.tags.items() if not name.startswith("mlflow.")}
        comparison = tags.pop("comparison")
        shown = Shown(one.info.run_name, comparison, one.info.run_id, {**one.data.params, **tags})
        shown.has_finished = one.info.status == "FINISHED"
        for name in one.data.metrics:
            history = [(metric.step, metric.value) for metric in client.get_metric_history(one.info.run_id, name)]
            plain = name.replace("_at_", "@")
            if name.startswith(("test/", "best/", "cost/")):
                shown.summary[plain] = history[-1][1]
            else:
                shown.values[plain] = sorted(history)
        found.append(shown)
    return found


def shown_by_wandb(here: Path) -> list[Shown]:
    import wandb

    wandb.teardown()  # its process writes the last records when it ends
    found: dict[str, Shown] = {}
    for file in sorted(here.glob("wandb/offline-run-*/*.wandb")):
        for record in wandb_records(file.read_bytes()):
            if record.HasField("run"):
                settings = {part.key: json.loads(part.value_json) for part in record.run.config.update}
                shown = found.setdefault(
                    record.run.run_id,
                    Shown(record.run.display_name, record.run.run_group, record.run.run_id, texts(settings)),
                )
                assert record.run.project == "recbole"
            items = {"/".join(part.nested_key) or part.key: part.value_json for part in record.history.item}
            for name in items.keys() - {"epoch"}:
                if not name.startswith("_"):
                    shown.values[name].append((int(items["epoch"]), float(items[name])))
            for part in record.summary.update:
                if part.key.startswith(("test/", "best/", "cost/")):
                    shown.summary[part.key] = float(part.value_json)
            if record.HasField("exit"):
                shown.has_finished = record.exit.exit_code == 0
    return list(found.values())


def wandb_records(data: bytes) -> list[Any]:
    """The records of W&B's file of a run: blocks of 32 KiB as in LevelDB, in which each part has a header."""
    from wandb.proto.wandb_internal_pb2 import Record

    records, whole, position = [], b"", 7
    while position + 7 <= len(data):
        if (left := 32768 - position % 32768) < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        whole += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # the whole record, or its last part
            records.append(Record.FromString(whole))
            whole = b""
    return records


SHOWN_BY = {"tensorboard": shown_by_tensorboard, "wandb": shown_by_wandb, "mlflow": shown_by_mlflow}


def texts(values: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


@pytest.fixture
def given(settings, here, monkeypatch):
    """Settings of quick runs, and trackers that write to this test's folder alone."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (here / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a SQLite file takes ten seconds to make
    return settings | {"text_encoder": "hashing", "epochs": 3}


@pytest.fixture
def stop_in(monkeypatch):
    """Interrupt runs in the training or the validation of an epoch, once it is reported; without one, stop doing so."""
    original = TrainingMonitor.__init__

    def stop(kind=None, epoch=None):
        def init(self, trainer, title, config, report):
            def report_and_stop(values, number):
                report(values, number)
                if number == epoch and any(name.startswith(kind) for name in values):
                    raise KeyboardInterrupt

            original(self, trainer, title, config, report_and_stop)

        monkeypatch.setattr(TrainingMonitor, "__init__", init)

    return stop


# --- what is written


@pytest.mark.slow
@pytest.mark.parametrize("tracker", SHOWN_BY)
def test_every_model_has_a_run_with_its_losses_metrics_and_result(given, here, tracker):
    NEEDS[tracker]()
    results = run(ROWS, "cycle", config_dict={**given, "tracking": [tracker]}, table=here / "mine.json", seeds=2)
    shown = {one.name: one for one in SHOWN_BY[tracker](here)}
    assert sorted(shown) == sorted(f"{row.name}, seed {seed}" for row in ROWS for seed in (2020, 2021))
    assert len({one.id for one in shown.values()}) == len(results)
    for result in results:
        one = shown[f"{result.variant}, seed {result.seed}"]
        assert (one.comparison, one.has_finished) == ("mine", True)
        assert set(result.tracked) == {tracker}
        for name, losses in result.losses.items():
            assert one.values[f"train/{name}"] == approx(enumerate(losses, 1)), name
        assert ("train/loss" in one.values) == bool(result.losses)
        assert one.values["valid/ndcg@3"] == approx(result.valid_scores)
        for name in ("recall@3", "ndcg@3", "seconds"):
            assert [epoch for epoch, _ in one.values[f"valid/{name}"]] == list(range(1, result.epochs + 1)), name
        assert one.summary == {name: pytest.approx(value, rel=1e-6) for name, value in summary(result).items()}
        assert {name.removeprefix("test/") for name in one.summary if "@" in name and "test" in name} == {*result.test}
        recorded = {name: one.settings[name] for name in ("variant", "model", "seed", "dataset", "data/hash", "commit")}
        assert recorded == texts(
            {name: getattr(result, name) for name in ("variant", "model", "seed", "dataset")}
            | {"data/hash": result.data_card["hash"], "commit": result.environment_info["commit"]}
        )
        assert one.settings["environment/torch"] == result.environment_info["torch"]
        assert one.settings["epochs"] == "3"
        assert not {"data_path", "checkpoint_dir", "tracking"} & one.settings.keys()
    ours = shown["ours, two losses, seed 2020"]
    assert [rate for _, rate in ours.values["learning_rate"]] == pytest.approx([0.002, 0.001, 0.0], abs=1e-6)
    assert ours.settings["hidden_size"] == "16"
    assert [value for _, value in ours.values["train/loss"]] == pytest.approx(
        [sum(parts) for parts in zip(*results[0].losses.values(), strict=True)], rel=1e-6
    )
    assert [rate for _, rate in shown["BPR, seed 2020"].values["learning_rate"]] == pytest.approx([0.001] * 3)
    assert "learning_rate" not in shown["RepeatLast, seed 2020"].values  # it has no optimizer


def approx(pairs):
    return [(epoch, pytest.approx(value, rel=1e-6, abs=1e-9)) for epoch, value in pairs]


def summary(result):
    """The values of a whole run, without those that are unknown."""
    values = {f"test/{name}": value for name, value in result.test.items()} | {
        "test/events": result.test_events,
        "best/ndcg@3": result.best_valid,
        "cost/epochs": result.epochs,
        "cost/seconds per epoch": result.seconds_per_epoch,
        "cost/CPU seconds per epoch": result.cpu_seconds_per_epoch,
        "cost/seconds to best": result.seconds_to_best,
        "cost/peak MiB": result.peak_memory_mb,
        "cost/parameters": result.parameters,
    }
    return {name: value for name, value in values.items() if value is not None}


def test_tensorboard_is_on_by_default_beside_the_log_and_off_without_trackers(given, here):
    (result,) = run(["Pop"], "cycle", config_dict=given)
    assert result.tracked == {"tensorboard": result.log.removesuffix(".log")}
    (without,) = run(["Pop"], "cycle", config_dict={**given, "tracking": []})
    assert without.tracked == {}
    assert not Path(without.log).with_suffix("").exists()
    assert without.test == result.test
    (one,) = shown_by_tensorboard(here)
    assert re.fullmatch(r"cycle-\w+-\d+-\d+_[\d-]+", one.comparison)  # no table names it


@pytest.mark.parametrize("tracker", SHOWN_BY)
def test_a_checkpoint_that_is_evaluated_has_a_run_with_the_result(given, here, tracker):
    NEEDS[tracker]()
    (trained,) = run(["BPR"], "cycle", config_dict={**given, "tracking": []})
    (tested,) = run(["BPR"], "cycle", config_dict={**given, "tracking": [tracker]}, checkpoint=trained.checkpoint)
    (one,) = SHOWN_BY[tracker](here)
    assert one.values == {}
    assert one.summary == {name: pytest.approx(value, rel=1e-6) for name, value in summary(tested).items()}
    assert one.has_finished


def test_wandb_is_asked_for_as_in_recbole(given, here):
    wandb = pytest.importorskip("wandb")
    given |= {"log_wandb": True, "wandb_project": "recbole"}
    (result,) = run(["Pop"], "cycle", config_dict=given)
    assert list(result.tracked) == ["tensorboard", "wandb"]
    (one,) = shown_by_wandb(here)
    assert result.tracked["wandb"] == str(next(Path("wandb").glob(f"offline-run-*-{one.id}")))
    assert wandb.run is None  # RecBole's logger would leave its run open for the next model
    # with and without, it is the same run of a table
    known = run(["Pop"], "cycle", config_dict={**given, "log_wandb": False}, known=[result])
    assert known == [result]


# --- resumed and failed runs


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["train/", "valid/"])
@pytest.mark.parametrize("tracker", SHOWN_BY)
def test_resumed_run_goes_on_in_the_same_run_of_the_tracker(given, here, stop_in, tracker, kind):
    NEEDS[tracker]()
    given |= {"tracking": [tracker]}
    stop_in(kind, 2)
    with pytest.raises(KeyboardInterrupt):
        run(["LLMInterest"], "cycle", config_dict=given)
    (first,) = SHOWN_BY[tracker](here)
    assert tracker == "tensorboard" or not first.has_finished
    (state,) = (here / "saved").glob("*.resume.safetensors")
    stop_in()
    checkpoint = str(state).replace(".resume.safetensors", ".safetensors")
    (result,) = run(["LLMInterest"], "cycle", config_dict=given, resume=checkpoint)
    (one,) = SHOWN_BY[tracker](here)
    assert (one.id, one.name, one.comparison, one.has_finished) == (first.id, first.name, first.comparison, True)
    for name, losses in result.losses.items():
        # W&B offline keeps what the interrupted epoch had written; its charts show one point for both
        values = one.values[f"train/{name}"]
        assert (sorted(set(values)) if tracker == "wandb" else values) == approx(enumerate(losses, 1)), name
    scores = one.values["valid/ndcg@3"]
    assert (sorted(set(scores)) if tracker == "wandb" else scores) == approx(result.valid_scores)
    assert one.summary["test/ndcg@3"] == pytest.approx(result.test["ndcg@3"])


def test_resumed_run_that_was_not_tracked_says_that_it_begins_in_the_middle(given, here, stop_in, caplog):
    stop_in("train/", 3)
    with pytest.raises(KeyboardInterrupt):
        run(["LLMInterest"], "cycle", config_dict={**given, "tracking": []}, table=here / "mine.json")
    stop_in()
    with seen(caplog):
        run(["LLMInterest"], "cycle", config_dict=given, table=here / "mine.json")
    assert messages(caplog) == [
        "tensorboard: the interrupted part of LLMInterest, seed 2020 is not there: a new run has the epochs from 3 on"
    ]
    (one,) = shown_by_tensorboard(here)
    assert [epoch for epoch, _ in one.values["train/loss"]] == [3]


@pytest.mark.parametrize("name", ["../../elsewhere", "..", "elsewhere", "", None, 7])
def test_resume_state_cannot_name_a_folder_of_events(given, here, stop_in, name):
    stop_in("train/", 2)
    with pytest.raises(KeyboardInterrupt):
        run(["BPR"], "cycle", config_dict=given, table=here / "mine.json")
    (path,) = (here / "saved").glob("*.resume.safetensors")
    (here / "elsewhere").mkdir()
    state = dict(read_resume_state(path))
    state["progress"] = {**state["progress"], "tracking": {"comparison": "mine", "runs": {"tensorboard": name}}}
    write_state(path, state)
    stop_in()
    (result,) = run(["BPR"], "cycle", config_dict=given, table=here / "mine.json")
    assert result.tracked["tensorboard"] == result.log.removesuffix(".log")
    for events in here.rglob("events.out.tfevents.*"):
        assert re.fullmatch(r"log/BPR/BPR-cycle-.+", events.parent.relative_to(here).as_posix())


@pytest.mark.slow
@pytest.mark.parametrize("tracker", ["wandb", "mlflow"])
def test_run_that_diverges_is_shown_as_failed(given, here, tracker):
    NEEDS[tracker]()
    with pytest.raises(DivergedError):
        run(["GRU4Rec"], "cycle", config_dict={**given, "learning_rate": 1e30, "tracking": [tracker]})
    (one,) = SHOWN_BY[tracker](here)
    assert not one.has_finished


class Broken(TensorBoardTracker):
    """A tracker from outside the package, whose server goes away at a moment, and how its runs ended."""

    moment = ""
    ends: ClassVar[list[str]] = []

    def __init__(self, run, former):
        self.fail("start")
        super().__init__(run, former)

    def fail(self, moment):
        if moment == self.moment:
            raise ConnectionError("the server\nis gone")

    def log(self, values, epoch):
        if epoch == 2:
            self.fail("epoch")
        super().log(values, epoch)

    def summarize(self, values, epochs):
        self.fail("result")
        super().summarize(values, epochs)

    def close(self, status):
        super().close(status)
        self.ends.append(status)
        self.fail("end")


@contextmanager
def seen(caplog):
    """Let caplog see what trackers log in runs, which replace the root logger's handlers."""
    logger = logging.getLogger("recbole_llm_interest.training.tracking")
    logger.addHandler(caplog.handler)
    try:
        yield
    finally:
        logger.removeHandler(caplog.handler)


def messages(caplog):
    """The warnings, without those of settings that the quick runs share and that one of the models does not have."""
    shown = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return [message for message in shown if "no such setting" not in message]


@pytest.fixture
def ends(monkeypatch):
    """How runs of the tracker ``broken`` ended."""
    monkeypatch.setitem(TRACKERS._members, "broken", Broken)
    monkeypatch.setattr(Broken, "ends", [])
    return Broken.ends


@pytest.mark.parametrize(
    ("moment", "status"), [("start", []), ("epoch", ["failed"]), ("result", ["failed"]), ("end", ["finished"])]
)
def test_tracker_that_fails_costs_one_warning_and_not_the_run(given, here, caplog, monkeypatch, ends, moment, status):
    monkeypatch.setattr(Broken, "moment", moment)
    (expected,) = run(["BPR"], "cycle", config_dict={**given, "tracking": []})
    with seen(caplog):
        (result,) = run(["BPR"], "cycle", config_dict={**given, "tracking": ["broken", "tensorboard"]})
    assert messages(caplog) == ["broken stopped: ConnectionError: the server is gone; the run goes on without it"]
    assert (result.test, result.losses, result.epochs) == (expected.test, expected.losses, 3)
    assert result.tracked["tensorboard"] == result.log.removesuffix(".log")
    assert ends == status


def test_mlflow_run_whose_settings_cannot_be_written_does_not_look_as_if_it_went_on(given, here, monkeypatch):
    NEEDS["mlflow"]()
    from mlflow.tracking import MlflowClient

    def fail(*_, **__):
        raise ConnectionError("the server is gone")

    monkeypatch.setattr(MlflowClient, "log_batch", fail)
    (result,) = run(["Pop"], "cycle", config_dict={**given, "tracking": ["mlflow"]})
    assert result.tracked == {}
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    (experiment,) = [one for one in client.search_experiments() if one.name == "cycle"]
    assert [one.info.status for one in client.search_runs([experiment.experiment_id])] == ["FAILED"]


def test_trial_that_diverges_is_shown_as_failed(given, ends):
    overrides = {**given, "tracking": ["broken"], "train_neg_sample_args": None}
    for rate, status in ((1e30, "failed"), (0.001, "finished")):
        config = configure("GRU4Rec", "cycle", overrides={**overrides, "learning_rate": rate})
        curve = validation_curve(config, "a trial")
        assert (curve.best is None) == (status == "failed")
        assert ends.pop() == status


@pytest.mark.parametrize("is_there", [True, False])
def test_wandb_run_that_its_server_lacks_is_known_to_begin_in_the_middle(given, here, monkeypatch, is_there):
    """A server is asked by ``wandb.init``; here, an offline run stands for the one that it answers with."""
    wandb = pytest.importorskip("wandb")
    started = wandb.init

    class Online:
        offline, resumed, url = False, is_there, "https://wandb.invalid/run"

        def __init__(self, **options):
            self._run = started(**options)

        def __getattr__(self, name):
            return getattr(self._run, name)

    monkeypatch.setattr(wandb, "init", Online)
    described = TrackedRun("GRU4Rec, seed 1", "mine", "recbole", {}, {}, here / "a.log", epochs=2)
    tracker = TRACKERS["wandb"](described, "former")
    assert tracker.is_continued == is_there
    tracker.close("finished")
    wandb.teardown()


@pytest.mark.slow
def test_mlflow_server_that_does_not_answer_does_not_cost_the_run(given, here, caplog, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # no server listens there
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with seen(caplog):
        (result,) = run(["Pop"], "cycle", config_dict={**given, "tracking": ["mlflow"]})
    assert result.test
    (message,) = messages(caplog)
    assert re.match(r"mlflow stopped: .*127\.0\.0\.1.*; the run goes on without it$", message)


# --- what is missing is said at the start


def test_unknown_tracker_is_an_error_with_a_suggestion(given):
    with pytest.raises(
        SettingsError, match=r"tracking=\['wanb'\] .*did you mean 'wandb'\? known are tensorboard, wandb"
    ):
        run(["Pop"], "cycle", config_dict={**given, "tracking": ["wanb"]})


@pytest.mark.parametrize(
    ("option", "package", "named"),
    [("--log_wandb=True", "wandb", "wandb"), ("--tracking=['wandb']", "wandb", "wandb"),
     ("--tracking=['tensorboard','mlflow']", "mlflow", "mlflow"), ("--tracking=['mlflow']", "sqlalchemy", "mlflow")],
)  # fmt: skip
def test_missing_package_is_one_line_before_anything_is_read(given, here, monkeypatch, capsys, option, package, named):
    if package == "sqlalchemy":
        NEEDS["mlflow"]()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    assert main(["--model=Pop,LLMInterest", "--dataset=cycle", f"--data_path={here / 'data'}", option]) == 2
    assert re.fullmatch(
        rf"error: tracking by {named} .*needs the package {package}: pip install 'recbole_llm_interest\[tracking\]'\n",
        capsys.readouterr().err,
    )
    assert not [path for path in (here / "log", here / "saved") if path.exists()]  # no run began, nothing is encoded


@pytest.mark.slow
def test_missing_login_is_one_line_and_asks_for_nothing(given, here):
    pytest.importorskip("wandb")
    hidden = {"WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = ["recbole_llm_interest", "--model=Pop", "--dataset=cycle", "--data_path=data", "--log_wandb=True"]
    done = subprocess.run(  # W&B reads its environment once in a process
        [sys.executable, "-m", *command], cwd=here,
        env={**environment, "HOME": str(here), "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert re.fullmatch(r"error: tracking by wandb needs a login for \S+: run `wandb login` once, or .*\n", done.stderr)
    assert not [path for path in (here / "log", here / "saved", here / "wandb") if path.exists()]


# --- files and settings


def test_checkpoint_cannot_ask_for_trackers():
    assert portable_settings({"tracking": ["wandb"], "log_wandb": True, "hidden_size": 8}) == {"hidden_size": 8}


def test_command_names_where_runs_are_shown(given, here, capsys):
    options = [f"--{name}={value}" for name, value in given.items()]
    assert main(["--model=Pop", "--dataset=cycle", *options, "--table=mine"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("logs and TensorBoard: log/Pop")
    (result,) = read_results(here / "mine.json")
    assert result.tracked == {"tensorboard": result.log.removesuffix(".log")}
