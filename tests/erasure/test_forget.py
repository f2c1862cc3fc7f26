"""``forget``: what it does with each kind of file, and that files of other data sets do not change."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import REPOSITORY, write_dataset

from recbole_llm_interest import recommend_all
from recbole_llm_interest.cli.forget import main
from recbole_llm_interest.io.files import shared_data_set_lock
from recbole_llm_interest.io.manifest import MANIFEST, read, record_run
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.recommender import recommend_all as recommend_all_module
from recbole_llm_interest.recommender.catalog import Catalog
from recbole_llm_interest.recommender.embeddings import write_embeddings
from recbole_llm_interest.recommender.interests import InterestMap

EVENTS = [(user, item, float(n)) for n, user in enumerate(("u1", "u10", "u2")) for item in ("i1", "i2", "i10")]


@pytest.fixture(autouse=True)
def _own_index(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture
def forget(here, capsys):
    """Runs the command on a data set; returns its exit code and the printed lines."""

    def run(dataset, *words, data_path="data"):
        settings = ["--modalities=['text']", "--text_encoder=hashing", f"--data_path={here / data_path}"]
        capsys.readouterr()
        code = main([f"--dataset={dataset}", *settings, *words])
        printed = capsys.readouterr()
        return code, (printed.out + printed.err).splitlines()

    return run


def made(kind, dataset, path, content=b"made", data_path="data", checkpoint_dir="saved"):
    """Write a recorded file, as a run does."""
    config = {
        "dataset": dataset,
        "data_path": f"{data_path}/{dataset}",
        "checkpoint_dir": checkpoint_dir,
        "model": "Pop",
    }
    record_run(config, kind, [Path(path)])
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return Path(path)


def content(folder, lines, kind="users"):
    (folder / "content").mkdir(exist_ok=True)
    path = folder / "content" / f"{kind}.jsonl"
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("name", ["my[1]", "m*", "Pop", "[!a]"])
def test_data_set_names_are_not_glob_patterns(here, forget, name):
    write_dataset(here / "data", name, EVENTS)
    code, lines = forget(name, "--user=u1")
    assert code == 0
    path = here / "data" / name / f"{name}.inter"
    assert f"rewritten: {path}" in lines
    assert [line.split("\t")[0] for line in path.read_text().splitlines()[1:]] == ["u10"] * 3 + ["u2"] * 3


def test_files_of_splits_are_rewritten(here, forget):
    write_dataset(here / "data", "split", EVENTS)
    for part in ("train", "test"):
        write_dataset(here / "made", "part", EVENTS)
        (here / "made" / "part" / "part.inter").rename(here / "data" / "split" / f"split.{part}.inter")
        (here / "made" / "part").rmdir()
    assert forget("split", "--user=u1")[0] == 0
    for part in ("", ".train", ".test"):
        assert "u1\t" not in (here / "data" / "split" / f"split{part}.inter").read_text()


def test_data_sets_with_similar_names_do_not_change(here, forget):
    for name in ("Pop", "ml", "ml-1m"):
        write_dataset(here / "data", name, EVENTS)
    write_dataset(here / "elsewhere", "ml", EVENTS)
    others = [
        made("checkpoint", "ml", "saved/Pop-Nov-1.pth"),
        made("checkpoint", "ml-1m", "saved/ml-1m-Nov-1.pth"),
        made("saved data set", "ml-1m", "saved/ml-1m-Dataset.pth", "u1"),
        made("log", "ml-1m", "log/LLMInterest-ml-1m.log", "no text ('u1')\n"),
        made("log", "ml", "log/LLMInterest-ml.log", "no text ('u1')\n", data_path="elsewhere"),
        here / "elsewhere" / "ml" / "ml.inter",
    ]
    own = made("checkpoint", "Pop", "saved/LLMInterest-Nov-1.pth")
    log = made("log", "ml", "log/own.log", "no text ('u1')\nno text ('u10', '')\n")
    before = {path: path.read_bytes() for path in others}
    assert forget("Pop", "--user=u1", "--checkpoints")[0] == 0
    assert not own.exists()
    assert forget("ml", "--user=u1")[0] == 3  # ml's model is left
    assert log.read_text() == "no text ('u10', '')\n"
    assert {path: path.read_bytes() for path in others} == before


def test_empty_id_is_refused(here, forget):
    write_dataset(here / "data", "mine", EVENTS)
    log = made("log", "mine", "log/own.log", "encoding=''\n")
    for option in ("--user=", "--item="):
        code, lines = forget("mine", option)
        assert code == 2
        assert lines == [f"error: command line: {option.rstrip('=')} is empty: give an id"]
    assert log.read_text() == "encoding=''\n"


def test_data_set_of_the_recbole_installation_is_refused(here, forget):
    code, lines = forget("ml-100k", "--user=nobody")
    assert code == 2
    assert lines[-1].startswith("error: ml-100k is part of the RecBole installation")


def test_all_rows_of_a_user_are_removed_with_their_images(here, forget):
    write_dataset(here / "data", "mine", EVENTS)
    folder = here / "data" / "mine"
    rows = [{"user_id": user, "image_file_name": f"{user}-{n}.png"} for n in (1, 2) for user in ("u1", "u10")]
    path = content(folder, [*rows, {"user_id": "u2", "image_file_name": "u10-2.png"}])
    for row in rows:
        (folder / "content" / row["image_file_name"]).write_bytes(b"picture")
    code, _ = forget("mine", "--user=u1")
    assert code == 0
    assert sorted(it.name for it in path.parent.glob("*.png")) == ["u10-1.png", "u10-2.png"]
    assert 'u1"' not in path.read_text()
    code, lines = forget("mine", "--user=u10")
    assert code == 3
    assert f"left: {path.parent / 'u10-2.png'}: is also used by another row: give that row its own file" in lines
    assert not (path.parent / "u10-1.png").exists()


def test_content_of_events_is_removed_with_its_images(here, forget):
    """Ids of users are those of items, too: a row of somebody else is no remainder."""
    events = [(user, item, time) for time, (user, item) in enumerate([("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")])]
    write_dataset(here / "data", "mine", events)
    folder = here / "data" / "mine"
    rows = [{"user_id": user, "item_id": item, "timestamp": time, "note": "hm"} for user, item, time in events]
    path = content(folder, [{**row, "image_file_name": f"{n}.png"} for n, row in enumerate(rows)], "events")
    for n in range(4):
        (folder / "content" / f"{n}.png").write_bytes(b"picture")
    code, lines = forget("mine", "--user=1")
    assert code == 0, lines
    assert [json.loads(line)["user_id"] for line in path.read_text().splitlines()] == ["2", "2"]
    assert sorted(it.name for it in path.parent.glob("*.png")) == ["2.png", "3.png"]


@pytest.mark.parametrize(("token", "shown"), [("i2", ["i1", "i2"]), ("2", [1, 2]), ("i2", ["i2"])])
def test_items_that_were_shown_beside_others_are_reported(here, forget, token, shown):
    write_dataset(here / "data", "mine", [("u1", "i1", 1.0), ("u1", token, 2.0), ("u2", "i1", 3.0)])
    rows = [{"user_id": "u2", "item_id": "i1", "timestamp": 3.0, "note": f"not {token}", "shown": shown}]
    path = content(here / "data" / "mine", rows, "events")
    code, lines = forget("mine", f"--item={token}")
    assert f"left: {path}: contains the id in lists of other events: write the file again without it" in lines
    assert code == 3


def test_images_named_by_interactions_are_removed(here, forget):
    write_dataset(here / "data", "mine", EVENTS)
    path = here / "data" / "mine" / "mine.inter"
    header, *lines = path.read_text().splitlines()
    named = [f"{line}\t{line.split()[0]}.png" for line in lines]
    path.write_text("\n".join([f"{header}\timage_file_name:token", *named]) + "\n")
    pictures = here / "data" / "mine" / "content"
    pictures.mkdir()
    for user in ("u1", "u2", "u10"):
        (pictures / f"{user}.png").write_bytes(b"picture")
    assert forget("mine", "--user=u1")[0] == 0
    assert sorted(it.name for it in pictures.glob("*.png")) == ["u10.png", "u2.png"]


@pytest.mark.parametrize(
    ("token", "written"),
    [
        ("u1", '{"user_id": "u1", "bio": "half\n'),
        ("u1", '{"bio": 1,, "user_id" : "u\\u0031"}\n'),
        ("7", '{"user_id": 7, "bio": "half\n'),
        ('q"t\\', '{"user_id": "q\\"t\\\\", "bio"\n'),
        ("ü", '{"user_id": "\\u00FC", "bio"\n'),
        ("\U0001d54f", '{"user_id": "\\ud835\\udd4f", \n'),
    ],
)
def test_malformed_lines_with_the_id_are_removed(here, forget, token, written):
    write_dataset(here / "data", "mine", [*EVENTS, (token, "i1", 1.0)])
    others = ['{"user_id": "u10", "bio": "half\n', '{"user_id": 71, "bio"\n', '{"user_id": "u10", "bio": "7, u1, ü"}\n']
    path = content(here / "data" / "mine", [others[0], written, *others[1:]])
    code, lines = forget("mine", f"--user={token}")
    assert code == 0, lines
    assert path.read_text() == "".join(others)


def test_unknown_id_is_reported(here, forget):
    write_dataset(here / "data", "mine", EVENTS)
    before = (here / "data" / "mine" / "mine.inter").read_bytes()
    assert forget("mine", "--user=u3") == (
        0,
        ["unknown: user 'u3' is in no file of the data set 'mine'", "nothing is stored about them"],
    )
    assert forget("mine", "--user=u1\ti1")[1][0] == "unknown: user 'u1\\ti1' is in no file of the data set 'mine'"
    assert (here / "data" / "mine" / "mine.inter").read_bytes() == before


def test_refused_while_a_training_runs(here, forget):
    write_dataset(here / "data", "mine", EVENTS)
    before = (here / "data" / "mine" / "mine.inter").read_bytes()
    with shared_data_set_lock(here / "data" / "mine"):
        code, lines = forget("mine", "--user=u1")
    assert (code, len(lines)) == (2, 1)
    assert "is in use by a training or another command" in lines[0]
    assert (here / "data" / "mine" / "mine.inter").read_bytes() == before


def test_results_and_models_are_left_with_a_reason_or_deleted_on_request(here, forget):
    write_dataset(here / "data", "mine", EVENTS)
    results = [made(kind, "mine", f"results/{kind}.json") for kind in ("table", "tuning")]
    report = [made("report", "mine", f"results/report/{name}", "nobody") for name in ("report.html", "map.png")]
    models = [made(kind, "mine", f"saved/{kind}") for kind in ("checkpoint", "resume state")]
    models.append(made("export", "mine", "model/programs/score.pt2"))
    mine = here / "model" / "programs" / "own.txt"
    mine.write_text("somebody's")
    code, lines = forget("mine", "--user=u1")
    assert code == 3
    for path in (*results, *report, *models):
        (line,) = (line for line in lines if line.startswith(f"left: {path.absolute()}: "))
        assert "give --results to delete it" in line or "give --checkpoints to delete it" in line
    code, lines = forget("mine", "--user=u1", "--results", "--checkpoints")
    assert code == 0
    assert not [path for path in (*results, *report, *models) if path.exists()]
    assert mine.exists()
    assert read(Path("saved") / MANIFEST) == []


@pytest.mark.parametrize(
    ("option", "page", "is_named"),
    [
        ("--user=u1", "<h2>The interest of user u1 over time</h2>", True),
        ("--user=u1", "<h2>The interest of user u10 over time</h2> 'u1.5'", False),
        ("--user=a'<b>&", "<h2>The interest of user a&#39;&lt;b&gt;&amp; over time</h2>", True),
        ("--item=i1", '<img src="data:image/svg+xml;base64,PCEtLSBpMSAtLT4=">', True),  # <!-- i1 -->
        ("--item=i1", "<td>i10</td>", False),
        ("--item=i1", "<td>i1</td>", True),
        ("--item=i1", '<th scope="row">i1</th>', True),
        ("--item=i1", '<td class="long">+0.41 i2; -0.20 i1; +0.10 i3</td>', True),
        ("--item=i1", "<td>+0.41 i10; i1 text</td>", False),
    ],
)
def test_report_that_shows_the_id_is_deleted(here, forget, option, page, is_named):
    write_dataset(here / "data", "mine", EVENTS)
    report = made("report", "mine", "saved/report-1/report.html", page)
    picture = made("report", "mine", "saved/report-1/interest.png")
    other = made("report", "mine", "saved/report-2/report.html", "nobody")
    code, _ = forget("mine", option)
    assert (report.exists(), picture.exists(), other.exists()) == (not is_named, not is_named, True)
    assert code == 3


def test_report_that_names_an_interest_by_a_long_id_is_deleted(here, forget):
    urls = [f"https://films.example/catalogue/2026/by-title/{n:02}.html" for n in range(8)]
    names = InterestMap(Catalog(["", *urls], torch.cat([torch.zeros(1, 8), torch.eye(8)]))).names
    assert {url for name in names for url in name.split(" / ")} <= set(urls)
    named = names[0].split(" / ")[-1]
    write_dataset(here / "data", "mine", [*EVENTS, ("u1", named, 1.0)])
    report = made("report", "mine", "saved/report-1/report.html", f"<td>{names[0]}</td>")
    assert forget("mine", f"--item={named}")[0] == 0
    assert not report.exists()


def test_unreadable_state_is_left(here, forget):
    write_dataset(here / "data", "mine", EVENTS)
    path = made("user state", "mine", "states/one", b"spoilt")
    code, lines = forget("mine", "--user=u1")
    assert code == 3
    assert f"left: {path.absolute()}: is not a readable user state: delete it if it is theirs" in lines


@pytest.mark.parametrize("option", ["--user=u1", "--item=i1"])
def test_recommendations_and_embeddings_are_deleted(here, forget, tiny_model, option):
    write_dataset(here / "data", "mine", EVENTS)
    data = here / "data" / "mine"
    source = replace(tiny_model.source, path=here / "saved" / "model.safetensors", dataset="mine", data_path=data)
    recommender = Recommender(replace(tiny_model, source=source))
    path = recommend_all(recommender, here / "elsewhere" / "best.parquet", k=3)
    assert {"u1"} <= set(pd.read_parquet(path)["user"])
    paths = [path, *write_embeddings(recommender, here / "elsewhere")]
    code, lines = forget("mine", option)
    assert (code, [path.exists() for path in paths]) == (0, [False] * 3)
    assert {f"deleted: {path}" for path in paths} <= set(lines)


def test_parts_of_unfinished_recommendations_are_deleted(here, forget, tiny_model, monkeypatch):
    write_dataset(here / "data", "mine", EVENTS)
    source = replace(tiny_model.source, path=here / "saved" / "model", dataset="mine", data_path=here / "data" / "mine")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(recommend_all_module, "write_atomically", interrupt)  # when the parts are joined
    with pytest.raises(KeyboardInterrupt):
        recommend_all(Recommender(replace(tiny_model, source=source)), here / "best.csv", k=3)
    folder = here / ".best.csv.parts"
    (part,) = folder.iterdir()
    assert "u1,1," in part.read_text()
    code, lines = forget("mine", "--user=u1")
    assert (code, folder.exists()) == (0, False)
    assert f"deleted: {part}" in lines


def test_unrecorded_files_are_left_unchanged(here, forget):
    write_dataset(here / "data", "mine", EVENTS)
    model, note = here / "saved" / "mine-old.pth", here / "saved" / "note.txt"
    model.parent.mkdir()
    model.write_bytes(b"weights")
    note.write_text('{"user": "u1"}')
    log = here / "log" / "old.log"
    log.parent.mkdir()
    log.write_text("no text ('u1')\n")
    code, lines = forget("mine", "--user=u1", "--checkpoints")
    assert code == 3
    assert "left: saved/mine-old.pth: is not in a manifest: delete it if it was made from this data set" in lines
    for path in ("saved/note.txt", "log/old.log"):
        assert f"left: {path}: still contains the id: remove it there, or delete the file" in lines
    assert (model.read_bytes(), log.read_text()) == (b"weights", "no text ('u1')\n")


def test_downloaded_manifest_is_used_only_inside_its_folder(here, forget, monkeypatch, tmp_path_factory):
    write_dataset(here / "data", "mine", EVENTS)
    outside, inside = made("checkpoint", "mine", "precious"), made("checkpoint", "mine", "saved/model.pth")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("another-user")))
    forget("mine", "--user=u1", "--checkpoints")
    assert (outside.exists(), inside.exists()) == (True, False)


def test_files_of_a_moved_data_set_are_left(here, forget):
    write_dataset(here / "data", "mine", EVENTS)
    model = made("checkpoint", "mine", "saved/model.pth", data_path="before")
    code, lines = forget("mine", "--user=u1", "--checkpoints")
    assert code == 3
    assert (
        f"left: {model.absolute()}: was made from a data set 'mine' in {here / 'before' / 'mine'}, which does not exist"
        in " ".join(lines)
    )


def test_features_that_two_data_sets_share_are_left(here, forget):
    for place in ("data", "elsewhere"):
        write_dataset(here / place, "mine", EVENTS)
        made("features", "mine", "cache/mine/text-0/shard.safetensors", data_path=place)
        record_run(
            {"dataset": "mine", "data_path": f"{place}/mine", "checkpoint_dir": "saved", "model": ""}, "features",
            [Path("cache/mine")],
        )  # fmt: skip
    code, lines = forget("mine", "--user=u1", f"--feature_cache={here / 'cache'}")
    assert code == 3
    assert (
        f"left: {here / 'cache' / 'mine'}: was also made from another data set: delete it if it is not needed" in lines
    )
    assert (here / "cache" / "mine" / "text-0" / "shard.safetensors").read_bytes() == b"made"


def test_interrupted_deletion_is_continued(here, forget, monkeypatch):
    write_dataset(here / "data", "mine", EVENTS)
    files = [made("saved data set", "mine", f"saved/mine-{n}.pth") for n in range(3)]
    original, count = Path.unlink, []

    def unlink(path, *arguments, **named):
        if path.suffix == ".pth":
            count.append(path)
            if len(count) == 2:
                raise KeyboardInterrupt
        original(path, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        assert forget("mine", "--user=u1")[0] == 130
    assert [path.exists() for path in files] == [False, True, True]
    code, lines = forget("mine", "--user=u1")
    assert code == 0
    assert "unknown: user 'u1' is in no file of the data set 'mine'" in lines  # its events went first
    assert not any(path.exists() for path in files)
    assert read(Path("saved") / MANIFEST) == []


def test_ids_in_lists_and_malformed_rows_are_left(here, forget):
    write_dataset(here / "data", "mine", EVENTS)
    lists = here / "data" / "mine" / "mine.lists"
    lists.write_text("session:token\titem_id_list:token_seq\ns\ti10 i1\n")
    table = here / "data" / "mine" / "mine.inter"
    table.write_text(table.read_text() + "u2\tu1\ti2\t5\n")
    assert (
        f"left: {lists}: contains the id in lists of the column item_id_list: create the file again without it"
        in forget("mine", "--item=i1")[1]
    )
    (line,) = (line for line in forget("mine", "--user=u1")[1] if line.startswith("left"))
    assert line.startswith(f"left: {table}: contains the id in a line with too many or too few columns")


@pytest.mark.slow
def test_random_histories(here, monkeypatch):
    """Forty of the thousand that ``benchmarks/forget.py`` runs."""
    spec = importlib.util.spec_from_file_location("forget_benchmark", REPOSITORY / "benchmarks" / "forget.py")
    benchmark = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "forget_benchmark", benchmark)
    spec.loader.exec_module(benchmark)
    faults = {seed: findings for seed, findings in benchmark.histories(40) if findings.unreported or findings.foreign}
    assert faults == {}
    assert os.getcwd() == str(here)


def test_file_behind_a_link_is_left(here, forget):
    write_dataset(here / "data", "mine", EVENTS)
    events, saved = here / "data" / "mine" / "mine.inter", made("saved data set", "mine", "saved/mine-data.pth")
    for path in (events, saved.absolute()):
        raw = here / "raw" / path.name
        raw.parent.mkdir(exist_ok=True)
        path.rename(raw)
        path.symlink_to(raw)
    code, lines = forget("mine", "--user=u1")
    assert code == 3
    assert {line.partition(" is what ")[0] for line in lines if line.startswith("left: ")} == {
        f"left: {here / 'raw' / name}:" for name in ("mine.inter", "mine-data.pth")
    }
    assert b"u1\t" in (here / "raw" / "mine.inter").read_bytes()
