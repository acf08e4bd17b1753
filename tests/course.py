"""The notebooks as the tests see them: their cells, their explorers, and a copy with every exercise solved."""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib.util
import inspect
import io
import re
from pathlib import Path

import nbformat
from IPython.core.interactiveshell import InteractiveShell

from quantlab_helpers import exercises
from quantlab_helpers.explorers import Explorer

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]

_EXERCISE = re.compile(r'^@ql\.exercise\("(\w+)"\)', re.MULTILINE)


def tool(name: str):
    """The program tools/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(name, FOLDER.parent / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name: str):
    """The notebook called `name` (without the ending)."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def text_of(cell) -> str:
    """What a code cell shows, as plain text."""
    outputs = cell.get("outputs", [])
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


def stored_text(name: str) -> str:
    """Everything that the stored outputs of a notebook show, as plain text."""
    return "\n".join(text_of(cell) for cell in read(name).cells)


def exercise_in(cell) -> str | None:
    """The name of the exercise that a code cell holds, if it holds one."""
    found = _EXERCISE.search(cell.source) if cell.cell_type == "code" else None
    return found and found.group(1)


def exercises_in(name: str) -> list[str]:
    return [exercise for cell in read(name).cells if (exercise := exercise_in(cell))]


def solution(exercise: str) -> str:
    """The cell that a learner types to solve `exercise`: its reference under the decorator."""
    return f'@ql.exercise("{exercise}")\n{inspect.getsource(exercises.get(exercise).reference)}'


def solved(name: str):
    """The notebook with every exercise solved."""
    notebook = copy.deepcopy(read(name))
    for cell in notebook.cells:
        if exercise := exercise_in(cell):
            cell.source = solution(exercise)
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
