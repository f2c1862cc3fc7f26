"""Files of a folder are replaced together, whenever the process is killed."""

from __future__ import annotations

import pytest
from conftest import killed_while_replacing

from recbole_llm_interest.errors import StorageError
from recbole_llm_interest.io.folders import current_file, finish_replacing, replace_files

NAMES = ["config.json", "weights", "programs/score"]


def write(folder, content):
    with replace_files(folder) as new:
        for name in NAMES:
            (new / name).parent.mkdir(exist_ok=True)
            (new / name).write_text(content)


def seen(folder):
    """What a reader gets."""
    return {current_file(folder, name).read_text() for name in NAMES}


@pytest.mark.parametrize("moment", range(8))
def test_kill_leaves_the_old_files_or_the_new_ones(tmp_path, moment):
    write(tmp_path, "old")
    (tmp_path / "own").write_text("somebody's")
    with killed_while_replacing(moment) as calls:
        write(tmp_path, "new")
    assert len(calls) == moment + 1
    before = seen(tmp_path)
    assert before in ({"old"}, {"new"})
    finish_replacing(tmp_path)
    assert seen(tmp_path) == before
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {*NAMES, "own"}
    write(tmp_path, "newer")
    assert seen(tmp_path) == {"newer"}
    assert (tmp_path / "own").read_text() == "somebody's"


def test_error_while_writing_leaves_the_old_files(tmp_path):
    write(tmp_path, "old")

    def fail():
        with replace_files(tmp_path) as new:
            (new / "config.json").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen(tmp_path) == {"old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "programs", "weights"]


def test_one_process_writes_at_a_time(tmp_path):
    with replace_files(tmp_path), pytest.raises(StorageError, match="in use by another run"), replace_files(tmp_path):
        pass


@pytest.mark.parametrize("name", [".complete", ".incomplete"])
def test_files_behind_a_link_are_not_the_folders(tmp_path, name):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).symlink_to(tmp_path / "mine")
    finish_replacing(tmp_path / "folder")
    assert list((tmp_path / "folder").iterdir()) == []
    assert (tmp_path / "mine" / "letter").read_text() == "mine"
