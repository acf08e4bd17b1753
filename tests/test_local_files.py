"""A learner's small files: where they are, that none is ever lost, and that nobody sees half of one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from quantlab_helpers import local_files


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTLAB_HOME", str(tmp_path / "my files"))
    return tmp_path / "my files"


def test_a_file_that_is_not_there_is_empty_and_nothing_is_made(home):
    assert local_files.read_json("scores.json") == {}
    assert not home.exists()


def test_what_is_written_is_read(home):
    local_files.update_json("scores.json", lambda content: {**content, "mine": ["é", 1.5]})
    written = local_files.update_json("scores.json", lambda content: {**content, "more": None})
    assert written == local_files.read_json("scores.json") == {"mine": ["é", 1.5], "more": None}
    assert [path.name for path in home.iterdir()] == ["scores.json"]


@pytest.mark.parametrize("content", [b"", b'{"mine": [1', b"[1, 2]", b"\xff\xfe", b'{"mine": 3}'])
def test_a_damaged_file_is_kept_aside_and_a_message_says_so(home, capsys, content):
    home.mkdir()
    for number in (1, 2):
        (home / "scores.json").write_bytes(content)
        local_files.update_json("scores.json", lambda content: {"mine": [1]}, lambda found: found["mine"] != 3)
        assert (home / f"scores.damaged-{number}.json").read_bytes() == content
        said = capsys.readouterr().out
        assert "was damaged" in said and f"scores.damaged-{number}.json" in said
        assert local_files.read_json("scores.json") == {"mine": [1]}
    assert capsys.readouterr().out == ""


def test_a_change_that_fails_leaves_the_file_as_it_was(home):
    local_files.update_json("scores.json", lambda content: {"mine": 1})
    for bad in (lambda content: 1 / 0, lambda content: {"not JSON": object()}):
        with pytest.raises((ZeroDivisionError, TypeError)):
            local_files.update_json("scores.json", bad)
    assert local_files.read_json("scores.json") == {"mine": 1}
    assert [path.name for path in home.iterdir()] == ["scores.json"]


def test_a_disk_that_is_full_leaves_the_file_as_it_was(home, monkeypatch):
    local_files.update_json("scores.json", lambda content: {"mine": 1})

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"cannot use .*my files \(disk full\): set QUANTLAB_HOME to a folder of yours"):
        local_files.update_json("scores.json", lambda content: {"mine": 2})
    assert local_files.read_json("scores.json") == {"mine": 1}
    assert [path.name for path in home.iterdir()] == ["scores.json"]


def test_a_folder_that_cannot_be(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("QUANTLAB_HOME", str(tmp_path / "file" / "home"))
    assert local_files.read_json("scores.json") == {}
    with pytest.raises(OSError, match="set QUANTLAB_HOME to a folder of yours"):
        local_files.update_json("scores.json", lambda content: {})


def test_several_processes_lose_nothing_of_one_another(home):
    program = """
from quantlab_helpers import local_files
for _ in range(20):
    local_files.update_json("scores.json", lambda content: {"count": content.get("count", 0) + 1})
"""
    running = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert local_files.read_json("scores.json") == {"count": 60}


def test_the_lock_of_one_that_was_killed_is_taken_over(home, monkeypatch):
    monkeypatch.setattr(local_files, "_PATIENCE", 0.1)
    home.mkdir()
    (home / "scores.json.lock").touch()
    local_files.update_json("scores.json", lambda content: {"mine": 1})
    assert json.loads((home / "scores.json").read_text()) == {"mine": 1}
    assert not (home / "scores.json.lock").exists()


@pytest.fixture
def refused(monkeypatch):
    """The moment of each attempt to make the lock; each is refused until `moments`, and no time really passes."""
    now, moments, really = [0.0], [], os.open

    def refuse(path, *arguments, **others):
        if Path(path).suffix != ".lock":
            return really(path, *arguments, **others)
        moments.append(now[0])
        if now[0] < refuse.until:
            raise PermissionError("not allowed")
        return really(path, *arguments, **others)

    def sleep(seconds):
        now[0] += seconds

    monkeypatch.setattr(local_files, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    monkeypatch.setattr(os, "open", refuse)
    refuse.until, refuse.moments = float("inf"), moments
    return refuse


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_folder_that_is_read_only_is_told_at_once(home, monkeypatch, refused, platform):
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(OSError, match=r"\(not allowed\): set QUANTLAB_HOME to a folder of yours"):
        local_files.update_json("scores.json", lambda content: {})
    assert refused.moments == [0]


def test_windows_refuses_a_lock_that_is_being_removed_so_there_it_is_tried_for_a_while(home, monkeypatch, refused):
    monkeypatch.setattr(sys, "platform", "win32")
    refused.until = local_files._PATIENCE / 2
    local_files.update_json("scores.json", lambda content: {"mine": 1})
    assert local_files.read_json("scores.json") == {"mine": 1}
    assert len(refused.moments) > 2


def test_on_windows_too_it_is_told_in_the_end(home, monkeypatch, refused):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(OSError, match=r"\(not allowed\): set QUANTLAB_HOME to a folder of yours"):
        local_files.update_json("scores.json", lambda content: {})
    assert local_files._PATIENCE < refused.moments[-1] < local_files._PATIENCE + 1


@pytest.mark.parametrize(
    ("platform", "environment", "home", "cache"),
    [
        ("linux", {}, "~/.local/share/quantlab", "~/.cache/quantlab"),
        ("linux", {"XDG_CACHE_HOME": "/c", "XDG_DATA_HOME": "/d"}, "/d/quantlab", "/c/quantlab"),
        ("darwin", {}, "~/Library/Application Support/quantlab", "~/Library/Caches/quantlab"),
        ("win32", {}, "~/AppData/Local/quantlab", "~/AppData/Local/quantlab"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/quantlab", "/local/quantlab"),
        ("linux", {"QUANTLAB_CACHE": "~/mine", "QUANTLAB_HOME": "~/ours"}, "~/ours", "~/mine"),
    ],
)
def test_the_folders_of_each_system(monkeypatch, platform, environment, home, cache):
    for name in ("QUANTLAB_CACHE", "QUANTLAB_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(local_files.sys, "platform", platform)
    assert local_files.home() == Path(home).expanduser()
    assert local_files.cache() == Path(cache).expanduser()


def test_tests_leave_the_files_of_whoever_runs_them_alone():
    assert "quantlab-tests-" in str(local_files.home())
