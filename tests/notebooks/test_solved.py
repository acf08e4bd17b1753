"""Each notebook with every exercise solved: nothing breaks and every check is green."""

import course
import pytest
from nbclient import NotebookClient


@pytest.mark.parametrize("name", course.NAMES)
def test_solved_notebook_is_green_throughout(name):
    notebook = course.solved(name)
    where = {"metadata": {"path": str(course.FOLDER)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where).execute()  # raises on an error
    for cell in notebook.cells:
        if exercise := course.exercise_in(cell):
            assert f"✓ {exercise}: passed" in course.text_of(cell)


@pytest.mark.parametrize("name", course.NAMES)
def test_shipped_notebook_has_nothing_filled_in(name):
    for cell in course.read(name).cells:
        if exercise := course.exercise_in(cell):
            assert f"○ {exercise}: not started yet" in course.text_of(cell)
