"""The notebooks as the tests see them: their cells, their explorers, and a copy with every exercise solved."""

from __future__ import annotations

import ast
import contextlib
import io

from IPython.core.interactiveshell import InteractiveShell
from lessons import FOLDER, NAMES, exercise_in, read, solved_source, text_of
from lessons import NOTEBOOKS as NOTEBOOKS

from quantlab_helpers.explorers import Explorer


def stored_text(name: str) -> str:
    """Everything that the stored outputs of a notebook show, as plain text."""
    return "\n".join(text_of(cell) for cell in read(name).cells)


def exercises_in(name: str) -> list[str]:
    return [exercise for cell in read(name).cells if (exercise := exercise_in(cell))]


def solution(exercise: str) -> str:
    """The cell that a learner types to solve `exercise`: its stub, with the reference's code."""
    return next(
        solved_source(cell.source) for name in NAMES for cell in read(name).cells if exercise_in(cell) == exercise
    )


def solved(name: str):
    """The notebook with every exercise solved."""
    notebook = read(name)
    for cell in notebook.cells:
        if exercise_in(cell):
            cell.source = solved_source(cell.source)
    return notebook


def explorers_in(name: str) -> list[Explorer]:
    """The explorers that the notebook shows, made by its own cells, run in this process from the top."""
    namespace: dict = {"display": lambda *_: None}
    found = []
    with contextlib.chdir(FOLDER), contextlib.redirect_stdout(io.StringIO()):
        for cell in read(name).cells:
            if cell.cell_type == "code":
                value = _run(InteractiveShell.instance().transform_cell(cell.source), namespace)
                if isinstance(value, Explorer):
                    found.append(value)
    return found


def _run(source: str, namespace: dict):
    """Run a cell; return the value of its last line if that is an expression."""
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "<cell>", "exec"), namespace)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace) if last else None
