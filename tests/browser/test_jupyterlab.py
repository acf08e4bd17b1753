"""Every notebook as a learner meets it: in JupyterLab, in a browser, with mouse and keyboard."""

import course
import pytest
from playwright.sync_api import expect

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
        expected = {explorer.frame(**p): explorer.sentence(**p) for p in explorer.positions()}
        seen = set()
        for move in _moves(panel, explorer):
            move()
            frame = _frame_at(explorer, panel.position())
            assert panel.sentence() == expected[frame]
            assert expected[frame] in panel.picture_label()
            seen.add(frame)
        assert len(seen) >= 3, f"{explorer.title}: the sliders moved nothing"
    assert notebook.problems == []


def _moves(panel, explorer):
    """The mouse to both ends of each slider, then arrow keys, then the list."""
    yield panel.wait_until_settled
    for i, control in enumerate(explorer.controls):
        yield lambda i=i: panel.drag(i, 1.0)
        yield lambda i=i: panel.drag(i, 0.0)
        yield lambda i=i: panel.press(i, "ArrowRight")
        yield lambda i=i, c=control: panel.choose(i, c.text(c.positions[-1]))


def _frame_at(explorer, position: dict[str, str]) -> str:
    """The frame that Python draws for a position as the page names it."""
    chosen = {
        control.name: next(p for p in control.positions if control.text(p) == position[control.name])
        for control in explorer.controls
    }
    return explorer.frame(**chosen)


@pytest.mark.parametrize("name", LESSONS)
def test_a_wrong_answer_earns_a_hint_and_a_right_one_a_green_line(open_notebook, name):
    exercise = course.exercises_in(name)[0]
    notebook = open_notebook(name)
    notebook.run_all()
    cell = notebook.cell_with(f'@ql.exercise("{exercise}")')
    task = course.exercises.get(exercise)
    arguments = ", ".join(course.inspect.signature(task.reference).parameters)
    stub = f'@ql.exercise("{exercise}")\ndef {task.reference.__name__}({arguments}):\n    return 12345'
    assert f"✗ {exercise}: not right yet" in notebook.type_and_run(cell, stub)
    expect(cell.locator("[data-kind=hint]")).to_be_visible()
    assert f"✓ {exercise}: passed" in notebook.type_and_run(cell, course.solution(exercise))
    expect(cell.locator("[data-kind=good]")).to_be_visible()
    assert notebook.cell_errors() == []
