"""What a learner has passed: noted once, shown, exported, and never in the way of a notebook."""

import csv
import getpass
import json
import os
import stat
import sys

import course
import pytest

import quantlab_helpers as ql
from quantlab_helpers import exercises, local_files, record


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTLAB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(record, "_problems_told", set())
    return tmp_path / "home"


def _solve(name):
    """Write the exercise's reference as a learner would: as a function of their own."""
    reference = exercises.get(name).reference
    return ql.exercise(name)(lambda *arguments: reference(*arguments))


def _row(notebook):
    return next(row for row in ql.progress().rows if row[0] == notebook)


def test_each_exercise_is_recorded_under_the_notebook_that_holds_it():
    held = {name: tuple(course.exercises_in(name)) for name in course.NAMES}
    assert {name: found for name, found in held.items() if found} == record.NOTEBOOKS


def test_a_pass_is_noted_with_its_time_and_shown(home):
    assert _row("05_per_channel")[1:] == ["0 of 4", "", "per_channel, per_group, cosine_similarity, your_tensor"]
    _solve("per_group")
    _, passed, last, left = _row("05_per_channel")
    assert (passed, left) == ("1 of 4", "per_channel, cosine_similarity, your_tensor")
    assert len(last) == len("2026-01-31 12:30")
    assert ql.progress().caption == f"1 of {len(exercises.names())} exercises passed"
    assert [path.name for path in home.iterdir()] == ["progress.json"]


def test_the_first_pass_stays(home):
    _solve("sqnr")
    written = (home / "progress.json").read_bytes(), (home / "progress.json").stat().st_mtime_ns
    _solve("sqnr")
    assert ((home / "progress.json").read_bytes(), (home / "progress.json").stat().st_mtime_ns) == written


def test_a_pass_that_another_notebook_notes_in_between_keeps_its_time(home, monkeypatch):
    update, first = local_files.update_json, {"sqnr": "2026-01-31T12:30:00+01:00"}

    def after_another(name, change, is_valid):
        update(name, lambda passed: {**passed, **first}, is_valid)
        return update(name, change, is_valid)

    monkeypatch.setattr(local_files, "update_json", after_another)
    _solve("sqnr")
    assert local_files.read_json("progress.json") == first


def test_stubs_wrong_answers_and_the_lent_reference_are_no_passes(home):
    ql.exercise("sqnr")(lambda x, restored: None)
    ql.exercise("sqnr")(lambda x, restored: 3.0)
    ql.exercise("sqnr")(exercises.get("sqnr").reference)
    assert not home.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a user's data folder private by itself")
def test_only_its_owner_can_read_it(home):
    _solve("sqnr")
    assert stat.S_IMODE((home / "progress.json").stat().st_mode) == 0o600


def test_what_is_said_of_an_exercise_does_not_change(home, capsys):
    _solve("sqnr")
    first = capsys.readouterr().out
    _solve("sqnr")
    assert capsys.readouterr().out == first


def test_a_folder_that_cannot_be_written_is_mentioned_once_and_stops_nothing(home, capsys):
    home.write_text("a file in its place")
    for name in ("sqnr", "sqnr", "per_group"):
        assert _solve(name) is not exercises.get(name).reference
    out = capsys.readouterr().out
    assert out.count("not noted") == 1
    assert "set QUANTLAB_HOME to a folder of yours" in out


def test_any_other_problem_stops_nothing_either(home, monkeypatch, capsys):
    def no_home():
        raise RuntimeError("Could not determine home directory")

    monkeypatch.setattr(local_files, "home", no_home)
    _solve("sqnr")
    assert "Could not determine home directory" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["{", "[]", '{"sqnr": 3}', '{"sqnr": "yesterday"}', '{"sqnr": "2026-01-31"}'])
def test_a_damaged_file_is_set_aside(home, content, capsys):
    home.mkdir()
    (home / "progress.json").write_text(content)
    assert ql.progress().caption.startswith("0 of")
    assert "was damaged" in capsys.readouterr().out
    _solve("sqnr")
    assert _row("03_bit_width_sweep")[1] == "1 of 2"


def test_a_pass_of_an_exercise_that_this_version_does_not_have_is_kept(home):
    local_files.update_json("progress.json", lambda _: {"of_the_future": "2026-01-31T12:30:00+01:00"})
    _solve("sqnr")
    assert ql.progress().caption.startswith("1 of")
    assert "of_the_future" in json.loads((home / "progress.json").read_text())


def test_export_for_the_instructor(home, tmp_path):
    _solve("sqnr")
    as_csv = ql.export_progress(tmp_path / "ada.csv", learner="Ada Łovelace")
    as_json = ql.export_progress(str(tmp_path / "ada.json"), learner="Ada Łovelace")
    with open(as_csv, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == json.loads(as_json.read_text(encoding="utf-8"))
    assert [row["exercise"] for row in rows if row["passed"]] == ["sqnr"]
    assert {row["learner"] for row in rows} == {"Ada Łovelace"}
    assert [row["exercise"] for row in rows] == [name for names in record.NOTEBOOKS.values() for name in names]


def _learner(path, **options):
    """Who the one learner of an export is."""
    (learner,) = {row["learner"] for row in json.loads(ql.export_progress(path, **options).read_text(encoding="utf-8"))}
    return learner


def test_an_export_bears_the_name_of_the_account_unless_another_is_given(home, tmp_path, monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    assert _learner(tmp_path / "account.json") == "ada"
    assert _learner(tmp_path / "given.json", learner="Grace") == "Grace"
    assert _learner(tmp_path / "nobody.json", learner="") == ""


@pytest.mark.parametrize("error", [KeyError("uid not found"), ModuleNotFoundError("pwd"), OSError("no username")])
def test_an_export_from_an_account_without_a_name_bears_none(home, tmp_path, monkeypatch, error):
    def nobody():
        raise error

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert _learner(tmp_path / "progress.json") == ""


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_an_export_is_never_written_over_a_file(home, tmp_path, ending):
    path = tmp_path / f"mine.{ending}"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"is there already: choose another name"):
        ql.export_progress(path)
    assert path.read_text() == "precious"


def test_an_export_under_another_ending_is_refused(home, tmp_path):
    with pytest.raises(ValueError, match=r"path must end in \.csv or \.json, not 'mine\.xlsx'"):
        ql.export_progress(tmp_path / "mine.xlsx")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", [None, 5, b"mine.csv", ["mine.csv"]])
def test_an_export_to_what_is_no_name_is_refused(home, path):
    with pytest.raises(TypeError, match=r"path must be the name of a file that ends in \.csv or \.json, not ") as told:
        ql.export_progress(path)
    assert str(told.value).endswith(repr(path))


def test_an_export_names_the_folder_that_is_missing(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as told:
        ql.export_progress("class/ada.csv")
    assert f"path must lie in a folder that is there, but there is no {tmp_path / 'class'}" == str(told.value)
    assert os.listdir(tmp_path) == []


def test_an_export_can_go_to_ones_home(home, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # Windows' name for it
    assert ql.export_progress("~/ada.csv") == tmp_path / "ada.csv"
    assert (tmp_path / "ada.csv").exists()
