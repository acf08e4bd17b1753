"""The exercises of the course: `@ql.exercise(name)` checks a learner's function as its cell runs.

Each exercise is a module of this package with an `EXERCISE`. The module, the exercise and the function that the
learner writes have one name.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable

from IPython.display import Code, display

from ..messages import Message
from ..record import note_pass
from ..validation import positive_number
from .base import Exercise, Report

_attempts: dict[str, int] = {}  # how often each exercise was tried in this session, stubs not counted
_hints_given: dict[str, int] = {}
_latest: dict[str, Callable] = {}  # what the learner wrote last, right or wrong


def names() -> list[str]:
    """The names of all exercises, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")


def get(name: str) -> Exercise:
    """Return the exercise called `name`; ValueError lists the names that there are."""
    if name not in names():
        raise ValueError(f"there is no exercise {name!r}; the exercises are: {', '.join(names())}")
    return importlib.import_module(f".{name}", __name__).EXERCISE


def exercise(name: str) -> Callable:
    """Decorate a learner's function: check it at once, and lend the reference until it passes.

    Shows a green line if the function passes; else the hint that belongs to its mistake, with an example in
    numbers. Then the reference is returned in its place, so that the cells below work either way.
    """
    task = get(name)

    def check(function: Callable) -> Callable:
        report = task.check(function)
        if report.state != "not started":
            _attempts[name] = _attempts.get(name, 0) + 1
        display(_as_message(task, report))
        if function is not task.reference:
            _latest[name] = function
            if report.state == "passed":
                note_pass(name)
        return function if report.state == "passed" else task.reference

    return check


def grade(name: str, function: Callable, points: float = 1) -> float:
    """Check `function`, what the notebook uses for the exercise `name`, and return what it earns of the `points`.

    Where that is the lent reference, the learner's own last version counts. A right one earns all points; one that
    is right on some of the examples earns that share of them, rounded down to a tenth. For nbgrader.
    """
    task, points = get(name), positive_number(points, "points")
    written = _latest.get(name) if function is task.reference else function
    report = task.check(written) if written else Report("not started", len(task.all_cases()))
    earned = points if report.state == "passed" else math.floor(10 * points * report.right / report.tried) / 10
    kind = {"passed": "good", "failed": "hint"}.get(report.state, "note")
    display(
        Message(kind, f"{name}: {earned:g} of {points:g} points.", (f"{report.right} of {report.tried} examples.",))
    )
    return earned


def hint(name: str) -> None:
    """Show the next hint on the ladder of the exercise `name`; the last one stays."""
    task = get(name)
    step = min(_hints_given.get(name, 0), len(task.hints) - 1)
    _hints_given[name] = step + 1
    display(Message("note", f"Hint {step + 1} of {len(task.hints)}: {name}", (task.hints[step],)))


def show_solution(name: str) -> None:
    """Show the reference solution of the exercise `name`, once the learner has tried it."""
    task = get(name)
    if not _attempts.get(name):
        more = f'`ql.hint("{name}")` gives a first step.'
        display(Message("note", "Try it first: run a version of your own, right or wrong.", (more,)))
    else:
        display(Code(inspect.getsource(task.reference), language="python"))


def _as_message(task: Exercise, report: Report) -> Message:
    if report.state == "passed":
        again = "Run the cells below again: they now use your function."
        return Message(
            "good", f"{task.name}: passed on all {report.tried} examples.", (f"Checked: {task.checked}.", again)
        )
    help_line = f'More help: `ql.hint("{task.name}")`.'
    if report.state == "not started":
        borrowed = "Until yours passes, the cells below use the reference solution."
        return Message("note", f"{task.name}: not started yet.", (borrowed, help_line))
    lines = (*([report.hint] if report.hint else []), *report.example)
    after = f'{help_line} The solution: `ql.show_solution("{task.name}")`. The cells below use the reference.'
    return Message("hint", f"{task.name}: not right yet.", (*lines, after))
