"""Notebooks are handed out once, and files are written whole."""

import json

import pytest
from start_server import hand_out
from whole_files import replacing


@pytest.fixture
def notebooks(tmp_path):
    folder = tmp_path / "course"
    (folder / "images").mkdir(parents=True)
    (folder / ".ipynb_checkpoints").mkdir()
    for name in ("01.ipynb", "02.ipynb", "images/a.png", ".ipynb_checkpoints/01-checkpoint.ipynb"):
        (folder / name).write_text(f"the course's {name}")
    return folder


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".handed_out.json")
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


def test_the_first_time_everything_comes(notebooks, tmp_path):
    hand_out(notebooks, tmp_path / "mine")
    assert files(tmp_path / "mine") == {
        name: f"the course's {name}" for name in ("01.ipynb", "02.ipynb", "images/a.png")
    }


def test_my_work_stays(notebooks, tmp_path):
    for _ in range(3):
        hand_out(notebooks, tmp_path / "mine")
        (tmp_path / "mine" / "01.ipynb").write_text("my work")
    assert files(tmp_path / "mine")["01.ipynb"] == "my work"
    assert len(files(tmp_path / "mine")) == 3


def test_files_that_were_there_before_stay(notebooks, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "01.ipynb").write_text("older than the course")
    hand_out(notebooks, tmp_path / "mine")
    assert files(tmp_path / "mine")["01.ipynb"] == "older than the course"


def test_a_new_version_comes_as_a_new_file(notebooks, tmp_path):
    hand_out(notebooks, tmp_path / "mine")
    for version in ("second", "third", "third", "second"):
        (notebooks / "01.ipynb").write_text(version)
        hand_out(notebooks, tmp_path / "mine")
    mine = files(tmp_path / "mine")
    assert len(mine) == 5
    assert mine["01.ipynb"] == "the course's 01.ipynb"
    assert mine["01 (version 2).ipynb"] == "second"
    assert mine["01 (version 3).ipynb"] == "third"


def test_a_deleted_file_comes_back(notebooks, tmp_path):
    hand_out(notebooks, tmp_path / "mine")
    (tmp_path / "mine" / "02.ipynb").unlink()
    hand_out(notebooks, tmp_path / "mine")
    assert "02.ipynb" in files(tmp_path / "mine")


@pytest.mark.parametrize("text", [True, False])
def test_until_all_is_written_the_old_file_stands(tmp_path, text):
    path = tmp_path / "work.ipynb"
    path.write_text("old")
    with replacing(path, text=text) as file:
        file.write("new" if text else b"new")
        file.flush()
        assert path.read_text() == "old"
    assert files(tmp_path) == {"work.ipynb": "new"}


def test_a_write_that_fails_changes_nothing(tmp_path):
    path = tmp_path / "work.ipynb"
    path.write_text("old")
    with pytest.raises(TypeError), replacing(path) as file:
        file.write("half of the new")
        json.dump(object(), file)
    assert files(tmp_path) == {"work.ipynb": "old"}


@pytest.mark.skipif("sys.platform == 'win32'")
def test_a_link_and_the_permissions_stay(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    with replacing(tmp_path / "link") as file:
        file.write("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640
