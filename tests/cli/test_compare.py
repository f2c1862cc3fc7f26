"""The command ``compare``: tables of comparable runs, and a one-line error for each mistake."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, cycle_events, write_dataset

from recbole_llm_interest.cli.compare import main
from recbole_llm_interest.io.variants import Variant
from recbole_llm_interest.training.comparison import run


@pytest.fixture
def words(settings):
    """The settings of a quick run as command line arguments."""
    return ["--dataset=cycle", *(f"--{key}={value}" for key, value in settings.items())]


@pytest.mark.slow
def test_comparison_is_printed_and_written(words, capsys):
    assert main(["--model=LLMInterest,GRU4Rec,FPMC,Pop", *words]) == 0
    out = capsys.readouterr().out
    rows = re.findall(r"^\| (\w+) +\|", out, re.MULTILINE)
    assert rows == 2 * ["model", "LLMInterest", "GRU4Rec", "FPMC", "Pop"]  # accuracy, and what lies beyond it
    assert "24 test events, the same for every row" in out
    markdown, data = (Path(word) for word in re.search(r"table: (\S+\.md), \S+\.tex, (\S+\.json)", out).groups())
    assert markdown.read_text().strip() in out
    results = json.loads(data.read_text())
    for result in results:
        assert Path(result["checkpoint"]).is_file()
        assert "test result" in Path(result["log"]).read_text()
        assert list(Path(result["log"]).with_suffix("").glob("events.out.tfevents.*"))
        assert result["epochs"] == (1 if result["model"] == "Pop" else 2)
        assert result["seconds_per_epoch"] > 0
    assert len({result["test_digest"] for result in results}) == 1


@pytest.mark.slow
def test_general_models_rank_seen_items(words, settings):
    """On the cycle every test item has been seen before: a general model that drops seen items would never hit."""
    (result,) = run(["Pop"], "cycle", config_dict={**settings, "topk": [8], "valid_metric": "NDCG@8"})
    assert result.test["recall@8"] == 1.0


def test_rows_on_different_candidates_are_called_incomparable(settings):
    from recbole_llm_interest.evaluation.table import as_table

    kinds = [Variant(kind, "Pop", {"seen_items": kind}) for kind in ("kept", "filtered")]
    table = as_table(run(kinds, "cycle", config_dict=settings))
    assert (
        "NOT tested on the same events (kept: 24 among all 8 items; filtered: 24 among all 8 items but those" in table
    )


@pytest.mark.slow
def test_line_below_the_table_describes_the_evaluation(settings):
    from recbole_llm_interest.evaluation.table import as_table

    sampled = {"split": {"LS": "test_only"}, "order": "TO", "mode": "uni2", "group_by": "user"}
    results = run(["GRU4Rec", "LLMInterest"], "cycle", config_dict={**settings, "eval_args": sampled})
    [line] = [line for line in as_table(results).splitlines() if line.startswith("cycle: ")]
    assert "each ranked among uni2 sampled items of 8" in line
    assert "validation" not in line


def test_finished_models_keep_their_row_when_a_later_one_fails(words, capsys, monkeypatch):
    from recbole_llm_interest.training.trainer import LLMInterestTrainer

    monkeypatch.setattr(LLMInterestTrainer, "fit", lambda *args, **kwargs: 1 / 0)
    monkeypatch.setattr("recbole_llm_interest.training.config.RECBOLE_ERRORS", (ZeroDivisionError,))
    assert main([*words, "--model=GRU4Rec,LLMInterest"]) == 2
    captured = capsys.readouterr()
    assert "| GRU4Rec" in captured.out
    log = Path(re.search(r"the traceback is in (\S+)\)", captured.err).group(1))
    assert "Traceback" in log.read_text()
    assert "Traceback" not in captured.err


def test_columns_may_have_other_names(settings, here):
    path = here / "data" / "cycle" / "cycle.inter"
    path.write_text(path.read_text().replace("item_id:", "movie:").replace("timestamp:", "when:"))
    (here / "data" / "cycle" / "cycle.item").unlink()
    names = {"ITEM_ID_FIELD": "movie", "TIME_FIELD": "when"}
    assert len(run(["LLMInterest", "GRU4Rec"], "cycle", config_dict={**settings, **names})) == 2


@pytest.mark.slow
def test_second_run_encodes_nothing(words, monkeypatch):
    assert main(words) == 0
    from recbole_llm_interest.content.encoders.text import TextEncoder

    monkeypatch.setattr(TextEncoder, "encode", lambda *args: pytest.fail("encoded again"))
    assert main(words) == 0


@pytest.mark.slow
def test_checkpoint_is_evaluated_without_training(settings):
    (trained,) = run(["LLMInterest"], "cycle", config_dict=settings)
    (loaded,) = run(["LLMInterest"], "cycle", config_dict=settings, checkpoint=trained.checkpoint)
    assert loaded.test == trained.test
    assert loaded.epochs == 0


@pytest.mark.slow
@pytest.mark.parametrize("model", ["LLMInterest", "GRU4Rec", "Pop"])
def test_checkpoint_is_evaluated_by_metrics_that_count_training_events(settings, model):
    metrics = ["Recall", "RecallFew", "RecallMany", "RecallShort", "ItemCoverage", "AveragePopularity", "GiniIndex"]
    counted = {**settings, "metrics": metrics, "valid_metric": "Recall@3"}
    (trained,) = run([model], "cycle", config_dict=counted)
    (loaded,) = run([model], "cycle", config_dict=counted, checkpoint=trained.checkpoint)
    assert loaded.test == trained.test
    assert {"recallmany@3", "itemcoverage@3", "averagepopularity@3"} <= set(loaded.test)


def mistakes():
    yield ["--model=LLMintrest"], "unknown model 'LLMintrest': did you mean 'LLMInterest'?"
    yield ["--model=gru4rec"], "unknown model 'gru4rec': did you mean 'GRU4Rec'?"
    yield ["--dataset=no-such-data"], "data set 'no-such-data': there is no folder"
    yield ["--item_text_fields=[titel]"], "item_text_fields names 'titel'"
    yield ["--item_text_fields=[titel]"], "did you mean 'title'?"
    yield ["--temprature=0.1"], "unknown setting 'temprature': did you mean 'temperature'?"
    yield ["--model=GRU4Rec", "--embeding_size=8"], "unknown setting 'embeding_size': did you mean 'embedding_size'?"
    yield ["--temperature=-1"], "temperature=-1 is not a value of this setting"
    yield ["--text_encoder=nobody/such"], "no weights for the text encoder 'nobody/such'"
    yield ["-e", "5"], "'-e' is not understood; settings are written --key=value"
    yield ["--flag"], "'--flag' is not understood"
    yield ["epochs=5"], "'epochs=5' is not understood"
    yield ["--seed=1", "--seed=2"], "--seed is given twice"
    yield ["--model=GRU4Rec,LLMInterest", "--temperature=-1"], "temperature=-1"
    yield ["--topk=[5]", "--valid_metric=NDCG@3"], "valid_metric=NDCG@3 is not among what is computed"
    yield ["--topk=[50]", "--valid_metric=NDCG@50"], "topk=[50]: cycle has only 8 items"
    yield ["--checkpoint_dir=/proc/nope"], "/proc/nope"
    yield ["--feature_cache=/proc/nope"], "/proc/nope"
    yield ["--train_batch_size=0"], "train_batch_size=0"
    yield ["--model=FM"], "KeyError: 'label' (the traceback is in log/FM/"
    yield ["--save_dataset=True"], "save_dataset and dataset_save_path are not supported"
    yield ["--strict_content=True", "--modalities=[text]", "--user_text_fields=[zip]"], "user_text_fields names 'zip'"
    yield ["--nproc=0"], "nproc=0: it takes at least one process"
    yield ["--world_size=2"], "world_size cannot be set here: run_recbole.py --nproc=2"
    yield ["--config_files=missing.yaml"], "config file missing.yaml does not exist"
    yield ["--metrics=[Sparkle]"], "unknown metric 'Sparkle'"
    yield ["--checkpoint=missing.pth"], "checkpoint missing.pth does not exist"
    yield ["--resume=missing.pth"], "there is nothing to resume: missing.resume.safetensors does not exist"
    yield ["--resume=x.pth", "--model=GRU4Rec,Pop"], "several go on by the same --table"
    yield ["--checkpoint=x.pth", "--model=GRU4Rec,Pop"], "checkpoint is for one model and seed, not for 2"


@pytest.mark.parametrize(("mistake", "message"), mistakes())
def test_mistake_is_one_line_and_exit_2(words, capsys, mistake, message):
    kept = [word for word in words if word.split("=")[0] not in {m.split("=")[0] for m in mistake if "seed" not in m}]
    assert main([*kept, *mistake]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    error = captured.err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in captured.err


def spoilt_checkpoints():
    yield "other data", lambda path, here: write_dataset(here / "data", "other", cycle_events()), "of dataset 'cycle'"
    yield "truncated", lambda path, here: path.write_bytes(path.read_bytes()[:-50]), "is damaged"
    yield "garbage", lambda path, here: path.write_bytes(b"garbage"), "is damaged"


@pytest.mark.parametrize(("name", "spoil", "message"), spoilt_checkpoints(), ids=lambda value: str(value)[:20])
def test_wrong_checkpoint_is_one_line_and_exit_2(words, settings, here, capsys, name, spoil, message):
    (trained,) = run(["LLMInterest"], "cycle", config_dict=settings)
    spoil(Path(trained.checkpoint), here)
    dataset = "other" if name == "other data" else "cycle"
    assert main([*words, f"--dataset={dataset}", f"--checkpoint={trained.checkpoint}"]) == 2
    assert message in capsys.readouterr().err


def test_checkpoint_of_other_content_settings_is_refused(words, settings, capsys):
    (trained,) = run(["LLMInterest"], "cycle", config_dict={**settings, "feature_conditioning": "none"})
    assert main([*words, f"--checkpoint={trained.checkpoint}"]) == 2
    assert "feature_conditioning='none', now 'shrinkage'; give --feature_conditioning=none" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("control", ["shuffled", "random"])
def test_checkpoint_with_controlled_content_needs_its_seed(words, settings, capsys, control):
    """With another seed, items get other content than in training."""
    controlled = {**settings, "content_control": control}
    (trained,) = run(["LLMInterest"], "cycle", config_dict={**controlled, "seed": 7})
    command = [*words, f"--content_control={control}", f"--checkpoint={trained.checkpoint}"]
    assert main(command) == 2
    assert "seed=7, now 2020; give --seed=7" in capsys.readouterr().err
    assert main([*command, "--seed=7"]) == 0


@pytest.mark.slow
def test_checkpoint_without_controlled_content_fits_any_seed(settings):
    (trained,) = run(["LLMInterest"], "cycle", config_dict={**settings, "seed": 7})
    (loaded,) = run(["LLMInterest"], "cycle", config_dict=settings, checkpoint=trained.checkpoint)
    assert loaded.test == trained.test


@pytest.mark.slow
@pytest.mark.parametrize("model", ["LLMInterest", "GRU4Rec"])
def test_checkpoint_of_data_in_another_order_is_refused(words, settings, here, capsys, model):
    """RecBole numbers items in the order of the file."""
    (trained,) = run([model], "cycle", config_dict=settings)
    path = here / "data" / "cycle" / "cycle.inter"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(rows)]) + "\n")
    assert main([*words, f"--model={model}", f"--checkpoint={trained.checkpoint}"]) == 2
    assert "trained on other items, or on the same in another order" in capsys.readouterr().err


def test_checkpoint_of_other_settings_is_refused(words, settings, capsys):
    (trained,) = run(["LLMInterest"], "cycle", config_dict=settings)
    changed = [word for word in words if not word.startswith("--hidden_size")]
    assert main([*changed, "--hidden_size=9", f"--checkpoint={trained.checkpoint}"]) == 2
    assert "other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("user_id:token\titem_id:token", "no column 'timestamp'"),
        ("user_id:token\tmovie:token\ttimestamp:float", "no column 'item_id'"),
        ("user_id\titem_id\ttimestamp", "name each column with its type"),
    ],
)
def test_broken_interaction_file_is_one_line_and_exit_2(words, here, capsys, header, message):
    path = here / "data" / "cycle" / "cycle.inter"
    path.write_text("\n".join([header, *path.read_text().splitlines()[1:]]))
    for model in ("LLMInterest", "GRU4Rec", "Pop"):
        assert main([f"--model={model}", *words]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_interrupt_ends_in_one_line_and_leaves_the_checkpoint(words, settings, capsys, monkeypatch):
    from recbole_llm_interest.training.trainer import LLMInterestTrainer

    train_epoch = LLMInterestTrainer._train_epoch

    def interrupted(self, train_data, epoch_idx, **kwargs):
        if epoch_idx == 1:
            raise KeyboardInterrupt
        return train_epoch(self, train_data, epoch_idx, **kwargs)

    monkeypatch.setattr(LLMInterestTrainer, "_train_epoch", interrupted)
    assert main(words) == 130
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("interrupted: ")
    state, checkpoint = sorted(Path("saved").glob("*.safetensors"))
    assert state.name == f"{checkpoint.stem}.resume.safetensors"
    (loaded,) = run(["LLMInterest"], "cycle", config_dict=settings, checkpoint=str(checkpoint))
    assert loaded.test


def test_tilde_unsets_a_setting_as_in_yaml(words, here, capsys):
    (here / "mine.yaml").write_text("text_pooling: cls\nitem_text_fields: [nothing]\n")
    unset = ["--text_pooling=~", "--item_text_fields=~", "--text_max_length=~", "--encoder_device=~"]
    assert main(["--config_files=mine.yaml", *words, *unset]) == 0
    assert not (here / "~").exists()


@pytest.mark.slow
def test_script_runs_from_another_folder(here):
    script = str(REPOSITORY / "run_recbole.py")
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, cwd=here)
    assert done.returncode == 0
    assert "--key=value" in done.stdout
    done = subprocess.run([sys.executable, script, "--model=Nope9"], capture_output=True, text=True, cwd=here)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip().count("\n") == 0
