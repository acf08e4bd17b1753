"""Every notebook as a learner meets it: in JupyterLab, in a browser, with mouse and keyboard."""

import inspect

import course
import pytest
from playwright.sync_api import expect

from quantlab_helpers import exercises

LESSONS = [name for name in course.NAMES if course.exercises_in(name)]


@pytest.mark.parametrize("name", course.NAMES)
def test_run_all_then_drag(open_notebook, name):
    notebook = open_notebook(name)
    notebook.run_all()
    assert notebook.cell_errors() == []
    in_python = course.explorers_in(name)
    on_page = notebook.explorers()
    assert len(on_page) == len(in_python)
    for panel, explorer in zip(on_page, in_python, strict=True):
        panel.wait_until_settled()
        assert panel.cut_labels() == []
        _check_picture(panel, explorer)
        for i, control in enumerate(explorer.controls):
            _check_control(panel, explorer, i, [control.text(position) for position in control.positions])
    assert notebook.problems == []


def _check_control(panel, explorer, i, texts):
    """The mouse to both ends of slider `i`, an arrow key, then its list: each lands where it should."""
    moves = (
        (panel.drag, 1.0, texts[-1]),
        (panel.drag, 0.0, texts[0]),
        (panel.press, "ArrowRight", texts[1]),
        (panel.choose, texts[-1], texts[-1]),
    )
    for move, how, lands_on in moves:
        move(i, how)
        assert panel.read_outs()[i] == lands_on
        _check_picture(panel, explorer)


def _check_picture(panel, explorer):
    """The picture that is seen is the one that Python draws for this position, with its sentence."""
    chosen = {
        control.name: next(p for p in control.positions if control.text(p) == panel.position()[control.name])
        for control in explorer.controls
    }
    assert panel.sentence() == explorer.sentence(**chosen)


@pytest.mark.parametrize("name", LESSONS)
def test_a_wrong_answer_earns_a_hint_and_a_right_one_a_green_line(open_notebook, name):
    exercise = course.exercises_in(name)[0]
    notebook = open_notebook(name)
    notebook.run_all()
    cell = notebook.cell_with(f'@ql.exercise("{exercise}")')
    task = exercises.get(exercise)
    arguments = ", ".join(inspect.signature(task.reference).parameters)
    stub = f'@ql.exercise("{exercise}")\ndef {task.reference.__name__}({arguments}):\n    return 12345'
    assert f"✗ {exercise}: not right yet" in notebook.type_and_run(cell, stub)
    expect(cell.locator("[data-kind=hint]")).to_be_visible()
    assert f"✓ {exercise}: passed" in notebook.type_and_run(cell, course.solution(exercise))
    expect(cell.locator("[data-kind=good]")).to_be_visible()
    assert notebook.cell_errors() == []
