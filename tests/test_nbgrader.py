"""A hand-out for nbgrader, used for real: release, submissions that are right and wrong, autograde, the gradebook.

nbgrader is nothing that learners need, so requirements.txt leaves it out: `pip install nbgrader` to run this.
"""

import csv
import os
import re
import shutil
import subprocess

import course
import lessons
import make_handout
import nbformat
import pytest

# CI names the program, so that it cannot be missing there unnoticed.
NBGRADER = os.environ.get("QUANTLAB_NBGRADER") or shutil.which("nbgrader")
ASSIGNMENT = "02_memory_savings"
FILE = f"{ASSIGNMENT}/{ASSIGNMENT}.ipynb"

pytestmark = pytest.mark.skipif(not NBGRADER, reason="nbgrader is not installed")

_NO_ZERO_POINTS = (
    "    return -(-num_weights * num_bits // 8) + scale_bytes * -(-num_weights // (group_size or num_weights))"
)


def _right(exercise, stub):
    return lessons.solved_source(stub)


def _one_with_a_mistake_and_one_that_stops(exercise, stub):
    code = {"memory_calculator": _NO_ZERO_POINTS, "int4_packing": "    return codes.no_such_thing"}
    return stub.replace(lessons.PLACEHOLDER, code[exercise])


def _no_python(exercise, stub):
    return stub.replace(lessons.PLACEHOLDER, "    retrun codes")


def _borrowed(exercise, stub):
    """The reference, which every learner has, under the learner's name."""
    return f"from quantlab_helpers.exercises.{exercise} import {exercise}\nql.exercise('{exercise}')({exercise})"


def _untouched(exercise, stub):
    return stub


STUDENTS = {
    "right": _right,
    "wrong": _one_with_a_mistake_and_one_that_stops,
    "no_python": _no_python,
    "borrowed": _borrowed,
    "untouched": _untouched,
}


def _run(folder, *arguments):
    environment = {**os.environ, "QUANTLAB_HOME": str(folder / "home of who grades")}
    run = subprocess.run([NBGRADER, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def _submit(folder, student, write):
    notebook = nbformat.read(folder / "release" / FILE, as_version=4)
    for cell in notebook.cells:
        if exercise := lessons.exercise_in(cell):
            cell.source = write(exercise, cell.source)
        elif cell.metadata.get("nbgrader", {}).get("locked") and student == "wrong":
            cell.source = "100"  # who grades themselves: the cell is put back
    _hand_in(folder, student, notebook)


def _hand_in(folder, student, notebook):
    path = folder / "submitted" / student / FILE
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A course folder in which one assignment was released, handed in and graded."""
    folder = tmp_path_factory.mktemp("classroom") / "course"
    make_handout.make_handout(folder, [ASSIGNMENT], nbgrader=True)
    _run(folder, "generate_assignment", ASSIGNMENT)
    for student, write in STUDENTS.items():
        _submit(folder, student, write)
    _hand_in(folder, "plain_hand_out", course.solved(ASSIGNMENT))
    _run(folder, "autograde", ASSIGNMENT)
    _run(folder, "export")
    return folder


def _points(folder, student):
    """What each exercise earned, as the graded notebook shows it, by its name."""
    notebook = nbformat.read(folder / "autograded" / student / FILE, as_version=4)
    names = course.exercises_in(ASSIGNMENT)
    cells = {cell.metadata.nbgrader["grade_id"]: cell for cell in notebook.cells if "nbgrader" in cell.metadata}
    outputs = {name: cells[f"{name}-points"].outputs[-1] for name in names}
    return {name: float(o.data["text/plain"]) if "data" in o else o.ename for name, o in outputs.items()}


def test_the_release_is_the_learners_notebook(folder):
    released = nbformat.read(folder / "release" / FILE, as_version=4)
    stubs = {lessons.exercise_in(cell): cell.source for cell in released.cells if lessons.exercise_in(cell)}
    ours = {lessons.exercise_in(cell): cell.source for cell in course.read(ASSIGNMENT).cells}
    assert stubs == {name: ours[name] for name in course.exercises_in(ASSIGNMENT)}
    assert lessons.ANSWER in [cell.source for cell in released.cells]
    assert not [cell for cell in released.cells if "SOLUTION" in cell.source or cell.get("outputs")]


def test_each_submission_earns_what_it_should(folder):
    assert _points(folder, "right") == {"int4_packing": 2.0, "memory_calculator": 1.0}
    wrong = _points(folder, "wrong")
    assert wrong["int4_packing"] == 0.0
    assert 0.0 < wrong["memory_calculator"] < 1.0
    assert _points(folder, "no_python") == {"int4_packing": "NameError", "memory_calculator": "NameError"}
    assert _points(folder, "untouched") == {"int4_packing": 0.0, "memory_calculator": 0.0}


def test_the_gradebook_has_the_scores(folder):
    with open(folder / "grades.csv", newline="") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {*STUDENTS, "plain_hand_out"}
    scores = {student: float(row["score"]) for student, row in rows.items()}
    assert scores["right"] == 3.0
    assert scores["wrong"] == _points(folder, "wrong")["memory_calculator"]
    assert scores["no_python"] == scores["borrowed"] == scores["untouched"] == 0.0
    assert scores["plain_hand_out"] == 0.0  # no marks, no points, as the folder's README says
    assert {float(row["max_score"]) for row in rows.values()} == {3.0 + 3}  # and three questions of the reflection


def test_the_commands_of_the_readme_are_there(folder):
    commands = re.findall(r"(?:^|`)nbgrader (\w+)", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    known = re.findall(r"^ *(\w+)$", _run(folder, "--help"), re.MULTILINE)  # it runs with a name of none, too
    assert len(commands) == 4
    assert set(commands) <= set(known)


def test_grading_leaves_the_progress_of_whoever_grades_alone(folder):
    assert not (folder / "home of who grades").exists()
